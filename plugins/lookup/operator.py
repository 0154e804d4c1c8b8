# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: operator
short_description: Who runs Ansible, and on which machine
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - Returns C(USER@HOST) of the controller, for the notes that gateways keep of their changes.
  - Under C(sudo) it is the user who called it.
options:
  _terms:
    description: None are taken.
    required: false
seealso:
  - module: moe.gateway.envoy_filter
"""

EXAMPLES = r"""
- name: Show who I am
  ansible.builtin.debug:
    msg: "{{ lookup('moe.gateway.operator') }}"
"""

RETURN = r"""
_raw:
  description: One element, such as C(alice@ops1).
  type: list
  elements: str
"""

import getpass
import os
import socket

from ansible.plugins.lookup import LookupBase


def operator() -> str:
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user that has no name.
        user = f"user id {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict | None = None, **kwargs: object) -> list[str]:
        return [operator()]
