# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: what a host is and who is on it, before anything is changed there."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _preflight, _process
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._preflight import Host, Place, Taker, Unit

_ADMIN_TIMEOUT = 5.0
#: In every process that the role envoy starts.
_OURS = b"MOE_GATEWAY_START="
_UNITS = "/etc/systemd/system"
#: Where systemd looks for units, the first that has one counts (systemd.unit(5)).
_UNIT_FOLDERS = (
    _UNITS,
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


def look(
    endpoints: t.Sequence[tuple[str, int]],
    admin_socket: str | None,
    unit: str | None,
    now: float | None,
    places: t.Iterable[tuple[str, str, int]],
    alone: bool = True,
) -> Host:
    """:param unit: of this gateway's Envoy under systemd, without ``.service``; ``None`` without systemd.

    :param now: the controller's time.
    :param places: (key, path, bytes that are needed there).
    :param alone: whether no other unit may run an Envoy.
    """
    ahead = time.time() - now if now is not None else 0.0
    peer = _peer(admin_socket)
    own = peer if peer is not None and _is_own(peer, unit) else None
    # Without an Envoy, whoever listens is a stranger to this process.
    strangers = _process.intruders(own or os.getpid(), endpoints)
    return Host(
        takers=[
            Taker(found.address, found.port, found.pid, _command(found.pid))
            for found in strangers
            if not (found.pid and unit and _is_own(found.pid, unit))
        ],
        stranger=Taker("", 0, peer, _command(peer)) if peer is not None and own is None else None,
        units=_units(unit, alone) if unit else [],
        systemd=_systemd(unit) if unit else None,
        ahead=ahead,
        places=[_place(*place) for place in places],
    )


def service(unit: str) -> dict[str, str]:
    """Whether systemd runs a unit, starts it at boot, and has read its file; empty without systemd.

    By the names of systemd's own properties (org.freedesktop.systemd1(5)).
    """
    properties = "ActiveState,UnitFileState,NeedDaemonReload"
    try:
        output = subprocess.run(
            ["systemctl", "show", f"--property={properties}", f"{unit}.service"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def _peer(admin_socket: str | None) -> int | None:
    if admin_socket is None:
        return None
    try:
        return Admin(admin_socket, _ADMIN_TIMEOUT).peer().process.pid
    except Failure as failure:
        if failure.code == "envoy_down":
            return None
        raise


def _is_own(pid: int, unit: str | None) -> bool:
    """Whether the role envoy started this process, and systemd has it in the unit, where there is one."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/environ", "rb") as file:
            started = any(entry.startswith(_OURS) for entry in file.read().split(b"\0"))
        return started and (unit is None or _unit_of(pid) == f"{unit}.service")
    return False


def _unit_of(pid: int) -> str:
    """The service that a process belongs to, empty if it belongs to none."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
        return _preflight.service(file.read())
    return ""


def _command(pid: int | None) -> str:
    """What it runs, without arguments, which may hold anything."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().split(b"\0")[0].decode("utf-8", "replace")
        if command:
            return command[:200]
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    return "which has ended since"


def _units(unit: str, alone: bool) -> list[Unit]:
    """Units of somebody else: one of this name, and those that run an Envoy."""
    name = f"{unit}.service"
    found = {}
    path = os.path.join(_UNITS, name)
    if os.path.lexists(path) and not _text(path).startswith(_preflight.MARK):
        found[name] = Unit(name, "in the way", path)
    if not alone:
        return list(found.values())
    for other in sorted(_enabled() - {name}):
        where = _file_of(other)
        if where and _preflight.starts_envoy(_text(where)):
            found[other] = Unit(other, "enabled", where)
    for pid in _envoys():
        running = _unit_of(pid)
        if not running or running in found or _is_own(pid, None):
            continue
        # One that only runs within it, as the throwaway Envoy of another controller in ssh.service, ends by itself.
        if _preflight.starts_envoy(_text(_file_of(running) or "")):
            found[running] = Unit(running, "active", f"PID {pid}")
    return list(found.values())


def _enabled() -> set[str]:
    """Services that systemd starts by itself."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for folder in os.listdir(_UNITS):
            if folder.endswith((".wants", ".requires")):
                with contextlib.suppress(OSError):
                    found |= {name for name in os.listdir(os.path.join(_UNITS, folder)) if name.endswith(".service")}
    return found


def _file_of(name: str) -> str | None:
    """The file of a unit; ``None`` if there is none or it is masked."""
    for folder in _UNIT_FOLDERS:
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            return None if os.path.realpath(path) == os.devnull else path
    return None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _envoys() -> t.Iterator[int]:
    """Processes that run a program which is called Envoy."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.path.basename(os.readlink(f"/proc/{name}/exe")).startswith("envoy"):
                    yield int(name)


def _systemd(unit: str) -> int | None:
    if not os.path.isdir("/run/systemd/system"):
        return None
    if _text(os.path.join(_UNITS, f"{unit}.service")).startswith(_preflight.MARK):
        # It was asked when the unit was put there, and nobody goes back to an older one.
        return 1 << 16
    try:
        output = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    match = re.match(r"systemd (\d+)", output)
    return int(match[1]) if match else None


def _place(key: str, path: str, needed: int) -> Place:
    there = path
    while not os.path.exists(there):
        there = os.path.dirname(there)
    status = os.statvfs(there)
    # What root alone may use is not counted: Envoy's user writes as well.
    return Place(key, path, os.stat(there).st_dev, needed, status.f_bavail * status.f_frsize)
