# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: what the kernel says of a running process (proc(5))."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

_DELETED = " (deleted)"


def started(pid: int) -> int:
    """Clock ticks from boot to the start of a process; 0 if it is not there."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The second field, in parentheses, may hold anything; starttime is the 22nd.
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def binary(pid: int) -> str:
    """A path of the executable that a process runs, which a process of the same user may execute.

    ``/proc/PID/exe`` itself is closed to others of its user if the process has capabilities that they lack. It is the
    only path left where the file was removed or replaced since.
    """
    link = f"/proc/{pid}/exe"
    try:
        path = os.readlink(link)
        return path if os.path.samefile(path, link) else link
    except OSError:
        return link


def replaced(pid: int) -> str | None:
    """The path that a process was started from, if there is a file by now that holds something else."""
    # Most runs don't ask for this, and every import costs each run a part of a millisecond.
    import filecmp

    link = f"/proc/{pid}/exe"
    try:
        path = os.readlink(link)
        # What the kernel adds where the file was removed, or another one renamed into its place.
        path = path[: -len(_DELETED)] if path.endswith(_DELETED) else path
        return None if os.path.samefile(path, link) or filecmp.cmp(path, link, shallow=False) else path
    except OSError:
        return None


class Library(t.NamedTuple):
    """A file with code that a process has mapped."""

    path: str
    #: of the device, as the kernel writes it; not always what ``stat`` says (overlayfs, btrfs)
    device: str
    inode: int
    #: the file was removed or replaced since; the process runs what it held before
    deleted: bool


def libraries(pid: int) -> list[Library]:
    """The shared libraries that a process has loaded, each once."""
    found = {(library.path, library.device, library.inode): library for _where, library in _mappings(pid)}
    return list(found.values())


def sha256(pid: int, library: Library) -> str | None:
    """The digest of what a process has loaded, even if the file was removed since; ``None`` if it can't be read.

    The kernel lets none but root read what is mapped.
    """
    # Not at the top, as in replaced().
    import hashlib

    where = next((where for where, mapped in _mappings(pid) if mapped == library), None)
    digest = hashlib.sha256()
    try:
        with open(f"/proc/{pid}/map_files/{where}", "rb") as file:
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
    except OSError:
        return None
    return digest.hexdigest()


def _mappings(pid: int) -> t.Iterator[tuple[str, Library]]:
    """All mappings of shared libraries, each with its name in ``/proc/PID/map_files``."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.rstrip("\n").split(None, 5)
                if len(fields) < 6 or not fields[5].startswith("/"):
                    continue
                path = fields[5]
                deleted = path.endswith(_DELETED)
                path = path[: -len(_DELETED)] if deleted else path
                if path.endswith(".so") or ".so." in path:
                    # There, addresses have no leading zeros.
                    where = "-".join(f"{int(address, 16):x}" for address in fields[0].split("-"))
                    yield where, Library(path, fields[3], int(fields[4]), deleted)
    except PermissionError:
        raise Failure(
            "process_denied", f"/proc/{pid}/maps may not be read. Run as Envoy's user, or with become.", pid=pid
        ) from None
    except FileNotFoundError:
        raise Failure("envoy_down", f"The Envoy with PID {pid} has ended in the meantime.", pid=pid) from None


class Intruder(t.NamedTuple):
    """A socket of another process that listens where Envoy does."""

    address: str
    port: int
    #: ``None`` if this user may not know
    pid: int | None


def intruders(pid: int, endpoints: t.Collection[tuple[str, int]]) -> list[Intruder]:
    """Other processes that listen on one of Envoy's TCP endpoints, given as (IP address, port).

    With ``reuse_port``, Envoy's default, the kernel shares connections among all of them and nobody is told.
    """
    if not endpoints:
        return []
    own = _sockets(pid)
    strangers = {
        inode: endpoint
        for inode, endpoint in _listening(pid).items()
        if inode not in own and any(_overlap(endpoint, mine) for mine in endpoints)
    }
    if not strangers:
        return []
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            found.extend(Intruder(*strangers.pop(inode), int(name)) for inode in _sockets(int(name)) & set(strangers))
    return found + [Intruder(*endpoint, None) for endpoint in strangers.values()]


def _overlap(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether a connection may come to either of two endpoints; ``::`` takes IPv4 as well unless it is told not to."""
    hosts = {one[0], other[0]}
    wildcard = "::" in hosts or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))
    return one[1] == other[1] and (len(hosts) == 1 or wildcard)


def _listening(pid: int) -> dict[int, tuple[str, int]]:
    """Inode → (address, port) of every listening TCP socket in the network namespace of a process."""
    found = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/net/{table}", encoding="ascii") as file:
            next(file, None)
            for line in file:
                fields = line.split()
                # 0A is TCP_LISTEN (include/net/tcp_states.h)
                if fields[3] == "0A":
                    address, port = fields[1].split(":")
                    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
                    packed = struct.pack(f"={len(words)}I", *words)
                    found[int(fields[9])] = (socket.inet_ntop(family, packed), int(port, 16))
    return found


def _sockets(pid: int) -> set[int]:
    """Inodes of a process's sockets; none of a process that this user may not look at."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    return found
