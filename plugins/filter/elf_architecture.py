# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: elf_architecture
short_description: For which machine a program on the controller is
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - Reads the head of a file on the controller, so that a program for another machine is found before it is copied.
positional: _input
options:
  _input:
    description: >-
      Path of the file. C(~) is the home directory. A relative path is taken from the directory in which Ansible was
      started.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show for which machine a program is
  ansible.builtin.debug:
    msg: "{{ '/usr/bin/env' | moe.gateway.elf_architecture }}"
"""

RETURN = r"""
_value:
  description: >-
    V(x86_64), V(aarch64), the number that ELF has for another machine, or V(none) for a file that is no 64-bit ELF.
  type: str
"""

import os
import struct
import typing as t

from ansible.errors import AnsibleFilterError

# e_machine of elf(5)
_MACHINES = {62: "x86_64", 183: "aarch64"}


def elf_architecture(path: object) -> str:
    if not isinstance(path, str) or not path:
        raise AnsibleFilterError(f"elf_architecture: found {path!r} ({type(path).__name__}), expected a file's path.")
    try:
        # Not waiting for the other end of a named pipe.
        descriptor = os.open(os.path.expanduser(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            head = file.read(20)
    except FileNotFoundError:
        raise AnsibleFilterError(f"elf_architecture: found no file at {path}, expected a program.") from None
    except (OSError, ValueError) as error:
        raise AnsibleFilterError(f"elf_architecture: can't read {path}: {error}") from error
    if len(head) < 20 or head[:6] != b"\x7fELF\2\1":
        return "none"
    (machine,) = struct.unpack_from("<H", head, 18)
    return _MACHINES.get(machine, str(machine))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"elf_architecture": elf_architecture}
