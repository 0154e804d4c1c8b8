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
positional: _input, directory, built
options:
  _input:
    description: >-
      The extensions, each with a C(name), C(src) (its file on the controller) and perhaps C(sha256). The file is read
      only where C(sha256) is left out. A relative C(src) is taken from the directory in which Ansible was started.
      Where C(src) is left out, C(source) (the folder of its Go module) says that it is built.
    type: list
    elements: dict
    required: true
  directory:
    description: The directory of extensions on the gateway.
    type: str
    required: true
  built:
    description: The directory on the controller of what was built for the gateway, as C(NAME.so).
    type: str
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


def placed_extensions(extensions: object, directory: str, built: str | None = None) -> list[dict[str, str]]:
    result: list[dict[str, str]] = []
    try:
        if not isinstance(extensions, list):
            raise invalid("envoy_extensions", describe(extensions), "a list")
        for index, value in enumerate(extensions):
            item = Mapping(value, f"envoy_extensions[{index}]").only("name", "src", "source", "defines", "sha256")
            name = item.text("name", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*", expected=_NAME)
            if any(name == other["name"] for other in result):
                raise invalid(item.at("name"), f"{name!r} twice", "each extension once")
            path = _source(item, name, built)
            # Absolute, since filters, modules and actions each take a relative path from another directory; and without
            # links, since hosts of one kind have one to one file.
            src = os.path.realpath(os.path.expanduser(path))
            digest = item.text("sha256", None, r"[0-9a-f]{64}", "64 hex digits in lower case") or file_sha256(src)
            result.append({"name": name, "src": src, "sha256": digest, "path": f"{directory}/{name}-{digest}.so"})
    except Failure as failure:
        raise AnsibleFilterError(failure.message) from None
    return result


def _source(item: Mapping, name: str, built: str | None) -> str:
    """Where the file is on the controller."""
    src = item.text("src", None)
    if src is not None:
        return item.text("src", expected="the path of a file on the controller")
    if item.text("source", None) is None or built is None:
        fix = "Give the path of the .so, or the folder of its Go module as source."
        raise invalid(item.at("src"), "nothing", "the path of a file on the controller", fix)
    path = os.path.join(built, f"{name}.so")
    if not os.path.exists(os.path.expanduser(path)):
        fix = "Run the playbook moe.gateway.build for this host first."
        raise invalid(item.at("source"), f"no file at {os.path.abspath(path)}", "the .so that was built from it", fix)
    return path


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"placed_extensions": placed_extensions}
