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
      - With it, RV(filters) also tells what is on disk, when that was confirmed and how it came there.
    type: path
  desired:
    description:
      - What the gateway should run. With it and O(directory), RV(filters[].action) tells what bringing it there would
        do.
    type: dict
    suboptions:
      filters:
        description:
          - The filters, each with those options of M(moe.gateway.envoy_filter) that decide what it does, which are
            C(name), C(state), C(purge), C(engine), C(extension), C(filter_name), C(config) and C(redact).
        type: list
        elements: dict
        default: []
      listeners:
        description: The listeners, as for M(moe.gateway.envoy_config).
        type: list
        elements: dict
        default: []
      clusters:
        description: The clusters, as for M(moe.gateway.envoy_config).
        type: list
        elements: dict
        default: []
  secrets:
    description: What O(desired) refers to, as a mapping of names to strings.
    type: raw
    default: {}
  control_plane:
    description:
      - Wait until Envoy is connected to its control plane and serves what that says. If it isn't in time, the module
        fails with V(not_connected), and tells why as far as Envoy's log and counters do.
    type: dict
    suboptions:
      timeout:
        description: Seconds to wait.
        type: float
        default: 60.0
      service:
        description: The unit of systemd that has Envoy's log, where that is in the journal.
        type: str
        default: ""
    version_added: 0.2.0
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
  description: The listeners, with the filters in their chains that RV(filters) tells of, in order.
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
  description:
    - Every filter that a listener takes from a file, or with the config source V(static), that was in one.
    - Behind a control plane, also those that M(moe.gateway.istio_filter) has brought, with an empty RV(filters[].path).
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
      description:
        - The version that Envoy counted last as a success. Null for what an istiod brings, of which
          M(moe.gateway.istio_sync_info) knows it.
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
    closed:
      description: Whether it refuses all traffic, since it has no revision, or since Envoy has taken none.
      returned: with O(directory), or where an istiod brings it
      type: bool
    expiries:
      description:
        - Every C(not_after) in the configuration on disk that is a time with a zone, with its C(path), C(at) in UTC,
          and C(name), the C(username) or C(name) beside it.
      returned: with O(directory)
      type: list
      elements: dict
      sample: [{path: "config.users[0].not_after", name: foo, at: "2030-01-31T12:00:00Z"}]
    extension:
      description:
        - The compiled library that the configuration on disk names, with its C(path), its C(sha256), and C(loaded),
          whether Envoy runs that very code. Null if it needs none.
        - Of what an istiod brings, the library that the running configuration names.
      returned: with O(directory), or where an istiod brings it
      type: dict
    change:
      description:
        - How what is on disk came there, with C(at) in UTC, C(action), C(previous), the version before, C(origin),
          who asked for it, and for a rollback C(source) and C(source_at). Null if that was not noted.
      returned: with O(directory)
      type: dict
    generations:
      description:
        - What M(moe.gateway.envoy_rollback) can bring back, newest first, each with its C(version) and C(change).
      returned: with O(directory)
      type: list
      elements: dict
    desired_digest:
      description: The first part of the version that it would have with what is desired. Null if nothing is.
      returned: with O(directory)
      type: str
    action:
      description:
        - What bringing it to what is desired would do, V(none), V(published) or V(healed). Without O(desired), what
          is on disk stands for that.
      returned: with O(directory)
      type: str
    found:
      description: What is not as it should be.
      returned: with O(directory)
      type: list
      elements: str
    counters:
      description:
        - Envoy's C(update_attempt), C(update_rejected), C(update_failure) as C(attempts), C(rejected), C(failed).
      type: dict
resources:
  description: The clusters and the listeners as a whole, each with the keys that RV(filters) has.
  returned: with O(directory)
  type: list
  elements: dict
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
control_plane:
  description: Its connection to a control plane, null if it has none.
  returned: success
  type: dict
  contains:
    connected:
      description: Whether it is connected now.
      type: bool
    name:
      description: What the control plane calls itself, also after it is gone.
      type: str
failure:
  description: Why it failed, as for M(moe.gateway.envoy_filter).
  returned: failure
  type: dict
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import (
    _control_plane,
    _engines,
    _envoy_filter,
    _library,
    _process,
)
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin, Server
from ansible_collections.moe.gateway.plugins.module_utils._decision import Process, Running, decide
from ansible_collections.moe.gateway.plugins.module_utils._desired import wanted
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, conclude, invalid
from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._history import Change, Kept
from ansible_collections.moe.gateway.plugins.module_utils._kinds import (
    CLUSTERS,
    FILTER_STATS,
    LISTENERS,
    Kind,
    filter_kind,
    pointers,
)
from ansible_collections.moe.gateway.plugins.module_utils._resolve import kept_extension
from ansible_collections.moe.gateway.plugins.module_utils._revision import check_secrets
from ansible_collections.moe.gateway.plugins.module_utils._store import Record, Shelf, Store
from ansible_collections.moe.gateway.plugins.module_utils._way_back import moment

