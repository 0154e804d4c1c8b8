# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the files of one gateway.

Every write is private, synced and renamed into place, so that a kill leaves the old or the new file, whole.

Layout below the gateway's directory (0700, files 0600, owned by Envoy's user)::

    clusters.json  listeners.json  filters/<name>.json     live: what Envoy reads and watches
    state/key                                              keys the digests; never leaves the host
    state/<kind>/<generation>.json                         contents that Envoy was seen to run, newest last, each with
                                                           a note of how it came to be
    state/<kind>/record.json                               what was confirmed, when, in which process
    state/staged-*                                         not yet in place; left over only by a kill

Envoy watches the live folders, not the state, and everything is on one file system, so a rename is atomic.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import secrets
import stat
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._decision import Confirmed, Disk, Process
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._history import Change, Kept
from ansible_collections.moe.gateway.plugins.module_utils._kinds import Kind
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version, keyed_digest

_MAX_FILE = 64 * 1024 * 1024

#: No gateway gets here by publishing; a foreign edit that claims more must not use up the numbers.
_HIGHEST = 1_000_000_000


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
def _explained(doing: str) -> t.Iterator[None]:
    """Turn an operating system error into a failure that says what was being done."""
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename
        message = f"{doing}: {error.strerror or error}" + (f" ({path})." if path else ".")
        raise Failure("file_error", message, errno=error.errno or 0, path=str(path or "")) from error


class Store:
    """The gateway's directory: its lock, its key, and the files of each kind."""

    def __init__(self, directory: str, files: Files) -> None:
        self.directory = directory
        self.state = os.path.join(directory, "state")
        self.files = files

    @contextlib.contextmanager
    def locked(self, timeout: float, write: bool) -> t.Iterator[None]:
        """Hold the gateway for this run alone.

        :param timeout: seconds to wait for another run to end.
        :param write: make the state if there is none, and clear what a killed run left. Check mode does neither.
        """
        if not self.files.is_directory(self.directory):
            raise invalid("directory", f"no directory at {self.directory}", "the directory that Envoy reads from")
        with _explained(f"The state of the gateway in {self.state} can't be prepared"):
            if write:
                self.files.make_directory(self.state)
        descriptor = self._lock(timeout)
        try:
            if write:
                with _explained(f"What a killed run left in {self.state} can't be removed"):
                    for name in self.files.names(self.state):
                        if name.startswith("staged-"):
                            self.files.remove(os.path.join(self.state, name))
            yield
        finally:
            os.close(descriptor)

    def _lock(self, timeout: float) -> int:
        while True:
            with _explained(f"The state of the gateway in {self.state} can't be locked"):
                path = self.state if self.files.is_directory(self.state) else self.directory
                descriptor = self.files.open_directory(path)
            try:
                _lock(descriptor, timeout, self.state)
                # A hot restart may have put another directory in its place meanwhile.
                if os.path.samestat(os.fstat(descriptor), self.files.status(path)):
                    return descriptor
            except (Failure, OSError):
                os.close(descriptor)
                raise
            os.close(descriptor)

    def key(self, write: bool) -> bytes:
        """The key of this gateway's digests; in check mode, where there is none yet, one that is not kept."""
        path = os.path.join(self.state, "key")
        with _explained(f"The key {path} can't be read or made"):
            with contextlib.suppress(FileNotFoundError):
                key = self.files.read(path)
                if len(key) >= 32:
                    return key
            key = secrets.token_bytes(32)
            if write:
                self.put(key, path)
            return key

    def revisions(self) -> t.Iterator[bytes]:
        """The bytes of every file of configuration, live or kept, whoever wrote it; what can't be read is a failure."""
        folders = [self.directory]
        while folders:
            folder = folders.pop()
            with _explained(f"The revisions in {folder} can't be read"), contextlib.suppress(FileNotFoundError):
                for name in self.files.names(folder):
                    path = os.path.join(folder, name)
                    mode = self.files.status(path).st_mode
                    if stat.S_ISDIR(mode):
                        folders.append(path)
                    elif stat.S_ISREG(mode):
                        yield self.files.read(path)

    def stage(self, data: bytes) -> str:
        """A file ready to be renamed into place."""
        path = os.path.join(self.state, f"staged-{secrets.token_hex(8)}")
        self.files.create(path, data)
        return path

    def put(self, data: bytes, target: str) -> None:
        """Put a file into place; what was staged for that is gone if it fails."""
        staged = self.stage(data)
        try:
            self.files.rename(staged, target)
            self.files.sync_directory(os.path.dirname(target))
        except OSError:
            self.files.remove(staged)
            raise


class Record(t.NamedTuple):
    """What the last confirmed publish left for the next run."""

    confirmed: Confirmed
    #: what the content was made from, with secrets as keyed digests, for diffs
    view: dict[str, t.Any]
    #: UTC, ISO 8601
    at: str
    #: how that content came to be there; ``None`` if that was not noted
    change: Change | None = None


#: What a generation was made from, and how it came to be.
Note = t.Optional[tuple[dict[str, t.Any], t.Optional[Change]]]


