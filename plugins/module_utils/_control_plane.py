# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: whether an Envoy hears from its control plane, and why not, as far as its log and its counters tell."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin, Server
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

_PAUSE = 0.25
_TAIL = 1024 * 1024
_CONNECTED = "control_plane.connected_state"
_NAME = "control_plane.identifier"
#: What Envoy says when the stream ends: a gRPC status and a text.
_CLOSED = re.compile(r"(?:gRPC config|DeltaAggregatedResources|StreamAggregatedResources)\S* .*?closed[^:]*: (.*)")
#: A line of the main thread has the process's own number.
_LINE = re.compile(r"^\[[-0-9 :.]+\]\[(\d+)\]\[(?:warning|error|critical|info|debug)\]\[[\w.-]+\] (?:\[[^\]]*\] )?(.*)$", re.MULTILINE)
#: What a counter of the cluster of control planes that isn't 0 says, the most telling first.
_HINTS = (
    ("upstream_context_secrets_not_ready", "Envoy can't use the certificate, the key or the CA that it was given"),
    ("ssl.fail_verify_san", "its certificate has not the name that is expected (envoy_ads_server_name)"),
    ("ssl.fail_verify_error", "its certificate is not of envoy_ads_ca_certificate, or not valid now"),
    ("upstream_cx_connect_timeout", "it does not answer in time"),
    ("ssl.connection_error", "the TLS handshake fails"),
    ("upstream_cx_connect_fail", "connections to it are refused"),
    ("update_failure", "its name can't be resolved"),
    ("upstream_cx_destroy_remote_with_active_rq", "it closes the connection, as one does that refuses the certificate"),
)


class State(t.NamedTuple):
    connected: bool
    #: what the control plane calls itself; Envoy keeps it after the connection is gone
    name: str


def look(admin: Admin) -> State | None:
    """``None`` if Envoy has no control plane."""
    stats = admin.stats(f"^({re.escape(_CONNECTED)}|{re.escape(_NAME)})$")
    if _CONNECTED not in stats:
        return None
    return State(stats[_CONNECTED] == 1, str(stats.get(_NAME) or ""))


def wait(path: str, patience: float, timeout: float, service: str) -> None:
    """Wait until an Envoy serves what its control plane says, and is connected to that; a ``Failure`` if it doesn't.

    :param path: the admin socket.
    :param timeout: seconds for each answer of Envoy's.
    :param service: the unit that has its log, where that is in the journal.
    """
    deadline = time.monotonic() + patience
    while True:
        # A connection for each look: after a restart, another Envoy is behind the socket.
        admin = Admin(path, timeout)
        failure = None
        try:
            server, state = admin.server(), look(admin)
            if server.state == "LIVE" and state and state.connected:
                return
        except Failure as down:
            if down.code != "envoy_down":
                raise
            failure = down
        if time.monotonic() >= deadline:
            raise failure or _explained(admin, server, state, patience, service)
        time.sleep(_PAUSE)


def _explained(admin: Admin, server: Server, state: State | None, patience: float, service: str) -> Failure:
    pid = admin.peer().process.pid
    reason = closings(_log(server.log_path or f"/proc/{pid}/fd/2", service), pid)
    serves = server.state == "LIVE"
    stats = {name: value for name, value in admin.stats(r"^cluster\.istiod\.").items() if value}
    hints = [text for name, text in _HINTS if stats.get(f"cluster.istiod.{name}")]
    if state and state.connected:
        what = f"an Envoy that is {server.state}, since istiod has not told it all that it needs"
    else:
        what = "no istiod that Envoy is connected to"
    return Failure(
        "not_connected",
        f"envoy_ads_istiods: found {what}, after {patience:g} s, expected one that tells it what to serve. "
        + (f"Envoy's log says: {reason.rstrip('.')}. " if reason else "Envoy's log does not say why. ")
        + (f"By its counters, {hints[0]}. " if hints else "")
        + ("The gateway goes on with what it has." if serves else "The gateway serves nothing until there is one."),
        reason=reason,
        hints=hints,
        state=server.state,
        serves=serves,
    )


def closings(log: str, pid: int) -> str:
    """The last reason in a log for which the stream from the control plane ended, for one process."""
    for mark in reversed(list(_LINE.finditer(log))):
        found = _CLOSED.search(mark[2]) if int(mark[1]) == pid else None
        if found:
            return found[1].strip()[:500]
    return ""


def _log(path: str, service: str) -> str:
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
                return file.read(_TAIL).decode("utf-8", "replace")
    if service:
        command = ["journalctl", f"--unit={service}", "--lines=2000", "--output=cat", "--no-pager"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=10, check=False)
            return done.stdout.decode("utf-8", "replace")
    return ""
