# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of extensions on a gateway may go. Pure: a table of cases tests it."""

from __future__ import annotations

import re
import typing as t

_FILE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)-([0-9a-f]{64})\.so")
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class Kept(t.NamedTuple):
    """A regular file in the directory of extensions that has a name of ours."""

    #: of the extension, as in ``envoy_extensions``
    name: str
    sha256: str
    inode: int
    #: when it was put there
    mtime: float

    @property
    def file(self) -> str:
        return f"{self.name}-{self.sha256}.so"


class Used(t.NamedTuple):
    """What a process has mapped."""

    path: str
    inode: int


def parse(file: str) -> tuple[str, str] | None:
    """Name and digest of an extension, from the name of its file; ``None`` for a file that is not of ours."""
    match = _FILE.fullmatch(file)
    return (match[1], match[2]) if match else None


def digests(text: bytes) -> set[str]:
    """All that may be a digest in a revision: whatever it stands in, a file that it names is needed."""
    return {found.decode("ascii") for found in _DIGEST.findall(text)}


def surplus(files: t.Iterable[Kept], wanted: t.Collection[str]) -> list[Kept]:
    """The files that no extension of the inventory is, newest first.

    :param wanted: names of files
    """
    others = [file for file in files if file.file not in wanted]
    return sorted(others, key=lambda file: (-file.mtime, file.file))


def unused(
    files: t.Iterable[Kept], wanted: t.Collection[str], named: t.Collection[str], mapped: t.Iterable[Used], keep: int
) -> list[Kept]:
    """The files that may go: of those that nothing uses, all but the newest ``keep`` of each name.

    Any sign of use counts. A process may have mapped the file under another path, such as that of a container or a
    link; or another file under this path, that was removed since: that process still has to find it at a restart.

    :param wanted: names of files that the inventory has
    :param named: digests that a revision names which is in service or kept
    :param mapped: what processes have mapped
    """
    uses = list(mapped)
    inodes = {use.inode for use in uses}
    mapped_files = {use.path.rpartition("/")[2] for use in uses}
    spared: dict[str, int] = {}
    found = []
    for file in surplus(files, wanted):
        if file.sha256 in named or file.inode in inodes or file.file in mapped_files:
            continue
        spared[file.name] = spared.get(file.name, 0) + 1
        if spared[file.name] > keep:
            found.append(file)
    return found
