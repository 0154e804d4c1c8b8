# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_status
short_description: One picture of a fleet of gateways, and a verdict
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - Takes what P(moe.gateway.envoy_info#module) told of each gateway, or P(moe.gateway.istio_mounts#module) of one in
    Kubernetes, also where it failed or the host could not be reached.
positional: _input
options:
  _input:
    description:
      - A list of gateways, each with its C(name), its C(look), which is such a result, and
        perhaps C(envoy_version), the version that should run, C(filters),
        names of filters that listeners should name, and C(listens), whether there should be a listener.
    type: list
    elements: dict
    required: true
  warn_days:
    description: A credential that ends within that many days is about to expire.
    type: float
    default: 14
seealso:
  - plugin: moe.gateway.fleet_table
    plugin_type: filter
  - plugin: moe.gateway.fleet_page
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say how the fleet is
  ansible.builtin.debug:
    msg: "{{ (gateways | moe.gateway.fleet_status).summary }}"
  vars:
    gateways: "{{ [{'name': inventory_hostname, 'look': looked}] }}"
"""

RETURN = r"""
_value:
  description: The picture.
  type: dict
  contains:
    ok:
      description: Whether no gateway needs anybody.
      type: bool
    at:
      description: When it was taken, in UTC.
      type: str
    summary:
      description: One sentence.
      type: str
    counts:
      description: >-
        How many gateways are in each state. C(unreachable), C(unknown) (it can't be judged), C(down) (no Envoy
        answers), C(closed) (it refuses all traffic), C(drifted), C(expired), C(expiring), C(ok). Only the last two
        are no failure.
      type: dict
    failures:
      description: What is wrong, by the name of the gateway, for those that failed.
      type: dict
    hosts:
      description: All that is known of each gateway.
      type: list
      elements: dict
"""

import datetime
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.module_utils._fleet import Host, fleet


def fleet_status(hosts: object, warn_days: float = 14) -> dict[str, t.Any]:
    if not isinstance(hosts, list):
        raise AnsibleFilterError(f"fleet_status: found a {type(hosts).__name__}, expected a list of gateways.")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = [
        Host(
            item["name"],
            item["look"],
            item.get("envoy_version") or "",
            tuple(item.get("filters") or ()),
            item.get("listens", True),
            item.get("published") or {},
        )
        for item in hosts
    ]
    return fleet(found, now, float(warn_days))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"fleet_status": fleet_status}
