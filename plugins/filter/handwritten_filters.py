# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: handwritten_filters
short_description: Takes filters from EnvoyFilters as tutorials have them
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - An item that has C(envoy_filter), an EnvoyFilter with one patch that inserts a Go filter before the router, becomes
    one with C(name), C(engine) and C(config). Its C(library_path) is left out, since that is the C(extension)'s.
  - What of such an EnvoyFilter would be lost is an error. Other items stay as they are.
positional: _input, selector
options:
  _input:
    description: Filters, as C(istio_gateway_filters) has them.
    type: list
    elements: dict
    required: true
  selector:
    description: The labels of their gateways, which a C(workloadSelector) has to fit. By default it isn't looked at.
    type: dict
"""

EXAMPLES = r"""
- name: Show which filter that is
  ansible.builtin.debug:
    msg: "{{ filters | moe.gateway.handwritten_filters }}"
  vars:
    filters:
      - extension: basic_auth
        envoy_filter: "{{ lookup('ansible.builtin.file', 'basic-auth.yaml') | from_yaml }}"
"""

RETURN = r"""
_value:
  description: The filters, as C(envoy_filters) has them.
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.module_utils import _envoy_filter
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure


def handwritten_filters(
    filters: list[dict[str, t.Any]], selector: dict[str, str] | None = None
) -> list[dict[str, t.Any]]:
    found = []
    for index, item in enumerate(filters):
        if "envoy_filter" not in item:
            found.append(item)
            continue
        path = f"istio_gateway_filters[{index}].envoy_filter"
        try:
            name, config = _envoy_filter.handwritten(item["envoy_filter"], path, selector)
        except Failure as failure:
            raise AnsibleFilterError(failure.message) from None
        others = {key: value for key, value in item.items() if key != "envoy_filter"}
        found.append({"name": name, "engine": "golang", "config": config, **others})
    return found


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"handwritten_filters": handwritten_filters}