#: ``dynamicmodulescustom`` is the default prefix of what dynamic modules count.
_COUNTERS = "|".join(
    (
        r"^dynamicmodulescustom\.",
        r"^listener_manager\.(total|lds)",
        r"^http\..*\.downstream_(cx_active|cx_drain_close|rq_total)$",
    )
)
_SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")


class Gateway(t.NamedTuple):
    """What is looked at."""

    admin: Admin
    server: Server
    process: Process
    store: Store | None
    key: bytes
    #: the content that each kind should have, by the name of the kind
    desired: dict[str, t.Any]


def info(params: dict[str, t.Any]) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    if params["control_plane"]:
        waiting = params["control_plane"]
        _control_plane.wait(params["admin_socket"], waiting["timeout"], params["timeout"], waiting["service"])
    store, key = _store(params["directory"])
    desired = _desired(params, store, key)
    admin = Admin(params["admin_socket"], params["timeout"])
    server, peer, listeners = admin.server(), admin.peer(), admin.listeners()
    libraries = _process.libraries(peer.process.pid)
    gateway = Gateway(admin, server, peer.process, store, key, desired)
    control_plane = _control_plane.look(admin)
    paths = _paths(server, listeners)
    by_istiod = dict(_by_istiod(listeners, admin.extensions())) if control_plane else {}
    filters = [_filter(gateway, name, path) for name, path in paths.items() if name not in by_istiod]
    filters += [_brought(gateway, name, typed) for name, typed in by_istiod.items()]
    named = {**dict(zip(paths, paths)), **{name: _envoy_filter.filter_of(name) for name in by_istiod}}
    result = {
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
                "filters": [named[name] for name in _names(listener) if name in named],
            }
            for listener in listeners
        ],
        "filters": sorted(filters, key=lambda item: item["name"]),
        "libraries": [
            {"path": library.path, "deleted": library.deleted}
            for library in libraries
            if not library.path.startswith(_SYSTEM)
        ],
        "counters": admin.stats(_COUNTERS),
        "control_plane": control_plane._asdict() if control_plane else None,
    }
    if store:
        sources = admin.sources()
        if server.static:
            sources = {kind.name: os.path.join(server.static.directory, kind.file) for kind in (CLUSTERS, LISTENERS)}
        result["resources"] = [_look(gateway, kind, sources.get(kind.name, "")) for kind in (CLUSTERS, LISTENERS)]
    return result


def _paths(server: Server, listeners: list[t.Any]) -> dict[str, str]:
    """The file that each filter was taken from."""
    if server.static is None:
        return {name: path for name, path, _types in pointers(listeners)}
    names = [name[len("filter ") :] for name in server.static.versions if name.startswith("filter ")]
    return {name: os.path.join(server.static.directory, filter_kind(name).file) for name in names}


def _by_istiod(tree: t.Any, found: dict[str, dict[str, t.Any]]) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """This collection's filters that an istiod brings: (resource, configuration, empty if there is none yet).

    :param tree: listeners.
    :param found: what extensions have got by themselves.
    """
    for name, path, types in pointers(tree):
        # Until it comes, all traffic is refused: nobody else says so in this way.
        if not path and _engines.RBAC in types:
            yield name, found.get(name, {})
    for name, typed in _configured(tree):
        if _envoy_filter.version_of(typed):
            yield name, typed


def _configured(tree: t.Any) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """Every filter that stands in a listener with its configuration."""
    if isinstance(tree, dict):
        if isinstance(tree.get("typed_config"), dict):
            yield tree.get("name", ""), tree["typed_config"]
        tree = list(tree.values())
    for child in tree if isinstance(tree, list) else []:
        yield from _configured(child)


def _brought(gateway: Gateway, resource: str, typed: dict[str, t.Any]) -> dict[str, t.Any]:
    """What Envoy runs of it. In no file of the host is who published it, when and why, and Envoy knows no version."""
    kind = Kind(f"filter {resource}", f"{resource}.json", f"{FILTER_STATS}{resource}.")
    running = gateway.admin.running(kind, gateway.process)
    content = _engines.unwrap(typed) if _envoy_filter.version_of(typed) else typed
    return {
        "name": _envoy_filter.filter_of(resource),
        "path": "",
        "running_version": None,
        "closed": not typed,
        "extension": _extension(gateway, content) if typed else None,
        "counters": _counted(running) if running else {},
    }


def _names(tree: t.Any) -> t.Iterator[str]:
    """Every filter in a chain, in order."""
    children: list[t.Any] = []
    if isinstance(tree, dict):
        if "config_discovery" in tree or "typed_config" in tree:
            yield tree.get("name", "")
        children = list(tree.values())
    elif isinstance(tree, list):
        children = tree
    for child in children:
        yield from _names(child)


