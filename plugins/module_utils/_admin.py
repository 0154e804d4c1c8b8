# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: Envoy's admin interface on its Unix socket, and who is behind it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import stat
import struct
import typing as t
from urllib.parse import quote

from ansible_collections.moe.gateway.plugins.module_utils._decision import Process, Running
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._get import Connection
from ansible_collections.moe.gateway.plugins.module_utils._kinds import Kind
from ansible_collections.moe.gateway.plugins.module_utils._process import started

#: ``sun_path`` of ``sockaddr_un`` on Linux, less its final NUL (unix(7))
_LONGEST_SOCKET = 107


class Static(t.NamedTuple):
    """The directory that a bootstrap of the config source ``static`` was made from, and what was in there."""

    directory: str
    #: by the names of the kinds
    versions: dict[str, str]


class Server(t.NamedTuple):
    """What ``/server_info`` says, as far as it matters here."""

    version: str
    #: LIVE, DRAINING, PRE_INITIALIZING or INITIALIZING
    state: str
    restart_epoch: int
    #: seconds since the current epoch began
    uptime: int
    #: empty if Envoy logs to its standard error
    log_path: str
    node: dict[str, t.Any]

    @property
    def static(self) -> Static | None:
        """``None`` unless the role ``envoy`` (static.py) has put everything into the bootstrap."""
        found = self.node.get("metadata", {}).get("moe.gateway")
        return Static(found["directory"], found["versions"]) if found else None


class Peer(t.NamedTuple):
    """Who listens on the admin socket."""

    process: Process
    uid: int
    gid: int


class Admin:
    """One connection to the admin interface, opened anew where it was closed.

    :param path: the Unix socket.
    :param timeout: seconds for each answer.
    """

    def __init__(self, path: str, timeout: float) -> None:
        if len(path.encode()) > _LONGEST_SOCKET:
            raise invalid("admin_socket", f"a path of {len(path.encode())} bytes", f"at most {_LONGEST_SOCKET} bytes")
        self.path = path
        self.timeout = timeout
        self._connection = Connection(path, timeout)

    def get(self, target: str) -> bytes:
        """The body that Envoy gives for ``target``.

        Raises ``envoy_down``, ``envoy_hung``, ``admin_denied`` or ``admin_error``.
        """
        for attempt in (1, 2):
            reused = self._connection.is_open
            try:
                status, body = self._connection.get(target)
                break
            except socket.timeout:
                message = (
                    f"The Envoy behind {self.path} does not answer within {self.timeout:g} s: it hangs or is stopped."
                )
                raise Failure("envoy_hung", message, socket=self.path) from None
            except OSError as error:
                if reused and attempt == 1:
                    continue
                raise self._unreachable(error) from error
        if status != 200:
            text = body.decode("utf-8", "replace").strip()[:200]
            raise Failure("admin_error", f"Envoy's admin interface answers {target} with {status}: {text}")
        return body

    def _unreachable(self, error: Exception) -> Failure:
        number = getattr(error, "errno", None)
        if number == errno.EACCES:
            return Failure(
                "admin_denied",
                f"admin_socket: {self.path} may not be used by this user. Run as Envoy's user, or with become.",
                socket=self.path,
            )
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.stat(self.path).st_mode):
                return Failure("envoy_down", f"admin_socket: {self.path} is not a socket.", socket=self.path)
        what = {
            errno.ENOENT: "there is no such socket",
            errno.ECONNREFUSED: "nobody listens there (Envoy was ended without removing its socket)",
        }.get(number or 0, str(error) or type(error).__name__)
        return Failure("envoy_down", f"admin_socket: no Envoy answers at {self.path}: {what}.", socket=self.path)

    def json(self, target: str) -> t.Any:
        body = self.get(target)
        try:
            return json.loads(body)
        except ValueError:
            raise self._stranger(target, body) from None

    def _stranger(self, target: str, body: bytes) -> Failure:
        message = f"admin_socket: {self.path} answers {target} with {body[:80]!r}: not Envoy's admin interface?"
        return Failure("admin_error", message, socket=self.path)

    def server(self) -> Server:
        data = self.json("/server_info")
        try:
            options = data["command_line_options"]
            return Server(
                version=data["version"].split("/")[1],
                state=data["state"],
                restart_epoch=int(options["restart_epoch"]),
                uptime=int(data["uptime_current_epoch"].rstrip("s")),
                log_path=options.get("log_path", ""),
                node=data.get("node", {}),
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise self._stranger("/server_info", json.dumps(data).encode()) from None

    def peer(self) -> Peer:
        """The one Envoy that answers here, whatever its configuration says of it."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(self.timeout)
                sock.connect(self.path)
                # SO_PEERCRED of a Unix stream socket is struct ucred of the process that called listen(): socket(7)
                pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError as error:
            raise self._unreachable(error) from error
        return Peer(Process(pid, started(pid)), uid, gid)

    def stats(self, pattern: str) -> dict[str, t.Any]:
        """Counters, gauges and texts whose name matches ``pattern`` (RE2)."""
        data = self.json(f"/stats?format=json&filter={quote(pattern, safe='')}")
        return {item["name"]: item.get("value", 0) for item in data["stats"] if "name" in item}

    def running(self, kind: Kind, process: Process, static: Static | None = None) -> Running | None:
        """What Envoy says of the subscription of ``kind``; ``None`` if it has none.

        :param static: what is in its bootstrap instead; an Envoy that did not take that would not serve.
        """
        if static:
            return Running(process, static.versions.get(kind.name, ""), 0, 0, 0)
        wanted = [kind.stats + name for name in ("version_text", "update_attempt", "update_rejected", "update_failure")]
        stats = self.stats("^(" + "|".join(re.escape(name) for name in wanted) + ")$")
        if any(name not in stats for name in wanted[1:]):
            return None
        text = stats.get(wanted[0]) or ""
        return Running(process, text, *(int(stats.get(name, 0)) for name in wanted[1:]))

    def listeners(self, *more: str) -> list[t.Any]:
        """Every listener that Envoy holds, in Envoy's own form; of one that is being replaced, both.

        :param more: ``draining_state``, for those that are being let go as well.
        """
        found = []
        for item in self._dump("dynamic_listeners"):
            found.extend(
                item[state]["listener"]
                for state in ("active_state", "warming_state", *more)
                if "listener" in item.get(state, {})
            )
        found.extend(item["listener"] for item in self._dump("static_listeners") if "listener" in item)
        return found

    def extensions(self) -> dict[str, dict[str, t.Any]]:
        """The configuration, by its name, of each extension that got one by itself (ECDS)."""
        found = (item.get("ecds_filter", {}) for item in self._dump("ecds_filters"))
        return {item["name"]: item.get("typed_config", {}) for item in found if "name" in item}

    def sources(self) -> dict[str, str]:
        """The files that Envoy's bootstrap takes clusters and listeners from."""
        data = self.json("/config_dump?mask=bootstrap.dynamic_resources")
        for item in data.get("configs", []):
            resources = item.get("bootstrap", {}).get("dynamic_resources", {})
            if resources:
                keys = {"clusters": "cds_config", "listeners": "lds_config"}
                return {
                    name: resources.get(key, {}).get("path_config_source", {}).get("path", "")
                    for name, key in keys.items()
                }
        return {}

    def _dump(self, resource: str) -> list[t.Any]:
        return self.json(f"/config_dump?resource={resource}").get("configs", [])
