# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the files of one gateway: what is there, and what is believed of it. ``_publish`` changes those of a kind.

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
import fcntl
import json
import os
import re
import stat
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._decision import Confirmed, Disk, Process
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._files import Files, explained
from ansible_collections.moe.gateway.plugins.module_utils._history import Change, Kept
from ansible_collections.moe.gateway.plugins.module_utils._kinds import Kind
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version, keyed_digest

#: No gateway gets here by publishing; a foreign edit that claims more must not use up the numbers.
_HIGHEST = 1_000_000_000


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
        with explained(f"The state of the gateway in {self.state} can't be prepared"):
            if write:
                self.files.make_directory(self.state)
        descriptor = self._lock(timeout)
        try:
            if write:
                with explained(f"What a killed run left in {self.state} can't be removed"):
                    for name in self.files.names(self.state):
                        if name.startswith("staged-"):
                            self.files.remove(os.path.join(self.state, name))
            yield
        finally:
            os.close(descriptor)

    def _lock(self, timeout: float) -> int:
        while True:
            with explained(f"The state of the gateway in {self.state} can't be locked"):
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
        with explained(f"The key {path} can't be read or made"):
            try:
                key = self.files.read(path)
                if len(key) >= 32:
                    return key
            except FileNotFoundError:
                pass
            except PermissionError:
                # To its owner, one that somebody else put there is as good as none.
                if os.geteuid() not in (0, self.files.uid):
                    raise
            key = os.urandom(32)
            if write:
                self.put(key, path)
            return key

    def stage(self, data: bytes) -> str:
        """A file ready to be renamed into place."""
        path = os.path.join(self.state, f"staged-{os.urandom(8).hex()}")
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
            with explained(f"The live file {self.live} can't be read"):
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
            document = load(data)
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
            data = load(self.files.read(os.path.join(self.folder, "record.json")))
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
        with explained(f"The generations in {self.folder} can't be listed"), contextlib.suppress(FileNotFoundError):
            names = self.files.names(self.folder)
        return sorted(int(name[:-5]) for name in names if re.fullmatch(r"[1-9][0-9]{0,9}\.json", name))

    def last_good(self, record: Record | None) -> t.Any:
        """The content that was confirmed last; what stands in for one where there is none."""
        kept = self.kept(record.confirmed.version.generation) if record else None
        if kept:
            return kept.content
        # Somebody may have removed or damaged what was kept, while it is in service.
        with contextlib.suppress(Failure, OSError):
            version, content = self._parse(self.files.read(self.live))
            if record and version == record.confirmed.version:
                return content
        return self.kind.fallback

    def kept(self, number: int) -> Kept | None:
        """A generation; ``None`` if it is not there, or not as it was written."""
        try:
            data = load(self.files.read(self.generation(number)))
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
            version = Version.parse(load(self.files.read(self.live)).get("version_info"))
            seen.append(version.generation if version and version.generation < _HIGHEST else 0)
        if record:
            seen.append(record.confirmed.version.generation)
        return max(seen, default=0) + 1

    def missing(self) -> bool:
        return not self.files.exists(self.live)

    def exists(self) -> bool:
        """Whether there is anything of this kind on disk."""
        return not self.missing() or self.files.is_directory(self.folder)

    def generation(self, number: int) -> str:
        """The path of one."""
        return os.path.join(self.folder, f"{number}.json")


def load(data: bytes) -> t.Any:
    """JSON; a ``ValueError`` whatever is wrong with it."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


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
