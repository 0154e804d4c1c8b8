# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: file operations as the user that owns the files, and what is said when one of them fails."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

_MAX_FILE = 64 * 1024 * 1024


class Files:
    """File operations as the user that owns the files, one system call that changes something at a time.

    Root lends itself to that user for each: Envoy's user owns the directory, and a link that it planted there must not
    lead root where that user could not go itself.
    """

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid

    def step(self, what: str) -> None:
        """Called before each change: a place for a test to end the process at."""

    @contextlib.contextmanager
    def _as_owner(self) -> t.Iterator[None]:
        if os.geteuid() != 0 or self.uid == 0:
            yield
            return
        gid, groups = os.getegid(), os.getgroups()
        os.setgroups([])
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)

    def status(self, path: str) -> os.stat_result:
        """Of the path itself, if it is a link."""
        with self._as_owner():
            return os.lstat(path)

    def exists(self, path: str) -> bool:
        with self._as_owner():
            return os.path.lexists(path)

    def is_directory(self, path: str) -> bool:
        with self._as_owner():
            return os.path.isdir(path)

    def names(self, path: str) -> list[str]:
        with self._as_owner():
            return os.listdir(path)

    def read(self, path: str) -> bytes:
        with self._as_owner():
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Failure("not_a_file", f"{path} is not a regular file.", path=path)
            return file.read(_MAX_FILE)

    def open_directory(self, path: str) -> int:
        """A descriptor, to lock or to sync."""
        with self._as_owner():
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def make_directory(self, path: str) -> None:
        if self.is_directory(path):
            return
        self.step(f"mkdir {path}")
        with self._as_owner(), contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)

    def create(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """A new file, whole and on the disk when this returns; removed again if that fails."""
        self.step(f"create {path}")
        with self._as_owner():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(descriptor, mode)
            self.step(f"write {path}")
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            self.step(f"sync {path}")
            os.fsync(descriptor)
        except OSError:
            with self._as_owner():
                os.unlink(path)
            raise
        finally:
            os.close(descriptor)

    def rename(self, source: str, target: str) -> None:
        self.step(f"rename {target}")
        with self._as_owner():
            os.rename(source, target)

    def exchange(self, one: str, other: str) -> None:
        """Let two paths on one file system take each other's names, at once."""
        # Costs every run some milliseconds, and few exchange anything.
        import ctypes

        self.step(f"exchange {one}")
        library = ctypes.CDLL(None, use_errno=True)
        with self._as_owner():
            # AT_FDCWD, RENAME_EXCHANGE: renameat2(2), which Python does not have.
            if library.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), one, None, other)

    def sync_directory(self, path: str) -> None:
        self.step(f"sync {path}")
        descriptor = self.open_directory(path)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: str) -> None:
        self.step(f"unlink {path}")
        with self._as_owner(), contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def remove_directory(self, path: str) -> None:
        self.step(f"rmdir {path}")
        with self._as_owner():
            os.rmdir(path)


@contextlib.contextmanager
def explained(doing: str) -> t.Iterator[None]:
    """Turn an operating system error into a failure that says what was being done."""
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename
        message = f"{doing}: {error.strerror or error}" + (f" ({path})." if path else ".")
        raise Failure("file_error", message, errno=error.errno or 0, path=str(path or "")) from error
