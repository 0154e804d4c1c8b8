# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: a second directory for the next Envoy, where it must not read what the one that runs reads.

Envoy watches folders, not their names. So the twin can take the directory's name by one exchange, and the Envoy that
runs sees nothing of it: for it, its files stand still, under another name. The next Envoy finds the twin's.
"""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._decision import Process
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._store import Store

#: In the state of a twin: which process runs with the files that it was made from.
_MARK = "twin"


class Twin:
    """The twin of a gateway's directory, which is locked."""

    def __init__(self, store: Store) -> None:
        self.files = store.files
        self.name = store.directory
        self.store = Store(store.directory + ".next", store.files)

    def recover(self, process: Process) -> None:
        """Clear what a run left that was killed, so that the name leads to what this process runs with."""
        if not self.files.is_directory(self.store.directory):
            return
        if self._mark(self.name) == _text(process):
            self.exchange()
        self.remove()

    def make(self, process: Process) -> None:
        """A copy of the directory that this process reads from."""
        try:
            self._copy(self.name, self.store.directory)
            self.files.create(os.path.join(self.store.state, _MARK), _text(process).encode())
        except OSError as error:
            self.remove()
            message = f"{self.store.directory} can't be made: {error.strerror}. Nothing has changed."
            raise Failure("file_error", message, path=self.store.directory) from error

    def exchange(self) -> None:
        """Let the two take each other's names, at once; a second time brings them back."""
        try:
            self.files.exchange(self.name, self.store.directory)
            self.files.sync_directory(os.path.dirname(self.name))
        except OSError as error:
            message = f"{self.name} and {self.store.directory} can't exchange their names: {error.strerror}."
            raise Failure("file_error", message, path=self.name) from error

    def remove(self) -> None:
        """What is not in service under this name."""
        if self._mark(self.name):
            self.files.remove(os.path.join(self.name, "state", _MARK))
        self._remove(self.store.directory)

    def _mark(self, directory: str) -> str:
        try:
            return self.files.read(os.path.join(directory, "state", _MARK)).decode("ascii", "replace")
        except (OSError, Failure):
            return ""

    def _copy(self, source: str, target: str) -> None:
        self.files.make_directory(target)
        for name, path, folder in _entries(self.files, source):
            if folder:
                self._copy(path, os.path.join(target, name))
            elif not name.startswith("staged-"):
                self.files.create(os.path.join(target, name), self.files.read(path))

    def _remove(self, directory: str) -> None:
        if not self.files.is_directory(directory):
            return
        for _name, path, folder in _entries(self.files, directory):
            if folder:
                self._remove(path)
            else:
                self.files.remove(path)
        self.files.remove_directory(directory)


def _entries(files: Files, directory: str) -> t.Iterator[tuple[str, str, bool]]:
    for name in files.names(directory):
        path = os.path.join(directory, name)
        yield name, path, stat.S_ISDIR(files.status(path).st_mode)


def _text(process: Process) -> str:
    return f"{process.pid} {process.started}"
