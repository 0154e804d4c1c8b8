# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: file_sha256
short_description: SHA-256 of a file on the controller
version_added: 0.1.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - Returns the hex digest of a file, so that the path of an extension on a gateway can name its content.
  - Reads the file on the controller, each time the expression is evaluated.
positional: _input
options:
  _input:
    description: >-
      Path of the file. C(~) is the home directory. A relative path is taken from the directory in which Ansible was
      started, so begin it with C(playbook_dir) or C(role_path).
    type: str
    required: true
seealso:
  - module: moe.gateway.extension_info
"""

EXAMPLES = r"""
- name: Name a file on the gateway by its content
  ansible.builtin.copy:
    src: "{{ extension }}"
    dest: "/opt/envoy/extensions/basic_auth-{{ extension | moe.gateway.file_sha256 }}.so"
    mode: "0644"
  vars:
    extension: "{{ playbook_dir }}/basic_auth.so"
"""

RETURN = r"""
_value:
  description: The digest, 64 hex digits in lower case.
  type: str
"""

import hashlib
import os
import stat
import typing as t

from ansible.errors import AnsibleFilterError


def file_sha256(path: object) -> str:
    if not isinstance(path, str) or not path:
        raise AnsibleFilterError(f"file_sha256: found {path!r} ({type(path).__name__}), expected the path of a file.")
    file = os.path.expanduser(path)
    try:
        # Looked at before it is opened: opening a named pipe would wait for its writer.
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise AnsibleFilterError(f"file_sha256: found something other than a file at {path}, expected a file.")
        digest = hashlib.sha256()
        with open(file, "rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    except FileNotFoundError:
        where = "" if os.path.isabs(file) else f" in {os.getcwd()}"
        raise AnsibleFilterError(f"file_sha256: found no file at {path}{where}, expected the file to digest.") from None
    except (OSError, ValueError) as error:
        raise AnsibleFilterError(f"file_sha256: can't read {path}: {error}") from error
    return digest.hexdigest()


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"file_sha256": file_sha256}
