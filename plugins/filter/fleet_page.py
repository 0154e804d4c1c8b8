# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_page
short_description: The picture of a fleet as one self-contained web page
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - Renders a Jinja2 template with what P(moe.gateway.fleet_status#filter) returns. Whatever gateways tell is escaped.
positional: _input, template
options:
  _input:
    description: What P(moe.gateway.fleet_status#filter) returns.
    type: dict
    required: true
  template:
    description: >-
      The path of the template on the controller. In it, C(fleet) is the picture and C(states) tells what each state
      means; the filters C(ago), C(duration) and C(short) are for times and versions.
    type: path
    required: true
seealso:
  - plugin: moe.gateway.fleet_status
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write a page
  ansible.builtin.copy:
    content: "{{ gateways | moe.gateway.fleet_status | moe.gateway.fleet_page(playbook_dir ~ '/status.html.j2') }}"
    dest: status.html
    mode: "0644"
  vars:
    gateways: "{{ [{'name': inventory_hostname, 'look': looked}] }}"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

import json
import typing as t

from ansible.errors import AnsibleFilterError
from jinja2 import Environment, StrictUndefined, TemplateError

from ansible_collections.moe.gateway.plugins.module_utils import _fleet


def fleet_page(picture: dict[str, t.Any], template: str) -> str:
    # Not Ansible's own templating: that escapes nothing, and takes seconds for some hundred gateways.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # Without Ansible's tags on each value.
    fleet = json.loads(json.dumps(picture))
    environment.filters["ago"] = lambda at: _fleet.ago(at, fleet["at"])
    environment.filters["duration"] = _fleet.duration
    environment.filters["short"] = _fleet.short
    try:
        with open(template, encoding="utf-8") as file:
            return environment.from_string(file.read()).render(fleet=fleet, states=_fleet.STATES)
    except (OSError, TemplateError) as error:
        raise AnsibleFilterError(f"fleet_page: {template}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"fleet_page": fleet_page}
