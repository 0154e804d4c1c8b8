# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a gateway is, and where a hot restart should bring it: what runs, and what is wanted instead."""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _control_plane, _hot_restart, _library
from ansible_collections.moe.gateway.plugins.module_utils._admin import Peer, Server
from ansible_collections.moe.gateway.plugins.module_utils._desired import Wanted, wanted
from ansible_collections.moe.gateway.plugins.module_utils._engines import (
    DYNAMIC_MODULE,
    Extension,
    library_of,
    type_name,
    with_library,
)
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._kinds import (
    CLUSTERS,
    LISTENERS,
    Kind,
    filter_kind,
    pointers,
)
from ansible_collections.moe.gateway.plugins.module_utils._resolve import kept_extension
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version
from ansible_collections.moe.gateway.plugins.module_utils._transaction import Desired, Gateway
from ansible_collections.moe.gateway.plugins.module_utils._twin import Twin
from ansible_collections.moe.gateway.plugins.module_utils._way_back import Wanted as Generation
from ansible_collections.moe.gateway.plugins.module_utils._way_back import choose


class Revision(t.NamedTuple):
    """What one kind of configuration is to be after the hot restart."""

    kind: Kind
    content: t.Any
    view: dict[str, t.Any]
    #: the version that is on disk, or will be
    version: Version
    #: whether only the new Envoy is to read it
    differs: bool = False


class Target(t.NamedTuple):
    """Where the gateway is, and where it should come to."""

    server: Server
    peer: Peer
    #: what the supervisor says
    supervisor: dict[str, t.Any]
    twin: Twin
    revisions: list[Revision]
    #: filters of which nothing should be left
    purged: list[Kind]

    def reached(self, start: str) -> bool:
        return self.supervisor["serving"]["start"] == start and not any(item.differs for item in self.revisions)


def target(params: dict[str, t.Any], gateway: Gateway, secrets: dict[str, str], write: bool) -> Target:
    """The store is locked."""
    server, peer = gateway.admin.server(), gateway.admin.peer()
    supervisor = _supervisor(params["run_dir"], peer.process.pid)
    twin = Twin(gateway.store)
    if write:
        twin.recover(peer.process)
    elsewhere = _control_plane.look(gateway.admin)
    if params["control_plane"]:
        if elsewhere and not elsewhere.connected and supervisor["serving"]["start"] != params["start"]:
            raise Failure(
                "not_connected",
                "envoy_ads_istiods: found no istiod that Envoy is connected to, expected one: a new Envoy would wait "
                "for it, and leave the one that serves without its admin interface. Nothing has changed. Bring it "
                "back, or restart Envoy instead (envoy_hot_restart: false), which closes its connections.",
            )
        return Target(server, peer, supervisor, twin, [], [])
    read = server.static is None and elsewhere is None
    settled = _settled(gateway, server, read)
    revisions = [_with_extension(gateway, item, params["extensions"], write) for item in settled]
    wanted, purged = _wanted(params, gateway, secrets)
    return Target(server, peer, supervisor, twin, _merged(gateway, read, revisions, wanted, write), purged)


def _supervisor(run_dir: str, pid: int) -> dict[str, t.Any]:
    found = _hot_restart.status(run_dir)
    if found is None:
        raise Failure(
            "no_supervisor",
            f"run_dir: no supervisor answers in {run_dir}, so only a restart leads to another Envoy. "
            "Nothing has changed.",
        )
    serving = found.get("serving") or {}
    if serving.get("pid") != pid:
        raise Failure(
            "no_supervisor",
            f"run_dir: the supervisor in {run_dir} looks after the Envoy with PID {serving.get('pid')}, and PID {pid} "
            "is behind admin_socket. Nothing has changed.",
        )
    return found


