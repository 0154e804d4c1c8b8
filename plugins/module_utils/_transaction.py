# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction: resolve, validate, publish, confirm; restore what was there if Envoy refuses, and say why.

The same for every kind of configuration (see ``_kinds``). Files, admin interface, validator and clock are handed in.
Here it finds out what there is to do; ``_execution`` does it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _process
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin, Peer, Server
from ansible_collections.moe.gateway.plugins.module_utils._decision import (
    Disk,
    Plan,
    Process,
    Running,
    decide,
)
from ansible_collections.moe.gateway.plugins.module_utils._engines import type_name
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._history import Kept
from ansible_collections.moe.gateway.plugins.module_utils._kinds import CLUSTERS, LISTENERS, Kind, pointers
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version
from ansible_collections.moe.gateway.plugins.module_utils._store import Record, Shelf, Store

if t.TYPE_CHECKING:
    from ansible_collections.moe.gateway.plugins.module_utils._validator import Validator

#: Seconds between two looks at an Envoy that starts.
_PAUSE = 0.02


class Desired(t.NamedTuple):
    """What should run."""

    content: t.Any
    #: what it was made from, for diffs: with secrets as keyed digests
    view: dict[str, t.Any]
    #: clusters to validate with, where those on disk are not the ones that will be there
    clusters: list[dict[str, t.Any]] | None = None
    #: values that no message may hold
    secrets: t.Collection[str] = ()
    #: the generation that the content was taken from, where it is not made from variables
    source: Kept | None = None
    #: raises a ``Failure`` if this Envoy process must not get the content
    check_before: t.Callable[[Process], None] = lambda _process: None
    #: raises a ``Failure`` if this Envoy process, having taken the content, does not do what it should
    check_after: t.Callable[[Process], None] = lambda _process: None


class Prepared(t.NamedTuple):
    """A validated intention."""

    kind: Kind
    desired: Desired
    shelf: Shelf
    plan: Plan
    #: the version that will run
    version: Version
    disk: Disk
    record: Record | None
    running: Running
    server: Server


class Outcome(t.NamedTuple):
    """What a transaction did."""

    plan: Plan
    version: Version
    previous: Version | None
    #: from the rename to the moment when Envoy's counters showed it, in milliseconds
    propagation_ms: float | None
    server: Server
    #: what was confirmed before, for diffs
    before: dict[str, t.Any]
    #: the Envoy that runs it
    process: Process


class Gateway:
    """One Envoy and the directory that it reads from.

    :param validator: makes the throwaway Envoy that stands in for the one behind the admin socket.
    :param write: false in check mode: then nothing at all is written.
    :param origin: who asks for what changes, for the notes beside each generation.
    """

    def __init__(
        self,
        store: Store,
        admin: Admin,
        validator: t.Callable[[Peer], Validator],
        timeout: float,
        keep: int,
        write: bool,
        clock: t.Callable[[], float] = time.monotonic,
        origin: dict[str, str] | None = None,
    ) -> None:
        self.store = store
        self.admin = admin
        self.validator = validator
        self.timeout = timeout
        self.keep = keep
        self.write = write
        self.clock = clock
        self.origin = origin or {}
        self.key = b""

    def shelf(self, kind: Kind) -> Shelf:
        return Shelf(self.store, kind, self.key)

    def prepare(self, kind: Kind, desired: Desired) -> Prepared:
        """Resolve and validate: what there is to do; nothing has changed yet. The store is locked, ``key`` is set."""
        shelf = self.shelf(kind)
        server = self._server()
        peer = self.admin.peer()
        listeners = self.admin.listeners()
        _check_endpoints(peer.process, listeners + (desired.content if kind is LISTENERS else []))
        running, types = self._subscription(kind, shelf, server, peer.process, listeners)
        desired.check_before(peer.process)
        disk = shelf.disk()
        record = shelf.record()
        plan = decide(shelf.digest(desired.content), disk, record.confirmed if record else None, running)
        if plan.action == "none" and disk.version:
            version = disk.version
        elif server.static:
            raise _hot_restart_needed(kind, peer.process, desired)
        else:
            version = Version(shelf.digest(desired.content), shelf.next_generation(record))
            clusters = self.shelf(CLUSTERS).content() if desired.clusters is None else desired.clusters
            self.validator(peer).check(kind.scratch(desired.content, clusters), kind.name, desired.secrets)
            _check_type(kind, desired.content, types)
        return Prepared(kind, desired, shelf, plan, version, disk, record, running, server)

    def execute(self, prepared: Prepared) -> Outcome:
        """Publish and confirm what was prepared; in check mode, only tell what that would be.

        Raises a :class:`Failure`; where the live file had been replaced by then, the last good content is back.
        """
        plan, record = prepared.plan, prepared.record
        before = record.view if record else {}
        previous = prepared.disk.version or (record.confirmed.version if record else None)
        outcome = Outcome(plan, prepared.version, previous, None, prepared.server, before, prepared.running.process)
        if not self.write or (plan.action == "none" and not plan.note):
            return outcome
        # Every import costs each run some milliseconds; most have nothing to do.
        from ansible_collections.moe.gateway.plugins.module_utils._execution import execute

        return execute(self, prepared, outcome)

    def purge(self, kind: Kind) -> bool:
        """Remove all files of a filter that has left the chain; whether there were any. The store is locked."""
        shelf = self.shelf(kind)
        if not shelf.exists():
            return False
        listeners = [*self.admin.listeners(), *self.shelf(LISTENERS).content()]
        if any(pointers(listeners, kind.filter or "")):
            raise Failure(
                "still_in_chain",
                f"purge: a listener still names {kind.name}; without its file Envoy would refuse that listener at "
                "the next start. Take it out of the listener first. Nothing has changed.",
            )
        if self.write:
            from ansible_collections.moe.gateway.plugins.module_utils._publish import purge

            purge(shelf)
        return True

    def _server(self) -> Server:
        """The Envoy that serves. One that starts, as in a hot restart, is given time to become ready."""
        deadline = self.clock() + self.timeout
        while True:
            server = self.admin.server()
            if server.state == "DRAINING":
                raise Failure("envoy_draining", "Envoy is draining and about to end. Nothing has changed; try again.")
            if server.state == "LIVE":
                return server
            if self.clock() >= deadline:
                message = f"Envoy is {server.state}: it has not begun to serve. Nothing has changed; try again."
                raise Failure("envoy_starting", message)
            time.sleep(_PAUSE)

    def _subscription(
        self, kind: Kind, shelf: Shelf, server: Server, process: Process, listeners: list[t.Any]
    ) -> tuple[Running, list[str] | None]:
        """What Envoy says of the live file, and of which types it may be, where that is said.

        Raises ``wrong_gateway`` if the Envoy behind the socket does not read it.
        """
        if server.static:
            sources: dict[str, list[str] | None] = {os.path.join(server.static.directory, kind.file): None}
            hint = "Its bootstrap was made from another directory."
        elif kind.filter is None:
            sources = {self.admin.sources().get(kind.name, ""): None}
            hint = f"The bootstrap has to take {kind.name} from that file."
        else:
            # Several listeners may name it, and one of them may allow fewer types than the others.
            sources = {}
            for _name, path, types in pointers(listeners, kind.filter):
                allowed = sources.get(path)
                sources[path] = types if allowed is None else [name for name in allowed if name in types]
            hint = "A listener has to name it with config_discovery; moe.gateway.envoy_config writes such listeners."
        if shelf.live not in sources:
            found = ", ".join(sorted(filter(None, sources))) or "no file"
            raise Failure(
                "wrong_gateway",
                f"admin_socket: the Envoy behind {self.admin.path} (PID {process.pid}) takes {kind.name} from {found}, "
                f"expected {shelf.live}. {hint} Nothing has changed.",
                found=found,
                expected=shelf.live,
            )
        running = self.admin.running(kind, process, server.static)
        if running is None:
            raise Failure(
                "wrong_gateway", f"Envoy has no statistics {kind.stats}*; does its stats_config leave them out?"
            )
        for name in kind.warming:
            # Without it, a listener that waits for something would pass for one that serves.
            if name not in self.admin.stats(f"^{re.escape(name)}$"):
                raise Failure("wrong_gateway", f"Envoy has no statistic {name}; does its stats_config leave it out?")
        return running, sources[shelf.live]


