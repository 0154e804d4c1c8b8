# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: from_envoy_filter
short_description: Takes a filter from an EnvoyFilter as tutorials have it
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - An EnvoyFilter with one patch that inserts a Go filter before the router becomes an item of C(envoy_filters). Its
    C(library_path) is left out, since that is the O(extension)'s.
  - What of such an EnvoyFilter would be lost is an error.
positional: _input, extension
options:
  _input:
    description: The EnvoyFilter.
    type: dict
    required: true
  extension:
    description: The name of the extension that has the filter's code.
    type: str
    required: true
  workload_selector:
    description: The labels of the gateways that get it, which its own C(workloadSelector) has to fit.
    type: dict
    default: {istio: ingressgateway}
  name:
    description: What the filter is called. By default as the EnvoyFilter is.
    type: str
"""

EXAMPLES = r"""
- name: Show which filter that is
  ansible.builtin.debug:
    msg: "{{ tutorial | moe.gateway.from_envoy_filter('basic_auth') }}"
  vars:
    tutorial: "{{ lookup('ansible.builtin.file', 'basic-auth.yaml') | from_yaml }}"
"""

RETURN = r"""
_value:
  description: The filter, as C(envoy_filters) has it.
  type: dict
  contains:
    name:
      description: What it is called.
      type: str
    engine:
      description: V(golang).
      type: str
    extension:
      description: As given.
      type: str
    config:
      description: Its typed config.
      type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.module_utils import _envoy_filter
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

_SELECTOR = {"istio": "ingressgateway"}


def from_envoy_filter(
    value: dict[str, t.Any], extension: str, workload_selector: dict[str, str] | None = None, name: str | None = None
) -> dict[str, t.Any]:
    selector = _SELECTOR if workload_selector is None else workload_selector
    try:
        own_name, config = _envoy_filter.handwritten(value, "EnvoyFilter", selector)
    except Failure as failure:
        raise AnsibleFilterError(failure.message) from None
    return {"name": name or own_name, "engine": "golang", "extension": extension, "config": config}


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"from_envoy_filter": from_envoy_filter}
