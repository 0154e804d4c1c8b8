# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_table
short_description: The picture of a fleet as lines for a terminal
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - A line for each filter of each gateway, then a line for each thing that is wrong, then the summary.
positional: _input
options:
  _input:
    description: What P(moe.gateway.fleet_status#filter) returns.
    type: dict
    required: true
seealso:
  - plugin: moe.gateway.fleet_status
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the fleet
  ansible.builtin.debug:
    msg: "{{ gateways | moe.gateway.fleet_status | moe.gateway.fleet_table }}"
  vars:
    gateways: "{{ [{'name': inventory_hostname, 'look': looked}] }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._fleet import table


def fleet_table(picture: dict[str, t.Any]) -> list[str]:
    return table(picture)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"fleet_table": fleet_table}