def _settled(gateway: Gateway, server: Server, read: bool) -> list[Revision]:
    """What was confirmed last of each kind. That is what runs and what is on disk, if need be from now on.

    An edit in place, which the Envoy that runs does not see, would be what the next one starts with. With the config
    source ``static``, only the next one can bring what does not run.

    :param read: whether Envoy reads these files, and has not all in its bootstrap or from a control plane.
    """
    revisions = []
    for kind in [CLUSTERS, LISTENERS, *_filters(gateway)]:
        shelf = gateway.shelf(kind)
        record = shelf.record()
        if record is None:
            continue
        content = shelf.last_good(record)
        if not read:
            version = on_disk = shelf.disk().version
            if version is None or version.digest != shelf.digest(content):
                version = Version(shelf.digest(content), shelf.next_generation(record))
            runs = server.static.versions.get(kind.name) if server.static else str(on_disk)
            differs = runs != str(version)
            revisions.append(Revision(kind, content, record.view, version, differs))
            continue
        desired = Desired(content, record.view, secrets=tuple(texts(content)))
        try:
            gateway.execute(gateway.prepare(kind, desired))
        except Failure as failure:
            if kind.filter is not None and failure.code == "wrong_gateway":
                # No listener names it any more.
                continue
            raise
        version = shelf.disk().version or record.confirmed.version
        revisions.append(Revision(kind, content, record.view, version))
    return revisions


def _filters(gateway: Gateway) -> t.Iterator[Kind]:
    """Every filter that was ever confirmed, also where its live file is gone."""
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(gateway.store.files.names(os.path.join(gateway.store.state, "filters"))):
            with contextlib.suppress(Failure):
                yield filter_kind(name)


def _with_extension(gateway: Gateway, revision: Revision, extensions: dict[str, str], write: bool) -> Revision:
    """The same filter with the extension that it is to have under the new Envoy."""
    path = extensions.get(revision.kind.filter or "")
    if path is None or type_name(revision.content) != DYNAMIC_MODULE or library_of(revision.content) == path:
        return revision
    extension = Extension.at(path, f"extensions.{revision.kind.filter}")
    view = {**revision.view, "extension": path}
    return _next(gateway, Wanted(revision.kind, with_library(revision.content, path), view, extension), write)


def _next(gateway: Gateway, wanted: Wanted, write: bool) -> Revision:
    """What is wanted, as the revision after the one that is there."""
    # In check mode nobody has put it there.
    if wanted.extension and (write or os.path.exists(wanted.extension.path)):
        _library.check_file(wanted.extension)
    shelf = gateway.shelf(wanted.kind)
    version = Version(shelf.digest(wanted.content), shelf.next_generation(shelf.record()))
    return Revision(wanted.kind, wanted.content, wanted.view, version, True)


def _wanted(params: dict[str, t.Any], gateway: Gateway, secrets: dict[str, str]) -> tuple[list[Wanted], list[Kind]]:
    """What the options name: the generations to go back to, and what is made from variables."""
    found = []
    for name, version in params["versions"].items():
        kind = next((kind for kind in (CLUSTERS, LISTENERS) if kind.name == name), None)
        kind = kind or filter_kind(name.removeprefix("filter "), "versions")
        shelf = gateway.shelf(kind)
        current = shelf.in_service(shelf.record())
        kept = choose(shelf.history(), current, Generation(version=version), kind.name)
        extension = kept_extension(kept.content) if kind.filter else None
        found.append(Wanted(kind, kept.content, kept.view, extension))
    if params["desired"] is None:
        return found, []
    more, purged = wanted(params["desired"], secrets, gateway.store.directory, gateway.key)
    return [*found, *more], purged


def _merged(gateway: Gateway, read: bool, settled: list[Revision], wanted: list[Wanted], write: bool) -> list[Revision]:
    """What was settled, but for what is wanted instead."""
    found = {revision.kind.name: revision for revision in settled}
    for item in wanted:
        before = found.get(item.kind.name)
        if before and before.version.digest == gateway.shelf(item.kind).digest(item.content):
            found[item.kind.name] = before._replace(view=item.view)
        else:
            found[item.kind.name] = _next(gateway, item, write)
    if read:
        return list(found.values())
    listeners = found[LISTENERS.name].content if LISTENERS.name in found else []
    named = {name for name, _path, _types in pointers(listeners)}
    for item in wanted:
        if item.kind.filter and item.kind.filter not in named:
            raise Failure("wrong_gateway", f"{item.kind.name}: no listener names it. Nothing has changed.")
    return [item for item in found.values() if item.kind.filter is None or item.kind.filter in named]


def texts(content: t.Any) -> t.Iterator[str]:
    """Every text that may be a secret."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in ("@type", "filename", "name", "filter_name"):
                yield from texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from texts(value)
    elif isinstance(content, str) and content:
        try:
            inside = json.loads(content)
        except ValueError:
            inside = None
        if isinstance(inside, (dict, list)):
            yield from texts(inside)
        elif len(content) > 3:
            yield content
