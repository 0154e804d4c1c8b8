# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the directory of extensions on a gateway, and who may need what is in it."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _process, _retention
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._files import explained
from ansible_collections.moe.gateway.plugins.module_utils._retention import Kept, Used
from ansible_collections.moe.gateway.plugins.module_utils._store import Store


def there(directory: str) -> list[Kept]:
    """The files of ours; whatever else is in the directory is none of our business."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            parsed = _retention.parse(name)
            if parsed is None:
                continue
            status = os.lstat(os.path.join(directory, name))
            if stat.S_ISREG(status.st_mode):
                found.append(Kept(*parsed, status.st_ino, status.st_mtime))
    return found


def directories(paths: t.Iterable[str]) -> list[str]:
    """Those in whose place an empty directory is, sorted: nothing is lost with it."""
    return sorted(path for path in paths if os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path))


def named(store: Store, others: t.Iterable[str]) -> set[str]:
    """The digests that any revision names which is in service or kept, and any other file that Envoy starts from."""
    found: set[str] = set()
    for data in _revisions(store):
        found |= _retention.digests(data)
    for path in others:
        for file in _files(store, path):
            with contextlib.suppress(FileNotFoundError):
                found |= _retention.digests(store.files.read(file))
    return found


def _revisions(store: Store) -> t.Iterator[bytes]:
    """The bytes of every file of configuration, live or kept, whoever wrote it; what can't be read is a failure."""
    folders = [store.directory]
    while folders:
        folder = folders.pop()
        with explained(f"The revisions in {folder} can't be read"), contextlib.suppress(FileNotFoundError):
            for name in store.files.names(folder):
                path = os.path.join(folder, name)
                mode = store.files.status(path).st_mode
                if stat.S_ISDIR(mode):
                    folders.append(path)
                elif stat.S_ISREG(mode):
                    yield store.files.read(path)


def _files(store: Store, path: str) -> list[str]:
    """The path itself, or the regular files in it if it is a directory."""
    if not store.files.is_directory(path):
        return [path]
    paths = [os.path.join(path, name) for name in store.files.names(path)]
    return [path for path in paths if stat.S_ISREG(store.files.status(path).st_mode)]


def mapped() -> list[Used]:
    """All libraries that any process has mapped, of those that this user may look at."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            # It may end meanwhile, or be another user's.
            with contextlib.suppress(Failure, OSError):
                found |= {Used(library.path, library.inode) for library in _process.libraries(int(name))}
    return list(found)


def surplus(directory: str, wanted: t.Collection[str]) -> list[str]:
    """Paths of the files of ours that the inventory does not have, sorted."""
    return sorted(os.path.join(directory, file.file) for file in _retention.surplus(there(directory), wanted))


def unused(directory: str, wanted: t.Collection[str], store: Store, others: t.Iterable[str], keep: int) -> list[str]:
    """Paths of the files that may go, sorted."""
    files = there(directory)
    if not _retention.surplus(files, wanted):
        return []
    result = _retention.unused(files, wanted, named(store, others), mapped(), keep)
    return sorted(os.path.join(directory, file.file) for file in result)


def remove(paths: t.Iterable[str]) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except OSError as error:
            message = f"{path} is used by nothing any more, but can't be removed: {error.strerror}."
            raise Failure("file_error", message, path=path, errno=error.errno or 0) from error
