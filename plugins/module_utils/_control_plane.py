# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: whether an Envoy hears from its control plane, and why not, as far as its log and its counters tell."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import subprocess
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin, Server
from ansible_collections.moe.gateway.plugins.module_utils._ads import AUTHORITY, CLUSTER, IDENTITY
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

_PAUSE = 0.25
_ANSWER = 5.0
_TAIL = 1024 * 1024
_CONNECTED = "control_plane.connected_state"
_NAME = "control_plane.identifier"
#: What Envoy says when the stream ends: a gRPC status and a text.
_CLOSED = re.compile(r"(?:gRPC config|DeltaAggregatedResources|StreamAggregatedResources)\S* .*?closed[^:]*: (.*)")
#: A line of the main thread has the process's own number.
_LINE = re.compile(
    r"^\[[-0-9 :.]+\]\[(\d+)\]\[(?:warning|error|critical|info|debug)\]\[[\w.-]+\] (?:\[[^\]]*\] )?(.*)$", re.MULTILINE
)
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
    tried = [said for said in map(_try, ways(_bootstrap(admin))) if said]
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
        + (f"Tried from this host: {'; '.join(tried)}. " if tried else "")
        + ("The gateway goes on with what it has." if serves else "The gateway serves nothing until there is one."),
        reason=reason,
        hints=hints,
        tried=tried,
        state=server.state,
        serves=serves,
    )


class Way(t.NamedTuple):
    """How Envoy gets to one of its control planes."""

    host: str
    port: int
    #: whose certificate it expects; empty without TLS
    server_name: str = ""
    #: where the certificates are
    directory: str = ""


def ways(bootstrap: dict[str, t.Any]) -> list[Way]:
    """The ways that a bootstrap of the role ``envoy`` has."""
    found = []
    for cluster in bootstrap.get("static_resources", {}).get("clusters", []):
        if cluster.get("name") != CLUSTER:
            continue
        tls = cluster.get("transport_socket", {}).get("typed_config", {})
        configs = tls.get("common_tls_context", {}).get("tls_certificate_sds_secret_configs", [])
        path = configs[0]["sds_config"]["path_config_source"]["path"] if configs else ""
        for group in cluster.get("load_assignment", {}).get("endpoints", []):
            for item in group.get("lb_endpoints", []):
                address = item["endpoint"]["address"]["socket_address"]
                where = address["address"], address["port_value"]
                found.append(Way(*where, tls.get("sni", ""), os.path.dirname(path)))
    return found


def _bootstrap(admin: Admin) -> dict[str, t.Any]:
    data = admin.json("/config_dump?mask=bootstrap.static_resources")
    return next((item["bootstrap"] for item in data.get("configs", []) if "bootstrap" in item), {})


def _try(way: Way) -> str:
    """What a connection like Envoy's own comes to; empty if nothing is wrong with it.

    Envoy says why one fails only after half a minute, and not always.
    """
    # Costs every run some milliseconds, and few need it.
    import ssl

    where = f"{way.host}:{way.port}"
    try:
        with socket.create_connection((way.host, way.port), _ANSWER) as sock:
            if way.server_name:
                context = ssl.create_default_context(cafile=os.path.join(way.directory, f"{AUTHORITY}.pem"))
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.load_cert_chain(os.path.join(way.directory, f"{IDENTITY}.pem"))
                context.set_alpn_protocols(["h2"])
                with context.wrap_socket(sock, server_hostname=way.server_name) as tls:
                    # Whether the other side takes the certificate is heard only now. It begins with its settings.
                    if not tls.recv(1):
                        return f"{where} closes the connection"
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {where} is not trusted: {error.verify_message.rstrip('.')}"
    except ssl.SSLError as error:
        return f"TLS to {where} fails: {(error.reason or str(error)).lower().replace('_', ' ')}"
    except socket.timeout:
        return f"{where} does not answer within {_ANSWER:g} s"
    except OSError as error:
        return f"{where}: {error.strerror or error}"
    return ""


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