def _store(directory: str | None) -> tuple[Store | None, bytes]:
    if directory is None:
        return None, b""
    if not os.path.isdir(directory):
        raise invalid("directory", f"no directory at {directory}", "the directory that Envoy reads from")
    status = os.stat(directory)
    store = Store(directory.rstrip("/"), Files(status.st_uid, status.st_gid))
    return store, store.key(write=False)


def _desired(params: dict[str, t.Any], store: Store | None, key: bytes) -> dict[str, t.Any]:
    if params["desired"] is None or store is None:
        return {}
    found, _purged = wanted(params["desired"], check_secrets(params["secrets"]), store.directory, key)
    return {item.kind.name: item.content for item in found}


def _filter(gateway: Gateway, name: str, path: str) -> dict[str, t.Any]:
    try:
        kind = filter_kind(name)
    except Failure:
        # Somebody else's filter, with a name that this collection would not give.
        return {"name": name, "path": path, "running_version": None, "counters": {}}
    return {**_look(gateway, kind, path), "name": name}


def _look(gateway: Gateway, kind: Kind, path: str) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {"name": kind.name, "path": path, "running_version": None, "counters": {}}
    running = gateway.admin.running(kind, gateway.process, gateway.server.static)
    if running is None:
        return result
    result["running_version"] = running.text
    result["counters"] = _counted(running)
    if gateway.store is None:
        return result
    return {**result, **_disk(gateway, Shelf(gateway.store, kind, gateway.key), running, path)}


def _counted(running: Running) -> dict[str, int]:
    return {"attempts": running.attempts, "rejected": running.rejected, "failed": running.failed}


def _disk(gateway: Gateway, shelf: Shelf, running: Running, path: str) -> dict[str, t.Any]:
    kind, disk, record = shelf.kind, shelf.disk(), shelf.record()
    confirmed = record.confirmed if record else None
    own = decide(disk.version.digest if disk.version else "", disk, confirmed, running)
    digest = shelf.digest(gateway.desired[kind.name]) if kind.name in gateway.desired else None
    plan = decide(digest, disk, confirmed, running) if digest else own
    problem = disk.reason if path == shelf.live else f"is not the one that Envoy reads, {path}"
    kept = _with_record(shelf.in_service(record), record)
    return {
        "disk_version": str(disk.version) if disk.version else None,
        "disk_problem": problem or None,
        "confirmed_version": str(confirmed.version) if confirmed else None,
        "confirmed_at": record.at if record else None,
        "in_service": own.action == "none" and not problem and bool(confirmed and confirmed.version == disk.version),
        "closed": kind.filter is not None
        and (not running.text or (disk.initial and running.text == str(disk.version))),
        "expiries": _expiries(kept.view.get("config"), "config") if kept else [],
        "extension": _extension(gateway, kept.content) if kept and kind.filter else None,
        "change": _told(kept.change) if kept else None,
        "generations": [
            {"version": str(item.version), "change": _told(item.change)} for item in reversed(shelf.history())
        ],
        "desired_digest": digest,
        "action": plan.action,
        "found": plan.found,
    }


def _with_record(kept: Kept | None, record: Record | None) -> Kept | None:
    """With what only the record notes, as it was before generations had notes."""
    if kept and record and record.confirmed.version == kept.version:
        return kept._replace(view=kept.view or record.view, change=kept.change or record.change)
    return kept


def _told(change: Change | None) -> dict[str, t.Any] | None:
    return change._asdict() if change else None


def _extension(gateway: Gateway, content: dict[str, t.Any]) -> dict[str, t.Any] | None:
    extension = kept_extension(content)
    if extension is None:
        return None
    try:
        _library.check_loaded(extension, gateway.process)
        loaded = True
    except (Failure, OSError):
        loaded = False
    return {"path": extension.path, "sha256": extension.sha256, "loaded": loaded}


def _expiries(config: t.Any, path: str) -> list[dict[str, str]]:
    if isinstance(config, list):
        return [found for index, item in enumerate(config) for found in _expiries(item, f"{path}[{index}]")]
    if not isinstance(config, dict):
        return []
    found = []
    for key, item in config.items():
        if key == "not_after" and isinstance(item, str):
            try:
                at = moment(item, path)
            except Failure:
                continue
            name = config.get("username") or config.get("name")
            found.append({"path": f"{path}.not_after", "name": name if isinstance(name, str) else "", "at": at})
        else:
            found.extend(_expiries(item, f"{path}.{key}"))
    return found


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
            "control_plane": {
                "type": "dict",
                "options": {
                    "timeout": {"type": "float", "default": 60.0},
                    "service": {"type": "str", "default": ""},
                },
            },
            "timeout": {"type": "float", "default": 5.0},
            "desired": {
                "type": "dict",
                "options": {
                    name: {"type": "list", "elements": "dict", "default": []}
                    for name in ("filters", "listeners", "clusters")
                },
            },
            # Ansible would make a dict of a text, and print that: it only hides the text as it came.
            "secrets": {"type": "raw", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    conclude(module, lambda: {"changed": False, **info(module.params)})


if __name__ == "__main__":
    main()
