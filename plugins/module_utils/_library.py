# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the compiled library on the gateway: is the file what its name says, and is it what Envoy runs?"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import struct
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _decision, _process
from ansible_collections.moe.gateway.plugins.module_utils._decision import Process
from ansible_collections.moe.gateway.plugins.module_utils._engines import Extension
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._process import Library

_AGAIN = "Remove it and let moe.gateway.envoy_extensions copy it again. Nothing has changed."


class Use:
    """A filter's use of a library; of none, if there is no extension.

    A look at what a process has mapped takes longer than most of what a run with nothing to do does, so one serves all.
    """

    def __init__(self, extension: Extension | None, second_runtime: str) -> None:
        self._extension = extension
        self._second_runtime = second_runtime
        self._look: Look | None = None

    def check_before(self, process: Process) -> None:
        """Raise a ``Failure`` unless this process may be handed a filter that uses this library."""
        if self._extension:
            check_file(self._extension)
            self._look = Look(self._extension, process)
            self._look.check_not_replaced()
            self._look.check_runtime(self._second_runtime)

    def check_after(self, process: Process) -> None:
        """Raise a ``Failure`` unless this process, which has taken such a filter, runs that library."""
        if self._extension:
            self._look = Look(self._extension, process)
            self._look.check_loaded()

    def loaded(self) -> Loaded | None:
        """The proof that what was looked at last runs the library; raises ``extension_not_loaded`` if it does not."""
        return self._look.check_loaded() if self._look else None


def check_file(extension: Extension) -> None:
    """Raise ``extension_missing`` or ``extension_damaged`` unless the file is there and is what its name says."""
    try:
        # Not waiting for the other end of a named pipe.
        descriptor = os.open(extension.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise invalid("extension", f"something that is not a regular file at {extension.path}", "a .so")
            digest = hashlib.sha256()
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
    except OSError as error:
        raise Failure(
            "extension_missing",
            f"extension: found no readable file at {extension.path} ({error.strerror}), expected the compiled library. "
            "Let moe.gateway.envoy_extensions copy it. Nothing has changed.",
            path=extension.path,
        ) from error
    if digest.hexdigest() != extension.sha256:
        raise Failure(
            "extension_damaged",
            f"extension: found SHA-256 {digest.hexdigest()} at {extension.path}, expected {extension.sha256} as in its "
            f"name: the file is damaged or was changed. {_AGAIN}",
            path=extension.path,
            found=digest.hexdigest(),
            expected=extension.sha256,
        )


class Loaded(t.NamedTuple):
    """The proof that a process runs the code of a file."""

    path: str
    sha256: str
    pid: int
    device: str
    inode: int


class Look:
    """What a process has mapped now, and how the file of an extension would show there."""

    def __init__(self, extension: Extension, process: Process) -> None:
        self._extension = extension
        self._pid = process.pid
        self._own = _as_the_kernel_tells(extension.path)
        self._same: list[Library] = []
        self._others: list[Library] = []
        for library in _process.libraries(process.pid):
            (self._same if self._holds(library) else self._others).append(library)

    def _holds(self, library: Library) -> bool:
        """Whether this is the extension's code: its file, or one that was under its path before and held the same."""
        if library.path != self._own.path:
            return False
        return library == self._own or _process.sha256(self._pid, library) == self._extension.sha256

    def check_not_replaced(self) -> None:
        """Raise ``extension_replaced`` if the process has loaded something else under this path.

        A loaded path is never read again: Envoy would run the old code with the new configuration.
        """
        if any(library.path == self._own.path for library in self._others):
            path = self._extension.path
            hint = "" if os.geteuid() == 0 else " (root, who may read what that was, is not refused if it is the same)"
            raise Failure(
                "extension_replaced",
                f"extension: Envoy (PID {self._pid}) has loaded another file under {path}, which was "
                f"replaced since, and would go on with the old code{hint}. Give the new code a new path, as "
                "moe.gateway.envoy_extensions does, or restart Envoy. Nothing has changed.",
                path=path,
            )

    def check_loaded(self) -> Loaded:
        """Raise ``extension_not_loaded`` unless the process has the code of this file mapped."""
        path = self._extension.path
        if not self._same:
            raise Failure(
                "extension_not_loaded", f"Envoy (PID {self._pid}) has taken the filter but not loaded {path}."
            )
        found = self._own if self._own in self._same else self._same[0]
        return Loaded(path, self._extension.sha256, self._pid, found.device, found.inode)

    def check_runtime(self, policy: str) -> None:
        """Raise ``hot_restart_needed`` where the extension would bring a second Go runtime, and policy forbids that."""
        path = self._extension.path
        # Nothing more is read where it has been loaded before, as at every run but the first.
        runtimes = [] if self._same or not is_go(path) else [other for other in self._others if _has_go(other)]
        if _decision.way(bool(self._same), bool(runtimes), policy) == "hot_restart":
            other = runtimes[0].path
            raise Failure(
                "hot_restart_needed",
                f"extension: found Go code in Envoy (PID {self._pid}), of {other}, expected none beside that of "
                f"{path}: Go supports one runtime in a process, so a new Envoy has to load it. Restart Envoy, or "
                "set envoy_extensions_second_runtime (second_runtime of the module) to side_by_side. "
                "Nothing has changed.",
                loaded=other,
                wanted=path,
                pid=self._pid,
            )


def check_loaded(extension: Extension, process: Process) -> Loaded:
    """Raise ``extension_not_loaded`` unless the process has the code of this file mapped."""
    return Look(extension, process).check_loaded()


def _has_go(library: Library) -> bool:
    """Whether a process that has loaded it runs Go; of a file that is gone, what its name lets expect."""
    if library.deleted:
        return Extension.named(library.path)
    try:
        return is_go(library.path)
    except OSError:
        return Extension.named(library.path)


def is_go(path: str) -> bool:
    """Whether Go built this file: it has the section in which Go tells so, which no stripping removes."""
    with open(path, "rb") as file:
        header = file.read(64)
        # 64-bit, little-endian, as Envoy is; see elf(5).
        if len(header) < 64 or header[:6] != b"\x7fELF\2\1":
            return False
        (offset,) = struct.unpack_from("<Q", header, 0x28)
        size, count, names = struct.unpack_from("<HHH", header, 0x3A)
        if size < 64 or names >= count:
            return False
        file.seek(offset + names * size)
        section = file.read(64)
        if len(section) < 64:
            return False
        start, length = struct.unpack_from("<QQ", section, 0x18)
        file.seek(start)
        return b"\0.go.buildinfo\0" in file.read(min(length, 1 << 20))


def _as_the_kernel_tells(path: str) -> Library:
    """The file as ``/proc/PID/maps`` shows it to be mapped.

    It is mapped here for a moment, since what ``stat`` says can't be compared: the kernel tells paths without links,
    and on overlayfs and btrfs another device, on overlayfs perhaps another inode too.
    """
    real = os.path.realpath(path)
    status = os.stat(real)
    if not status.st_size:
        # Nobody can map it, so it is the same as none that is mapped.
        return Library(real, f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", status.st_ino, False)
    with open(real, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        inode = os.fstat(file.fileno()).st_ino
        found = [library for library in _process.libraries(os.getpid()) if library.path == real and not library.deleted]
    # Several, if this process had loaded one of them that was replaced.
    return min(found, key=lambda library: library.inode != inode)
