#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: extension_info
short_description: Tell what a compiled Envoy extension is, and whether a gateway can load it
version_added: 0.1.0
description:
  - Reads a C(.so) and tells its engine, ABI version, architecture, needed glibc, Go build and digest.
  - Judges it against the gateway in O(target), and fails with every mismatch before anything is copied to a host.
    Envoy itself tells less, and later. It loads a module of another ABI with no more than a warning.
  - Nothing in the file is run.
  - Runs where the file is, which is usually the controller. Delegate the task to C(localhost), and let it run in
    Ansible's own Python as in the examples. Another Python may lack pyelftools.
author:
  - moe.gateway contributors (@moe-gateway)
requirements:
  - pyelftools, on the host that runs the module
attributes:
  check_mode:
    description: Changes nothing, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so it has no diff to show.
    support: none
options:
  path:
    description: The C(.so) to read.
    type: path
    required: true
  target:
    description:
      - The gateway that is to load the file. What is left out is not judged.
      - Without it, the module still fails for a file that is no extension, or lacks an export that the newest known
        Envoy requires.
    type: dict
    suboptions:
      envoy_version:
        description:
          - Version of the gateway's Envoy, such as V("1.40.0").
            It decides which exports and which ABI version are required.
          - Write it in quotes. YAML reads an unquoted V(1.40) as the number 1.4.
          - The ABI is known of 1.36.2 to 1.36.4, 1.37.0, and every 1.38, 1.39 and 1.40.
            Another version is a problem, unless O(target.abi_version) is given.
        type: raw
      architecture:
        description: Machine of the gateway's host, V(x86_64) or V(aarch64), or Debian's names V(amd64) and V(arm64).
        type: str
      glibc:
        description:
          - Version of glibc on the gateway's host, such as V("2.36"). C(getconf GNU_LIBC_VERSION) tells it.
          - Write it in quotes. YAML reads an unquoted V(2.30) as the number 2.3.
        type: raw
      engine:
        description:
          - How the gateway is to run the extension, V(dynamic_module) or V(golang).
          - By default, every engine that the file is written for is judged.
        type: str
      abi_version:
        description: The ABI version that a dynamic module must state. The default is that of O(target.envoy_version).
        type: str
  fail_on_problems:
    description: Whether a file that the target can't load fails the task. Otherwise see RV(problems).
    type: bool
    default: true
seealso:
  - plugin: moe.gateway.file_sha256
    plugin_type: filter
    description: Only the digest of a file on the controller.
"""

EXAMPLES = r"""
- name: Refuse an extension that the gateways can't load
  moe.gateway.extension_info:
    path: "{{ playbook_dir }}/basic_auth.so"
    target:
      envoy_version: "1.40.0"
      architecture: "{{ ansible_facts['architecture'] }}"
      glibc: "2.36"
      engine: dynamic_module
  delegate_to: localhost
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"

- name: Look at an extension
  moe.gateway.extension_info:
    path: /srv/extensions/basic_auth.so
    fail_on_problems: false
  delegate_to: localhost
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  register: extension

- name: Show which Go built it
  ansible.builtin.debug:
    msg: "{{ extension.go.version }} built {{ extension.go.main.path }}, needs glibc {{ extension.glibc }}"
"""

RETURN = r"""
engines:
  description: The engines that the file is written for, by its exported functions, complete or not.
  returned: when the file is a shared object
  type: list
  elements: str
  sample: [dynamic_module]
missing_exports:
  description: For each of RV(engines), the required exports that are missing.
  returned: when the file is a shared object
  type: dict
  sample: {dynamic_module: [envoy_dynamic_module_on_http_filter_scheduled]}
abi_version:
  description: The ABI version that a dynamic module states, null when it can't be told.
  returned: when the file is a shared object
  type: str
  sample: v0.2.0
abi_version_from:
  description:
    - V(code) when the function that states the version was read.
    - V(string) when that function is too complex to read, and one known version stands among the file's constants.
    - Null when RV(abi_version) is null.
  returned: when the file is a shared object
  type: str
  sample: code
