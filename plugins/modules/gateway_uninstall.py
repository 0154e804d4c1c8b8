#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a gateway off a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_uninstall
short_description: Take a gateway off a host, all of it and nothing else
version_added: 0.2.0
description:
  - Ends Envoy first, so that no request is served by what is half removed. Then it removes what the roles of this
    collection put on the host, and nothing that somebody else put beside it.
  - A directory that holds something else stays, and RV(left) names what that is. So does a binary or an extension that
    another process still uses.
  - What is gone stays gone. There is no way back but an installation.
options:
  service_manager:
    description: What runs Envoy.
    type: str
    choices: [systemd, process]
    default: systemd
  unit:
    description: The unit of systemd. One that this collection has not written is left alone.
    type: path
    default: /etc/systemd/system/envoy.service
  install_dir:
    description: The directory of Envoy's binaries.
    type: path
    default: /opt/envoy
  extensions_dir:
    description: The directory of extensions.
    type: path
    default: /opt/envoy/extensions
  config_dir:
    description: The directory of the bootstrap.
    type: path
    default: /etc/envoy
  directory:
    description: The directory that Envoy reads while it runs.
    type: path
    default: /etc/envoy/xds
  run_dir:
    description: The directory of the admin socket.
    type: path
    default: /run/envoy
  admin_socket:
    description: The Unix socket of Envoy's admin interface.
    type: path
    default: /run/envoy/admin.sock
  log_path:
    description: The file of Envoy's log. The journal is systemd's, and stays.
    type: path
  user:
    description: Envoy's user. It is removed with O(service_manager=systemd), if the role C(moe.gateway.envoy) made it.
    type: str
    default: envoy
  keep:
    description: What stays.
    type: list
    elements: str
    choices: [binaries, extensions, configuration, logs, user]
    default: []
  timeout:
    description: Seconds that Envoy may take to end, with O(service_manager=process).
    type: float
    default: 30.0
extends_documentation_fragment: [moe.gateway.host]
notes:
  - Needs Python 3.9 or later and nothing else on the host.
  - Runs as root (C(become)), or with O(service_manager=process) as the user that runs Envoy.
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Take the gateway off the host, but keep its logs
  moe.gateway.gateway_uninstall:
    log_path: /var/log/envoy/envoy.log
    keep: [logs]
"""

RETURN = r"""
removed:
  description: What was removed, or in check mode would be, in that order. The first is the service, where one ran.
  returned: success
  type: list
  elements: str
  sample: [unit envoy.service, /etc/envoy/bootstrap.json, /etc/envoy, user envoy]
left:
  description: What is not this collection's, or is still used, and so stays, with what it is in.
  returned: success
  type: list
  elements: str
  sample: [/etc/envoy/notes.txt]
failure:
  description: Why it failed, as C(code), C(message) and C(details). What had been removed before that is gone.
  returned: failure
  type: dict
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _removal, _uninstall
from ansible_collections.moe.gateway.plugins.module_utils._detached import Detached
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, conclude, invalid
from ansible_collections.moe.gateway.plugins.module_utils._removal import Places


def uninstall(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    places = Places(*(params[name] or "" for name in Places._fields))
    for name, path in places._asdict().items():
        if path and not re.fullmatch(r"(/[^/]+){2,}", path):
            raise invalid(name, repr(path), "an absolute path of two parts or more")
    systemd = params["service_manager"] == "systemd"
    removed: list[str] = []
    left: list[str] = []
    unit = _uninstall.Unit(params["unit"]) if systemd else None
    memory = _uninstall.shared_memory(params["user"]) if systemd else []
    if unit and unit.there() and not unit.ours():
        left.append(f"{unit.path}: not written by this collection")
        unit = None
    if unit and unit.there():
        removed.append(f"unit {unit.name}")
        if write:
            unit.stop()
    if not systemd:
        output = places.log_path or f"{places.run_dir}/envoy.log"
        lock = f"{places.run_dir}/envoy.lock"
        detached = Detached(f"{places.config_dir}/run", lock, output, params["admin_socket"], params["timeout"])
        pid = detached.pid()
        if pid is not None:
            removed.append(f"process {pid}")
            if write:
                detached.stop(pid)
    pid = _uninstall.serving(params["admin_socket"])
    if pid is not None and (write or not removed):
        raise Failure(
            "still_serving",
            f"admin_socket: found an Envoy (PID {pid}) at {params['admin_socket']} that this collection did not start, "
            "expected none. End it first. Nothing has been removed.",
            pid=pid,
        )
    _remove_files(params, places, write, removed, left)
    if "configuration" not in params["keep"]:
        for path in memory:
            removed.append(path)
            if write:
                _uninstall.remove(_removal.Entry(path, False))
    # Last but for the user: until here, a run that was interrupted finds it again.
    if unit and unit.there() and write:
        unit.remove()
    if systemd and "user" not in params["keep"]:
        made = _uninstall.user_made(params["user"])
        if made:
            removed.append(f"user {params['user']}")
            if write:
                _uninstall.remove_user(params["user"])
        elif made is False:
            left.append(f"user {params['user']}: not made by this collection")
    return {
        "changed": bool(removed),
        "removed": removed,
        "left": left,
        "diff": {"before": "".join(f"{text}\n" for text in sorted(removed)), "after": ""},
    }


def _remove_files(params: dict[str, t.Any], places: Places, write: bool, removed: list[str], left: list[str]) -> None:
    found = _uninstall.entries(places)
    plan = _removal.plan(places, found, _uninstall.filters(places.directory), params["keep"])
    # In check mode, what is ended by then still uses them.
    used = _uninstall.users_of([path for path, is_directory in plan.remove if not is_directory]) if write else {}
    if used:
        # They stay as if they were somebody else's, and so does what they are in.
        plan = _removal.plan(places, found, _uninstall.filters(places.directory), params["keep"], used)
    for entry in plan.remove:
        if write:
            _uninstall.remove(entry)
        removed.append(entry.path)
    left.extend(f"{path}: PID {used[path]} uses it" if path in used else path for path in plan.left)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "service_manager": {"type": "str", "choices": ["systemd", "process"], "default": "systemd"},
            "unit": {"type": "path", "default": "/etc/systemd/system/envoy.service"},
            "install_dir": {"type": "path", "default": "/opt/envoy"},
            "extensions_dir": {"type": "path", "default": "/opt/envoy/extensions"},
            "config_dir": {"type": "path", "default": "/etc/envoy"},
            "directory": {"type": "path", "default": "/etc/envoy/xds"},
            "run_dir": {"type": "path", "default": "/run/envoy"},
            "admin_socket": {"type": "path", "default": "/run/envoy/admin.sock"},
            "log_path": {"type": "path"},
            "user": {"type": "str", "default": "envoy"},
            "keep": {
                "type": "list",
                "elements": "str",
                "choices": ["binaries", "extensions", "configuration", "logs", "user"],
                "default": [],
            },
            "timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    conclude(module, lambda: uninstall(module.params, write=not module.check_mode))


if __name__ == "__main__":
    main()
