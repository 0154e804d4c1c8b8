#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what a gateway really runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: envoy_info
short_description: Tell what a running Envoy really runs
version_added: 0.1.0
description:
  - Asks the Envoy behind an admin socket for its version, listeners and filters, and the kernel for the libraries that
    it has loaded.
  - Changes nothing. Tells no configuration, so no secret.
options:
  admin_socket:
    description: The Unix socket of Envoy's admin interface.
    type: path
    default: /run/envoy/admin.sock
  directory:
    description:
      - The directory that Envoy reads its configuration from.
      - With it, RV(filters) also tells what is on disk, and when that was confirmed.
    type: path
  timeout:
    description: Seconds to wait for each answer of the admin interface.
    type: float
    default: 5.0
extends_documentation_fragment: [moe.gateway.info]
notes:
  - Needs Python 3.9 or later and nothing else on the gateway.
  - Runs as Envoy's user, or as root (C(become)).
seealso:
  - module: moe.gateway.envoy_filter
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: See what the gateway runs
  moe.gateway.envoy_info:
    directory: /etc/envoy/xds
  register: gateway

- name: See that no filter has drifted
  ansible.builtin.assert:
    that: gateway.filters | selectattr('in_service', 'false') | length == 0
"""

RETURN = r"""
envoy:
  description: The process.
  returned: success
  type: dict
  contains:
    version:
      description: Envoy's version.
      type: str
      sample: 1.40.0
    state:
      description: V(LIVE), V(DRAINING), V(PRE_INITIALIZING) or V(INITIALIZING).
      type: str
    restart_epoch:
      description: The hot restart epoch.
      type: int
    uptime_s:
      description: Seconds since the current epoch began.
      type: int
    pid:
      description: The process that listens on the admin socket.
      type: int
    node_id:
      description: The node's C(id).
      type: str
listeners:
  description: The listeners, with the filters in their chains that take their configuration from a file, in order.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
    address:
      description: C(address:port), or the path of a Unix socket.
      type: str
    filters:
      description: Names of filters.
      type: list
      elements: str
filters:
  description: Every filter that a listener takes from a file.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
    path:
      description: The file.
      type: str
    running_version:
      description: The version that Envoy counted last as a success.
      type: str
    disk_version:
      description: The version on disk. Null if the file is not one that this collection published.
      returned: with O(directory)
      type: str
    disk_problem:
      description: Why the file is not one that this collection published. Null if it is.
      returned: with O(directory)
      type: str
    confirmed_version:
      description: The version that a run of this collection saw in service last.
      returned: with O(directory)
      type: str
    confirmed_at:
      description: When that was, in UTC.
      returned: with O(directory)
      type: str
    in_service:
      description: Whether what is on disk, what was confirmed and what runs are one version, with no refusal since.
      returned: with O(directory)
      type: bool
    counters:
      description:
        - Envoy's C(update_attempt), C(update_rejected), C(update_failure) as C(attempts), C(rejected), C(failed).
      type: dict
libraries:
  description: The shared libraries that Envoy has loaded from outside of the system's own folders.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The path under which it was loaded.
      type: str
    deleted:
      description: Whether the file was removed or replaced since. Envoy still runs what it held.
      type: bool
counters:
  description: Counters and gauges of the listener manager, of draining connections, and those that extensions define.
  returned: success
  type: dict
failure:
  description: Why it failed, as for M(moe.gateway.envoy_filter).
  returned: failure
  type: dict
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _process
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin
from ansible_collections.moe.gateway.plugins.module_utils._decision import Process, Running, decide
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._kinds import Kind, filter_kind, pointers
from ansible_collections.moe.gateway.plugins.module_utils._store import Files, Shelf, Store

#: ``dynamicmodulescustom`` is the default prefix of what dynamic modules count.
_COUNTERS = "|".join(
    (
        r"^dynamicmodulescustom\.",
        r"^listener_manager\.(total|lds)",
        r"^http\..*\.downstream_(cx_active|cx_drain_close|rq_total)$",
    )
)
_SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")


def info(params: dict[str, t.Any]) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    directory = params["directory"]
    if directory is not None and not os.path.isdir(directory):
        raise invalid("directory", f"no directory at {directory}", "the directory that Envoy reads from")
    admin = Admin(params["admin_socket"], params["timeout"])
    server, peer, listeners = admin.server(), admin.peer(), admin.listeners()
    paths = {name: path for name, path, _types in pointers(listeners)}
    return {
        "envoy": {
            "version": server.version,
            "state": server.state,
            "restart_epoch": server.restart_epoch,
            "uptime_s": server.uptime,
            "pid": peer.process.pid,
            "node_id": server.node.get("id", ""),
        },
        "listeners": [
            {
                "name": listener.get("name", ""),
                "address": _address(listener.get("address", {})),
                "filters": [name for name, _path, _types in pointers(listener)],
            }
            for listener in listeners
        ],
        "filters": [_filter(admin, peer.process, name, path, directory) for name, path in sorted(paths.items())],
        "libraries": [
            {"path": library.path, "deleted": library.deleted}
            for library in _process.libraries(peer.process.pid)
            if not library.path.startswith(_SYSTEM)
        ],
        "counters": admin.stats(_COUNTERS),
    }


def _filter(admin: Admin, process: Process, name: str, path: str, directory: str | None) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {"name": name, "path": path, "running_version": None, "counters": {}}
    try:
        kind = filter_kind(name)
    except Failure:
        # Somebody else's filter, with a name that this collection would not give.
        return result
    running = admin.running(kind, process)
    if running is None:
        return result
    result["running_version"] = running.text
    result["counters"] = {"attempts": running.attempts, "rejected": running.rejected, "failed": running.failed}
    if directory is None:
        return result
    return {**result, **_disk(kind, running, path, directory.rstrip("/"))}


def _disk(kind: Kind, running: Running, path: str, directory: str) -> dict[str, t.Any]:
    status = os.stat(directory)
    store = Store(directory, Files(status.st_uid, status.st_gid))
    shelf = Shelf(store, kind, store.key(write=False))
    disk, record = shelf.disk(), shelf.record()
    confirmed = record.confirmed if record else None
    plan = decide(disk.version.digest if disk.version else "", disk, confirmed, running)
    problem = disk.reason if path == shelf.live else f"is not the one that Envoy reads, {path}"
    return {
        "disk_version": str(disk.version) if disk.version else None,
        "disk_problem": problem or None,
        "confirmed_version": str(confirmed.version) if confirmed else None,
        "confirmed_at": record.at if record else None,
        "in_service": plan.action == "none" and not problem and bool(confirmed and confirmed.version == disk.version),
    }


def _address(address: dict[str, t.Any]) -> str:
    if "pipe" in address:
        return address["pipe"].get("path", "")
    socket = address.get("socket_address", {})
    return f"{socket.get('address', '')}:{socket.get('port_value', '')}"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "admin_socket": {"type": "path", "default": "/run/envoy/admin.sock"},
            "directory": {"type": "path"},
            "timeout": {"type": "float", "default": 5.0},
        },
        supports_check_mode=True,
    )
    try:
        result = info(module.params)
    except Failure as failure:
        module.fail_json(msg=failure.message, failure=failure.as_dict())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
