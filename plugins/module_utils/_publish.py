# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: how the files of one kind change: a publish, its way back on disk before it begins, and what is noted of it.

Most runs find nothing to do, and import none of this.
"""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._files import explained
from ansible_collections.moe.gateway.plugins.module_utils._history import Change
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version
from ansible_collections.moe.gateway.plugins.module_utils._store import Record, Shelf, load

#: What a generation was made from, and how it came to be.
Note = t.Optional[tuple[dict[str, t.Any], t.Optional[Change]]]


class Publish:
    """One publish whose outcome is open. It ends by :meth:`accept`, or by :meth:`restore` and :meth:`restored`."""

    def __init__(
        self, shelf: Shelf, version: Version, back: Version, renamed: float, copy: str, undo: str, undo_copy: str
    ) -> None:
        self.shelf = shelf
        self.version = version
        #: the version under which the last good content would come back
        self.back = back
        #: when the live file was put in place, by the clock that was given
        self.renamed = renamed
        self._copy = copy
        self._undo = undo
        self._undo_copy = undo_copy

    def untouched(self) -> bool:
        """Whether the live file is still the one that was put there."""
        return self.shelf.disk().version == self.version

    def accept(self, record: Record, keep: int) -> None:
        self._end(record, keep, self._copy, self._undo, self._undo_copy)

    def restore(self) -> None:
        """Put the last good content back: a rename, which a full disk can't prevent."""
        live = self.shelf.live
        with explained(f"{live} still holds what was refused: the last good content can't be put back"):
            self._or_remove(lambda: self.shelf.files.rename(self._undo, live))
        with explained(f"The last good content is back in {live}, but that may not outlast a power cut"):
            self._or_remove(lambda: self.shelf.files.sync_directory(os.path.dirname(live)))

    def restored(self, record: Record, keep: int) -> None:
        self._end(record, keep, self._undo_copy, self._copy, self._undo)

    def _end(self, record: Record, keep: int, copy: str, *others: str) -> None:
        self._or_remove(lambda: confirm(self.shelf, record, keep, copy))
        with explained("What was staged can't be removed"):
            _remove(self.shelf, others)

    def _or_remove(self, step: t.Callable[[], None]) -> None:
        """Do a step; if it fails, leave nothing staged."""
        try:
            step()
        except (OSError, Failure):
            _remove(self.shelf, (self._copy, self._undo, self._undo_copy))
            raise


def publish(
    shelf: Shelf,
    content: t.Any,
    spare: t.Any,
    version: Version,
    clock: t.Callable[[], float] = time.monotonic,
    notes: tuple[Note, Note] = (None, None),
) -> Publish:
    """Put ``content`` in place as ``version``; keep ``spare`` staged as the next one, should Envoy refuse.

    All that either end needs is on the disk before the live file changes: a disk that fills up can no longer
    prevent the way back.

    :param notes: of the one and of the other.
    """
    back = Version(shelf.digest(spare), version.generation + 1)
    document, spare_document = shelf.kind.document(content, version), shelf.kind.document(spare, back)
    copy, spare_copy = _noted(document, notes[0]), _noted(spare_document, notes[1])
    with explained(f"Nothing has changed: version {version} of {shelf.kind.name} can't be written"):
        _make_folders(shelf)
        staged: list[str] = []
        try:
            for item in (document, copy, spare_document, spare_copy):
                staged.append(shelf.store.stage(_encode(item)))
            renamed = clock()
            shelf.files.rename(staged[0], shelf.live)
        except OSError:
            _remove(shelf, staged)
            raise
    with explained(f"Version {version} of {shelf.kind.name} is in place, but it may not outlast a power cut"):
        try:
            shelf.files.sync_directory(os.path.dirname(shelf.live))
        except OSError:
            _remove(shelf, staged[1:])
            raise
    return Publish(shelf, version, back, renamed, *staged[1:])


def place(shelf: Shelf, content: t.Any, version: Version) -> None:
    """Put ``content`` where no Envoy watches, without a way back."""
    with explained(f"Version {version} of {shelf.kind.name} can't be written"):
        _make_folders(shelf)
        shelf.store.put(_encode(shelf.kind.document(content, version)), shelf.live)


def install(shelf: Shelf) -> bool:
    """Put the last good content, or what stands in for one, where the live file is missing; whether it was."""
    if not shelf.missing():
        return False
    record = shelf.record()
    content = shelf.last_good(record)
    document = shelf.kind.document(content, Version(shelf.digest(content), shelf.next_generation(record)))
    with explained(f"{shelf.live} can't be written"):
        _make_folders(shelf)
        shelf.store.put(_encode(document), shelf.live)
    return True


def confirm(shelf: Shelf, record: Record, keep: int, copy: str = "") -> None:
    """Note what Envoy runs, keep its content, and let go of generations beyond the newest ``keep``.

    :param copy: a staged file with the content; without one it is taken from the live file.
    """
    confirmed = record.confirmed
    data = {
        "version": str(confirmed.version),
        "process": {"pid": confirmed.process.pid, "started": confirmed.process.started},
        "rejected": confirmed.rejected,
        "failed": confirmed.failed,
        "view": record.view,
        "at": record.at,
        "change": record.change and record.change._asdict(),
    }
    generation = shelf.generation(confirmed.version.generation)
    with explained(f"Envoy runs version {confirmed.version} of {shelf.kind.name}, but this can't be noted"):
        _make_folders(shelf)
        if copy or not shelf.files.exists(generation):
            if copy:
                shelf.files.rename(copy, generation)
                shelf.files.sync_directory(shelf.folder)
            else:
                live = load(shelf.files.read(shelf.live))
                shelf.store.put(_encode(_noted(live, (record.view, record.change))), generation)
        shelf.store.put(_encode(data), os.path.join(shelf.folder, "record.json"))
        others = [number for number in shelf.generations() if number != confirmed.version.generation]
        for number in others[: max(0, len(others) - keep + 1)]:
            shelf.files.remove(shelf.generation(number))


def purge(shelf: Shelf) -> None:
    """Remove the live file and all that is kept of it."""
    with explained(f"The files of {shelf.kind.name} can't be removed"):
        shelf.files.remove(shelf.live)
        for number in shelf.generations():
            shelf.files.remove(shelf.generation(number))
        shelf.files.remove(os.path.join(shelf.folder, "record.json"))
        if shelf.files.is_directory(shelf.folder):
            shelf.files.remove_directory(shelf.folder)


def _remove(shelf: Shelf, paths: t.Iterable[str]) -> None:
    for path in paths:
        shelf.files.remove(path)


def _make_folders(shelf: Shelf) -> None:
    for root, relative in (
        (shelf.store.directory, os.path.dirname(shelf.kind.file)),
        (shelf.store.state, shelf.kind.folder),
    ):
        path = root
        for part in relative.split("/") if relative else []:
            path = os.path.join(path, part)
            shelf.files.make_directory(path)


def _noted(document: dict[str, t.Any], note: Note) -> dict[str, t.Any]:
    """The document as a generation is kept; Envoy never reads it."""
    if note is None:
        return document
    view, change = note
    return {**document, "note": {"view": view, "change": change and change._asdict()}}


def _encode(value: t.Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"
