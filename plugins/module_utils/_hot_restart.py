# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From one Envoy to another one: how that goes, and what the supervisor of the role ``envoy`` says of it."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

#: ``PROTOCOL`` of roles/envoy/files/supervisor.py
PROTOCOL = 1
NAME = "MOE_GATEWAY_START"


class Way(t.NamedTuple):
    """How a gateway gets to another Envoy: ``none`` is needed, ``hot_restart`` or ``restart``."""

    how: str
    #: why it can't be a hot restart, for people
    why: str = ""


def way(outdated: bool, wanted: bool, supervisor: dict[str, t.Any] | None, versions: tuple[str, str] | None) -> Way:
    """:param outdated: whether an Envoy runs that was started from something else.

    :param wanted: whether a hot restart is wanted where it is possible.
    :param supervisor: what the supervisor says, if one answers.
    :param versions: the hot restart versions of the binary that runs and of the new one, if both are known.
    """
    if not outdated:
        return Way("none")
    if not wanted:
        return Way("restart", "envoy_hot_restart is off")
    if supervisor is None:
        return Way("restart", "the one that runs was started without a supervisor")
    if supervisor.get("protocol") != PROTOCOL:
        return Way("restart", f"its supervisor speaks protocol {supervisor.get('protocol')}, expected {PROTOCOL}")
    if not supervisor.get("serving"):
        return Way("restart", "the one that runs does not serve yet")
    if versions and versions[0] != versions[1]:
        return Way("restart", f"the hot restart version is {versions[0]} and would be {versions[1]}")
    return Way("hot_restart")


def ask(run_dir: str, question: dict[str, t.Any], timeout: float) -> dict[str, t.Any]:
    """What the supervisor says; an ``OSError`` or ``ValueError`` if there is none, or none that answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(os.path.join(run_dir, "supervisor.sock"))
        # struct ucred of the process that called listen(): socket(7)
        _pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        sock.sendall(json.dumps(question).encode() + b"\n")
        with sock.makefile("rb") as file:
            answer = json.loads(file.readline())
    if not isinstance(answer, dict):
        raise ValueError("not a supervisor's answer")
    return {**answer, "uid": uid, "gid": gid}


def status(run_dir: str, timeout: float = 10.0) -> dict[str, t.Any] | None:
    """What the supervisor says of its Envoys; ``None`` if there is none."""
    try:
        return ask(run_dir, {"do": "status"}, timeout)
    except (FileNotFoundError, ConnectionRefusedError, ValueError):
        return None
    except OSError as error:
        raise Failure("supervisor_hung", f"run_dir: the supervisor in {run_dir} does not answer: {error}.") from None


def versions(supervisor: dict[str, t.Any] | None, binary: str) -> tuple[str, str] | None:
    """Hot restart versions of the Envoy that serves and of ``binary``; ``None`` where one of them can't be told."""
    if not supervisor or not supervisor.get("serving"):
        return None
    serving = supervisor["serving"]
    try:
        old, new = (_version(path, supervisor["uid"], supervisor["gid"]) for path in (serving["command"][0], binary))
    except (OSError, subprocess.SubprocessError):
        return None
    return old, new


def _version(binary: str, uid: int, gid: int) -> str:
    # As Envoy's user, who has named one of the binaries.
    identity: dict[str, t.Any] = {}
    if os.geteuid() == 0 and uid != 0:
        identity = {"user": uid, "group": gid, "extra_groups": []}
    done = subprocess.run(
        [binary, "--hot-restart-version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=10,
        check=True,
        cwd="/",
        **identity,
    )
    return done.stdout.decode("ascii", "replace").strip()
