#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the directories and small files that a gateway starts from in place."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_files
short_description: Put the directories and small files that a gateway starts from in place
version_added: 0.1.0
description:
  - Does for all directories and files of a gateway at once what C(ansible.builtin.file) and C(ansible.builtin.copy) do
    for one, since each task costs a fleet time on every host.
  - First looks for what has to be there already. If any of O(needs), O(owner) or O(group) is missing, it changes
    nothing and returns what is missing, so that a play installs it only where it has to. Check mode tells the rest too.
  - Every file is written privately, judged by its O(files[].validate), synced and renamed into place.
options:
  directories:
    description: Directories to have, each after its parents.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where.
        type: path
        required: true
      mode:
        description: Its permissions, an octal number in quotes.
        type: str
        default: "0700"
      keep:
        description: Leave one that exists as it is, whoever owns it.
        type: bool
        default: false
  files:
    description: Files to have.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where.
        type: path
        required: true
      content:
        description:
          - What it holds. It shows in output, so it must not hold secrets.
          - It or O(files[].secret) is required.
        type: str
      secret:
        description: What it holds, where that is never to be shown.
        type: str
        version_added: 0.2.0
      mode:
        description: Its permissions, an octal number in quotes.
        type: str
        default: "0600"
      owner:
        description: Its owner, where that isn't O(owner).
        type: str
      group:
        description: Its group, where that isn't O(group).
        type: str
      initial:
        description:
          - Write it only where there is no file and no Envoy behind O(admin_socket), which would read it at once.
        type: bool
        default: false
      held:
        description:
          - Leave it as it is where a hot restart is the way, since M(moe.gateway.envoy_hot_restart) puts it in place.
        type: bool
        default: false
      validate:
        description:
          - A command that has to succeed before the file is put in place; C(%s) stands for the new file.
          - It runs as the owner of the file.
        type: list
        elements: str
        default: []
  needs:
    description: Files that have to be there.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where.
        type: path
        required: true
      sha256:
        description: The digest of its content. A file with another one is an error, never missing.
        type: str
      immutable:
        description:
          - Whether it never changes under its path. If the Envoy behind O(admin_socket) was started from it, and there
            is a file with another content by now, that is an error.
        type: bool
        default: false
  owner:
    description: The user that owns the directories and files. Default is the user that runs the module.
    type: str
  group:
    description: The group of the directories and files. Default is the main group of O(owner).
    type: str
  admin_socket:
    description:
      - The Unix socket of Envoy's admin interface, for O(needs[].immutable), O(files[].initial) and O(started_with).
    type: path
  started_with:
    description:
      - Environment variables that name what Envoy is to start from, such as a digest of its bootstrap.
        RV(outdated) tells whether the Envoy that runs lacks them.
    type: dict
    default: {}
  hot_restart:
    description: Tell in RV(restart) whether a hot restart leads to what Envoy is to start from.
    type: dict
    suboptions:
      enabled:
        description: Whether it is wanted.
        type: bool
        required: true
      run_dir:
        description: The directory of the supervisor's socket.
        type: path
        required: true
      envoy_binary:
        description: The Envoy that is to run.
        type: path
        required: true
  preflight:
    description:
      - What the host has to be. Every reason against it is named before anything changes, in check mode as well.
      - Processes of the Envoy behind O(admin_socket), and of O(preflight.unit), are not in the way.
    type: dict
    suboptions:
      endpoints:
        description: Where Envoy is to listen.
        type: list
        elements: dict
        default: []
        suboptions:
          key:
            description: The variable that says so, for errors.
            type: str
            required: true
          address:
            description: An IP address.
            type: str
            required: true
          port:
            description: A TCP port.
            type: int
            required: true
      unit:
        description: The name of this gateway's unit, where systemd runs it.
        type: str
      alone:
        description: Whether no other unit may run an Envoy.
        type: bool
        default: true
      manager:
        description: The variable that says what runs it, for errors.
        type: str
        default: envoy_service_manager
      systemd:
        description: The oldest version of systemd that does.
        type: int
      now:
        description: The time of the controller, in seconds since 1970.
        type: float
      tolerance:
        description: How many seconds the host's clock may differ from it. V(0) means that it doesn't matter.
        type: float
        default: 0.0
      space:
        description: What has to be free where anything of O(needs), O(owner) and O(group) is missing.
        type: list
        elements: dict
        default: []
        suboptions:
          key:
            description: The variable that names the place, for errors.
            type: str
            required: true
          path:
            description: A directory that may be missing yet.
            type: path
            required: true
          mib:
            description: How many MiB.
            type: int
            required: true
    version_added: 0.2.0
