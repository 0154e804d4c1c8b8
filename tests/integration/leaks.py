# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Searches for secrets: in text, in files, in the process table, afterwards or again and again."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import stat
import threading
import typing as t
import urllib.parse
import zipfile

#: What Envoy tells on its admin interface.
PAGES = ["config_dump?include_eds", "stats?format=json", "stats/prometheus", "server_info", "listeners?format=json"]
PAGES += ["clusters?format=json", "certs", "runtime", "init_dump", "memory", "contention", "hot_restart_version"]

_LARGEST = 8_000_000


def forms(secret: str) -> dict[str, str]:
    """What would give a secret away, or let somebody try guesses: the text → what it is."""
    found = {urllib.parse.quote(secret): "in a URL", repr(secret)[1:-1]: "as Python writes it"}
    found |= {base64.b64encode(text.encode()).decode(): "Base64" for text in (secret, f"foo:{secret}")}
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, secret.encode())
        found[digest.hexdigest()] = name
        found[base64.b64encode(digest.digest()).decode()] = f"{name} in Base64"
    texts = {secret}
    for level in ("JSON", "JSON in JSON"):
        texts = {json.dumps(text, ensure_ascii=ascii)[1:-1] for text in texts for ascii in (True, False)}
        found |= dict.fromkeys(texts - found.keys(), level)
    found |= dict.fromkeys(re.findall(r"\w{8,}", secret, re.ASCII), "a part")
    # A plain word is the same in many of these forms.
    return {**found, secret: "plain"}


class Search:
    """:param secrets: by a name that tells which one was found, since a report must not repeat it."""

    def __init__(self, secrets: dict[str, str]) -> None:
        self.sought: dict[bytes, str] = {}
        for name, secret in secrets.items():
            self.sought |= {form.encode(): f"{what} of {name}" for form, what in forms(secret).items()}

    def data(self, data: bytes) -> set[str]:
        return {what for form, what in self.sought.items() if form in data}

    def files(self, *folders: pathlib.Path, since: float = 0) -> dict[pathlib.Path, set[str]]:
        """The files that hold something. What another process removes meanwhile is passed over.

        :param since: files that changed before are none of ours.
        """
        found = {}
        for folder in folders:
            for path, _seen in _files(folder, since):
                with contextlib.suppress(OSError):
                    if hits := self.data(_contents(path)):
                        found[path] = hits
        return found


def _files(folder: pathlib.Path, since: float = 0) -> t.Iterator[tuple[pathlib.Path, tuple[int, ...]]]:
    """Regular files, none of them through a link, and what changes when they do."""
    for parent, _folders, names in os.walk(folder):
        for name in names:
            path = pathlib.Path(parent, name)
            with contextlib.suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_ctime >= since and status.st_size < _LARGEST:
                    yield path, (status.st_ino, status.st_ctime_ns, status.st_size)


def _contents(path: pathlib.Path) -> bytes:
    """What a file holds; of an archive, which is how Ansible packs modules, what is packed in it."""
    data = path.read_bytes()
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
        data += b"".join(archive.read(name) for name in archive.namelist())
    return data


class Watch(threading.Thread):
    """Looks through the process table and some folders while something runs."""

    def __init__(self, search: Search, folders: t.Iterable[pathlib.Path]) -> None:
        super().__init__(daemon=True)
        self.search = search
        self.folders = list(folders)
        #: where → what
        self.found: dict[str, set[str]] = {}
        self.looks = 0
        self._seen: set[t.Hashable] = set()
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        while not self._stopping.wait(0.1):
            self.look()

    def look(self) -> None:
        with self._lock:
            self.looks += 1
            for pid in filter(str.isdigit, os.listdir("/proc")):
                for part in ("cmdline", "environ"):
                    with contextlib.suppress(OSError), open(f"/proc/{pid}/{part}", "rb", buffering=0) as file:
                        data = file.read()
                        self._note(f"the {part} of a process", data, data)
            for folder in self.folders:
                for path, version in _files(folder):
                    with contextlib.suppress(OSError):
                        self._note(str(path), None if version in self._seen else _contents(path), version)

    def _note(self, where: str, data: bytes | None, seen: t.Hashable) -> None:
        """Search what was not seen before: most processes and files stay as they are."""
        if data is None or seen in self._seen:
            return
        self._seen.add(seen)
        if hits := self.search.data(data):
            self.found.setdefault(where, set()).update(hits)