def _hot_restart_needed(kind: Kind, process: Process, desired: Desired) -> Failure:
    found: dict[str, t.Any] = {"pid": process.pid}
    if desired.source:
        found["version"] = str(desired.source.version)
    return Failure(
        "hot_restart_needed",
        f"{kind.name}: found another one in the bootstrap of Envoy (PID {process.pid}): with the config source static, "
        "a new Envoy has to bring it. moe.gateway.envoy_hot_restart does that. Nothing has changed.",
        **found,
    )


def _check_type(kind: Kind, content: t.Any, types: list[str] | None) -> None:
    """Raise ``type_changed`` unless the listeners allow the type of a filter's configuration."""
    if types is not None and type_name(content) not in types:
        raise Failure(
            "type_changed",
            f"{kind.name}: found type {type_name(content)}, expected one that the listener allows "
            f"({', '.join(types)}). A filter that changes its type gets a new name, so that no request meets neither. "
            "Nothing has changed.",
            found=type_name(content),
            expected=types,
        )


def _check_endpoints(process: Process, listeners: list[t.Any]) -> None:
    """Raise ``port_shared`` if another process takes connections on a port of Envoy's."""
    endpoints = [endpoint for listener in listeners for endpoint in _endpoints(listener)]
    for intruder in _process.intruders(process.pid, endpoints):
        who = f"PID {intruder.pid}" if intruder.pid else "another process"
        raise Failure(
            "port_shared",
            f"{who} listens on {intruder.address}:{intruder.port} beside Envoy (PID {process.pid}): it takes "
            "a part of the traffic, and no filter of this gateway sees that. End it, or choose another port. "
            "Nothing has changed.",
            pid=intruder.pid,
            port=intruder.port,
        )


def _endpoints(listener: dict[str, t.Any]) -> list[tuple[str, int]]:
    more = listener.get("additional_addresses")
    addresses = [item.get("address") for item in more if isinstance(item, dict)] if isinstance(more, list) else []
    return [found for found in map(_endpoint, [listener.get("address"), *addresses]) if found]


def _endpoint(address: t.Any) -> tuple[str, int] | None:
    """The IP address, as the kernel writes it, and TCP port that Envoy may yet have to judge."""
    found = address.get("socket_address") if isinstance(address, dict) else None
    if not isinstance(found, dict) or found.get("protocol", "TCP") != "TCP":
        return None
    host, port = found.get("address"), str(found.get("port_value"))
    if not isinstance(host, str) or not re.fullmatch("[1-9][0-9]{0,4}", port):
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError, ValueError):
        host = socket.inet_ntop(family, socket.inet_pton(family, host))
    return host, int(port)