extends_documentation_fragment: [moe.gateway.host]
seealso:
  - module: moe.gateway.envoy_filter
    description: What Envoy reads while it runs is published by transactions.
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Prepare what Envoy starts from
  moe.gateway.gateway_files:
    owner: envoy
    needs:
      - path: /opt/envoy/envoy-1.40.0
    directories:
      - path: /etc/envoy
    files:
      - path: /etc/envoy/bootstrap.json
        content: "{{ bootstrap | to_nice_json }}"
        validate: [/opt/envoy/envoy-1.40.0, --mode, validate, -c, "%s"]
  register: prepared

- name: Install Envoy where it is missing
  ansible.builtin.include_tasks: install.yml
  when: prepared.missing | length > 0
"""

RETURN = r"""
missing:
  description: What the host lacks of O(needs), O(owner) and O(group). Unless empty, nothing has been changed yet.
  returned: success
  type: list
  elements: str
  sample: [/opt/envoy/envoy-1.40.0]
created:
  description: Paths of directories and files that were not there before.
  returned: success
  type: list
  elements: str
updated:
  description: Paths of directories and files that were there, and not as they should be.
  returned: success
  type: list
  elements: str
outdated:
  description:
    - Whether an Envoy runs behind O(admin_socket) that was started without O(started_with), so that it has to be
      restarted, if only because an earlier run could not do so any more.
  returned: success
  type: bool
restart:
  description:
    - How the Envoy that runs gets to what it should be started from.
  returned: success
  type: dict
  contains:
    how:
      description: V(none) unless RV(outdated), V(hot_restart) or V(restart).
      type: str
      sample: hot_restart
    why:
      description: Why it can't be a hot restart, if it can't.
      type: str
platform:
  description: What an extension for this host has to suit, for C(target) of M(moe.gateway.extension_info).
  returned: success
  type: dict
  sample: {architecture: x86_64, glibc: "2.36"}
service:
  description:
    - What systemd says of O(preflight.unit), by the names of its own properties. Empty without systemd.
  returned: with O(preflight.unit)
  type: dict
  sample: {ActiveState: active, UnitFileState: enabled, NeedDaemonReload: "no"}
  version_added: 0.2.0
failure:
  description:
    - Why it failed, as C(code), C(message) and C(details).
    - The code is V(preflight) where the host is not what O(preflight) wants. Then C(details.problems) has each reason
      with a code of its own, V(port_taken), V(admin_taken), V(foreign_unit), V(no_systemd), V(systemd_too_old),
      V(clock_off) or V(no_space).
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _host, _hot_restart, _placement, _preflight
from ansible_collections.moe.gateway.plugins.module_utils._failure import conclude