architecture:
  description: The machine that the code is for, V(x86_64), V(aarch64), or the name in lower case of another.
  returned: when the file is a shared object
  type: str
  sample: x86_64
glibc:
  description: The oldest glibc that has all that the file needs, null when it needs no version of it.
  returned: when the file is a shared object
  type: str
  sample: "2.28"
needed:
  description: Names of the shared libraries that the file needs.
  returned: when the file is a shared object
  type: list
  elements: str
  sample: [libc.so.6]
nodelete:
  description: Whether the loader never unloads it. So it is for everything that Go builds.
  returned: when the file is a shared object
  type: bool
  sample: true
go:
  description: What Go 1.18 and later writes of a build into the file, null when Go did not build it.
  returned: when the file is a shared object
  type: dict
  contains:
    version:
      description: Version of Go.
      type: str
      sample: go1.27.3
    path:
      description: Import path of the main package.
      type: str
      sample: example.com/basic_auth
    main:
      description: The main module, as in RV(go.deps).
      type: dict
    deps:
      description: The modules built in, each with C(path), C(version), C(sum), and C(replace) where it is replaced.
      type: list
      elements: dict
    settings:
      description: Settings of the build, such as C(GOARCH), C(-trimpath) or C(vcs.revision).
      type: dict
  sample:
    version: go1.27.3
    path: example.com/basic_auth
    main: {path: example.com/basic_auth, version: (devel), sum: null}
    deps: []
    settings: {GOARCH: amd64, GOOS: linux, -trimpath: "true"}
size:
  description: Size of the file in bytes.
  returned: when the file is a shared object
  type: int
  sample: 2310544
sha256:
  description: Hex digest of the file.
  returned: when the file is a shared object
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
problems:
  description:
    - Why the target can't load the file, empty when it can.
    - A code is one of V(wrong_architecture), V(glibc_too_old), V(wrong_libc), V(no_engine), V(wrong_engine),
      V(missing_exports), V(unknown_envoy_version), V(unknown_abi), V(wrong_abi).
  returned: when the file is a shared object
  type: list
  elements: dict
  contains:
    code:
      description: A word that a playbook can compare.
      type: str
      sample: glibc_too_old
    message:
      description: What was found, what is expected, and what to do.
      type: str
    details:
      description: The same in parts, C(key), C(found) and C(expected).
      type: dict
failure:
  description:
    - Why the task failed, as C(code), C(message) and C(details).
    - The code is V(unfit_extension) when RV(problems) is not empty, and V(invalid_option) when an option is wrong or
      the file is not a whole 64-bit shared object, and V(missing_library) without pyelftools.
  returned: failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.moe.gateway.plugins.module_utils import _elf, _extension
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure


def run(module: AnsibleModule) -> None:
    target = _extension.Target.read(module.params["target"])
    path = module.params["path"]
    description = _elf.read(path, _extension.KNOWN_ABIS)
    problems = _extension.judge(description, target)
    result = {
        **description._asdict(),
        "engines": _extension.engines(description.exports),
        "missing_exports": _extension.missing_exports(description.exports, target.envoy_version),
        "problems": [problem.as_dict() for problem in problems],
    }
    del result["exports"]
    if problems and module.params["fail_on_problems"]:
        failure = _extension.unfit(path, problems)
        module.fail_json(msg=failure.message, failure=failure.as_dict(), **result)
    module.exit_json(**result)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "target": {
                "type": "dict",
                "options": {
                    "envoy_version": {"type": "raw"},
                    "architecture": {"type": "str"},
                    "glibc": {"type": "raw"},
                    "engine": {"type": "str"},
                    "abi_version": {"type": "str"},
                },
            },
            "fail_on_problems": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    if _elf.ELFTOOLS_ERROR:
        failure = Failure("missing_library", missing_required_lib("pyelftools"), library="pyelftools")
        module.fail_json(msg=failure.message, failure=failure.as_dict(), exception=_elf.ELFTOOLS_ERROR)
    try:
        run(module)
    except Failure as failure:
        module.fail_json(msg=failure.message, failure=failure.as_dict())


if __name__ == "__main__":
    main()