class Shelf:
    """The files of one kind: the live one, its generations, its record."""

    def __init__(self, store: Store, kind: Kind, key: bytes) -> None:
        self.store = store
        self.kind = kind
        self.files = store.files
        self.key = key
        self.live = os.path.join(store.directory, kind.file)
        self.folder = os.path.join(store.state, kind.folder)

    def digest(self, content: t.Any) -> str:
        return keyed_digest(self.key, self.kind.name, content)

    def disk(self) -> Disk:
        """What the live file is."""
        try:
            with _explained(f"The live file {self.live} can't be read"):
                status = self.files.status(self.live)
                if status.st_uid != self.files.uid:
                    return Disk(None, f"belonged to user id {status.st_uid} instead of {self.files.uid}")
                data = self.files.read(self.live)
        except Failure as failure:
            missing = isinstance(failure.__cause__, FileNotFoundError)
            return Disk(None, "was missing" if missing else f"could not be used: {failure.message}")
        try:
            version, content = self._parse(data)
        except Failure as failure:
            return Disk(None, f"had been changed by somebody else: {failure.message}")
        if status.st_mode & 0o077:
            return Disk(None, f"could be read by other users (mode {stat.S_IMODE(status.st_mode):04o})")
        return Disk(version, initial=content == self.kind.fallback)

    def _parse(self, data: bytes) -> tuple[Version, t.Any]:
        try:
            document = _load(data)
        except ValueError:
            raise Failure("not_ours", f"its {len(data)} bytes are not JSON") from None
        return self._judge(document)

    def _judge(self, document: t.Any) -> tuple[Version, t.Any]:
        version, content = self.kind.parse(document)
        if document != self.kind.document(content, version):
            raise Failure("not_ours", "it does not have the shape that this collection writes")
        if version.digest != self.digest(content):
            raise Failure("not_ours", f"its content does not belong to its version {version}")
        return version, content

    def content(self) -> t.Any:
        """The content of the live file; of one that is not ours, what stands in for it."""
        try:
            return self._parse(self.files.read(self.live))[1]
        except (Failure, OSError):
            return self.kind.fallback

    def record(self) -> Record | None:
        """``None`` if nothing was ever confirmed, or the record is damaged: then everything is published anew."""
        try:
            data = _load(self.files.read(os.path.join(self.folder, "record.json")))
            version = Version.parse(data["version"])
            if version is None:
                return None
            process = Process(int(data["process"]["pid"]), int(data["process"]["started"]))
            confirmed = Confirmed(version, process, int(data["rejected"]), int(data["failed"]))
            return Record(confirmed, dict(data["view"]), str(data["at"]), Change.parse(data.get("change")))
        except (OSError, Failure, ValueError, KeyError, TypeError, OverflowError):
            return None

    def generations(self) -> list[int]:
        """Numbers of the contents that are kept, ascending."""
        names: list[str] = []
        with _explained(f"The generations in {self.folder} can't be listed"), contextlib.suppress(FileNotFoundError):
            names = self.files.names(self.folder)
        return sorted(int(name[:-5]) for name in names if re.fullmatch(r"[1-9][0-9]{0,9}\.json", name))

    def last_good(self, record: Record | None) -> t.Any:
        """The content that was confirmed last; what stands in for one where there is none."""
        kept = self.kept(record.confirmed.version.generation) if record else None
        return kept.content if kept else self.kind.fallback

    def kept(self, number: int) -> Kept | None:
        """A generation; ``None`` if it is not there, or not as it was written."""
        try:
            data = _load(self.files.read(self._generation(number)))
            note = data.pop("note", None) or {}
            version, content = self._judge(data)
            if version.generation != number:
                return None
            return Kept(version, content, dict(note.get("view", {})), Change.parse(note.get("change")))
        except (Failure, OSError, ValueError, AttributeError, TypeError):
            return None

    def history(self) -> list[Kept]:
        """Every generation that can be gone back to, ascending."""
        return [kept for kept in map(self.kept, self.generations()) if kept]

    def in_service(self, record: Record | None) -> Kept | None:
        """What the live file holds, or where that is not ours, what was confirmed last."""
        version = self.disk().version
        if version is None:
            return self.kept(record.confirmed.version.generation) if record else None
        kept = self.kept(version.generation)
        # One that no run lived to confirm is not among the generations.
        return kept if kept and kept.version == version else Kept(version, self.content(), {}, None)

    def next_generation(self, record: Record | None) -> int:
        """Higher than any that Envoy may have seen, so that a version never comes twice."""
        seen = self.generations()
        with contextlib.suppress(Failure, OSError, ValueError, AttributeError):
            # A foreign edit may keep or raise the number.
            version = Version.parse(_load(self.files.read(self.live)).get("version_info"))
            seen.append(version.generation if version and version.generation < _HIGHEST else 0)
        if record:
            seen.append(record.confirmed.version.generation)
        return max(seen, default=0) + 1

    def publish(
        self,
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
        back = Version(self.digest(spare), version.generation + 1)
        document, spare_document = self.kind.document(content, version), self.kind.document(spare, back)
        copy, spare_copy = _noted(document, notes[0]), _noted(spare_document, notes[1])
        with _explained(f"Nothing has changed: version {version} of {self.kind.name} can't be written"):
            self._make_folders()
            staged: list[str] = []
            try:
                for item in (document, copy, spare_document, spare_copy):
                    staged.append(self.store.stage(_encode(item)))
                renamed = clock()
                self.files.rename(staged[0], self.live)
            except OSError:
                self._remove(staged)
                raise
        with _explained(f"Version {version} of {self.kind.name} is in place, but it may not outlast a power cut"):
            try:
                self.files.sync_directory(os.path.dirname(self.live))
            except OSError:
                self._remove(staged[1:])
                raise
        return Publish(self, version, back, renamed, *staged[1:])

    def _remove(self, staged: list[str]) -> None:
        for path in staged:
            self.files.remove(path)

    def place(self, content: t.Any, version: Version) -> None:
        """Put ``content`` where no Envoy watches, without a way back."""
        with _explained(f"Version {version} of {self.kind.name} can't be written"):
            self._make_folders()
            self.store.put(_encode(self.kind.document(content, version)), self.live)

    def install(self) -> bool:
        """Put the last good content, or what stands in for one, where the live file is missing; whether it was."""
        if not self.missing():
            return False
        record = self.record()
        content = self.last_good(record)
        document = self.kind.document(content, Version(self.digest(content), self.next_generation(record)))
        with _explained(f"{self.live} can't be written"):
            self._make_folders()
            self.store.put(_encode(document), self.live)
        return True

    def confirm(self, record: Record, keep: int, copy: str = "") -> None:
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
        generation = self._generation(confirmed.version.generation)
        with _explained(f"Envoy runs version {confirmed.version} of {self.kind.name}, but this can't be noted"):
            self._make_folders()
            if copy or not self.files.exists(generation):
                if copy:
                    self.files.rename(copy, generation)
                    self.files.sync_directory(self.folder)
                else:
                    live = _load(self.files.read(self.live))
                    self.store.put(_encode(_noted(live, (record.view, record.change))), generation)
            self.store.put(_encode(data), os.path.join(self.folder, "record.json"))
            others = [number for number in self.generations() if number != confirmed.version.generation]
            for number in others[: max(0, len(others) - keep + 1)]:
                self.files.remove(self._generation(number))

    def purge(self) -> None:
        """Remove the live file and all that is kept of it."""
        with _explained(f"The files of {self.kind.name} can't be removed"):
            self.files.remove(self.live)
            for number in self.generations():
                self.files.remove(self._generation(number))
            self.files.remove(os.path.join(self.folder, "record.json"))
            if self.files.is_directory(self.folder):
                self.files.remove_directory(self.folder)

    def missing(self) -> bool:
        return not self.files.exists(self.live)

    def exists(self) -> bool:
        """Whether there is anything of this kind on disk."""
        return not self.missing() or self.files.is_directory(self.folder)

    def _generation(self, number: int) -> str:
        return os.path.join(self.folder, f"{number}.json")

    def _make_folders(self) -> None:
        for root, relative in (
            (self.store.directory, os.path.dirname(self.kind.file)),
            (self.store.state, self.kind.folder),
        ):
            path = root
            for part in relative.split("/") if relative else []:
                path = os.path.join(path, part)
                self.files.make_directory(path)


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
        with _explained(f"{live} still holds what was refused: the last good content can't be put back"):
            self._or_remove(lambda: self.shelf.files.rename(self._undo, live))
        with _explained(f"The last good content is back in {live}, but that may not outlast a power cut"):
            self._or_remove(lambda: self.shelf.files.sync_directory(os.path.dirname(live)))

    def restored(self, record: Record, keep: int) -> None:
        self._end(record, keep, self._undo_copy, self._copy, self._undo)

    def _end(self, record: Record, keep: int, copy: str, *others: str) -> None:
        self._or_remove(lambda: self.shelf.confirm(record, keep, copy))
        with _explained("What was staged can't be removed"):
            self._remove(*others)

    def _or_remove(self, step: t.Callable[[], None]) -> None:
        """Do a step; if it fails, leave nothing staged."""
        try:
            step()
        except (OSError, Failure):
            self._remove(self._copy, self._undo, self._undo_copy)
            raise

    def _remove(self, *paths: str) -> None:
        for path in paths:
            self.shelf.files.remove(path)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _load(data: bytes) -> t.Any:
    """JSON; a ``ValueError`` whatever is wrong with it."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _noted(document: dict[str, t.Any], note: Note) -> dict[str, t.Any]:
    """The document as a generation is kept; Envoy never reads it."""
    if note is None:
        return document
    view, change = note
    return {**document, "note": {"view": view, "change": change and change._asdict()}}


def _encode(value: t.Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def _lock(descriptor: int, timeout: float, what: str) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Failure(
                    "locked",
                    f"Another run has been changing this gateway for {timeout:g} s ({what} is locked). "
                    "Nothing has changed; try again.",
                    path=what,
                ) from None
            time.sleep(0.02)