def run(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    platform = _placement.platform()
    missing = _placement.missing(params["needs"], params["owner"], params["group"])
    _placement.check_immutable(params["needs"], params["admin_socket"])
    if params["preflight"]:
        _check(params["preflight"], params["admin_socket"], bool(missing))
    placement = _placement.Placement(params["owner"], params["group"], params["admin_socket"], write)
    outdated = _placement.outdated(params["admin_socket"], params["started_with"])
    restart = _restart(params["hot_restart"], outdated)
    if not (missing and write):
        for index, item in enumerate(params["directories"]):
            placement.directory(f"directories[{index}]", **item)
        for index, item in enumerate(params["files"]):
            held = item["held"] and restart.how == "hot_restart"
            placement.file(f"files[{index}]", **{**item, "held": held})
    unit = (params["preflight"] or {}).get("unit")
    return {
        "changed": bool(placement.created or placement.updated),
        "missing": missing,
        "created": placement.created,
        "updated": placement.updated,
        "outdated": outdated,
        "restart": restart._asdict(),
        "platform": platform,
        **({"service": _host.service(unit)} if unit else {}),
        "diff": placement.diff,
    }


def _check(wanted: dict[str, t.Any], admin_socket: str | None, install: bool) -> None:
    host = _host.look(
        [(item["address"], item["port"]) for item in wanted["endpoints"]],
        admin_socket,
        wanted["unit"],
        wanted["now"],
        [(item["key"], item["path"], item["mib"] << 20) for item in wanted["space"] if install],
        wanted["alone"],
    )
    ports = [(item["key"], item["port"]) for item in wanted["endpoints"]]
    limits = _preflight.Wanted(ports, admin_socket or "", wanted["systemd"], wanted["tolerance"], wanted["manager"])
    problems = _preflight.judge(host, limits)
    if problems:
        raise _preflight.refusal(problems)


def _restart(wanted: dict[str, t.Any] | None, outdated: bool) -> _hot_restart.Way:
    if not outdated or wanted is None:
        return _hot_restart.Way("restart" if outdated else "none")
    supervisor = _hot_restart.status(wanted["run_dir"])
    versions = _hot_restart.versions(supervisor, wanted["envoy_binary"])
    return _hot_restart.way(outdated, wanted["enabled"], supervisor, versions)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "mode": {"type": "str", "default": "0700"},
                    "keep": {"type": "bool", "default": False},
                },
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "secret": {"type": "str", "no_log": True},
                    "mode": {"type": "str", "default": "0600"},
                    "owner": {"type": "str"},
                    "group": {"type": "str"},
                    "initial": {"type": "bool", "default": False},
                    "held": {"type": "bool", "default": False},
                    "validate": {"type": "list", "elements": "str", "default": []},
                },
                "required_one_of": [("content", "secret")],
                "mutually_exclusive": [("content", "secret")],
            },
            "needs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "sha256": {"type": "str"},
                    "immutable": {"type": "bool", "default": False},
                },
            },
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "admin_socket": {"type": "path"},
            "started_with": {"type": "dict", "default": {}},
            "preflight": {
                "type": "dict",
                "options": {
                    "endpoints": {
                        "type": "list",
                        "elements": "dict",
                        "default": [],
                        "options": {
                            "key": {"type": "str", "required": True, "no_log": False},
                            "address": {"type": "str", "required": True},
                            "port": {"type": "int", "required": True},
                        },
                    },
                    "unit": {"type": "str"},
                    "alone": {"type": "bool", "default": True},
                    "manager": {"type": "str", "default": "envoy_service_manager"},
                    "systemd": {"type": "int"},
                    "now": {"type": "float"},
                    "tolerance": {"type": "float", "default": 0.0},
                    "space": {
                        "type": "list",
                        "elements": "dict",
                        "default": [],
                        "options": {
                            "key": {"type": "str", "required": True, "no_log": False},
                            "path": {"type": "path", "required": True},
                            "mib": {"type": "int", "required": True},
                        },
                    },
                },
            },
            "hot_restart": {
                "type": "dict",
                "options": {
                    "enabled": {"type": "bool", "required": True},
                    "run_dir": {"type": "path", "required": True},
                    "envoy_binary": {"type": "path", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    conclude(module, lambda: run(module.params, write=not module.check_mode))


if __name__ == "__main__":
    main()
