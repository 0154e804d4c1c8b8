# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: placed_extensions
short_description: Where extensions go on a gateway
version_added: 0.1.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - Adds to each extension its digest and its path on a gateway, which the digest is a part of. So a path never changes
    its code.
positional: _input, directory
options:
  _input:
    description: >-
      The extensions, each with a C(name), C(src) (its file on the controller) and perhaps C(sha256). The file is read
      only where C(sha256) is left out. A relative C(src) is taken from the directory in which Ansible was started.
    type: list
    elements: dict
    required: true
  directory:
    description: The directory of extensions on the gateway.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show where extensions go
  ansible.builtin.debug:
    msg: "{{ extensions | moe.gateway.placed_extensions('/opt/envoy/extensions') }}"
  vars:
    extensions:
      - name: basic_auth
        src: "{{ playbook_dir }}/basic_auth.so"
"""

RETURN = r"""
_value:
  description: For each extension, its C(name), its C(src) as an absolute path, its C(sha256) and its C(path).
  type: list
  elements: dict
"""

import os
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.filter.file_sha256 import file_sha256
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import Mapping, describe

_NAME = "letters, digits, '.', '_' and '-'"


def placed_extensions(extensions: object, directory: str) -> list[dict[str, str]]:
    result: list[dict[str, str]] = []
    try:
        if not isinstance(extensions, list):
            raise invalid("envoy_extensions", describe(extensions), "a list")
        for index, value in enumerate(extensions):
            item = Mapping(value, f"envoy_extensions[{index}]").only("name", "src", "sha256")
            name = item.text("name", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*", expected=_NAME)
            if any(name == other["name"] for other in result):
                raise invalid(item.at("name"), f"{name!r} twice", "each extension once")
            # Absolute, since filters, modules and actions each take a relative path from another directory.
            src = os.path.abspath(os.path.expanduser(item.text("src", expected="the path of a file on the controller")))
            digest = item.text("sha256", None, r"[0-9a-f]{64}", "64 hex digits in lower case") or file_sha256(src)
            result.append({"name": name, "src": src, "sha256": digest, "path": f"{directory}/{name}-{digest}.so"})
    except Failure as failure:
        raise AnsibleFilterError(failure.message) from None
    return result


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"placed_extensions": placed_extensions}
