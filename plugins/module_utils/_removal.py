# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host is this collection's, and may be removed from it. Pure: a table of cases tests it."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._kinds import FILTER_NAME
from ansible_collections.moe.gateway.plugins.module_utils._retention import parse

#: What can be told apart, and so kept.
PARTS = ("binaries", "extensions", "configuration", "logs", "user")

#: What a killed run of gateway_files leaves.
_STAGED = r"\.new-[0-9a-f]{16}-"
_BINARY = re.compile(rf"envoy-[0-9A-Za-z._+-]+|envoy\.service\.previous|({_STAGED})?(supervisor|static)\.py")
#: Of the config source ads, in a directory of their own beside the bootstrap.
_ADS = re.compile(rf"({_STAGED})?(ca|identity)\.(json|pem)")
_CONFIG = re.compile(rf"({_STAGED})?(bootstrap(-[0-9a-f]{{16}})?\.json|run)")
#: Below the directory that Envoy reads; a filter's live file is judged by its name.
_LIVE = re.compile(rf"({_STAGED})?(clusters|listeners)\.json")
_STATE = re.compile(
    rf"state/(key|twin|staged-[0-9a-f]{{16}}|(clusters|listeners|filters/{FILTER_NAME})/([1-9][0-9]{{0,9}}|record)\.json)"
)
_FILTER = re.compile(rf"filters/({FILTER_NAME})\.json")
_FOLDERS = re.compile(rf"filters|state|state/(clusters|listeners|filters|filters/{FILTER_NAME})")
#: What Envoy, its supervisor and envoy_process make there.
_RUN = re.compile(
    r"bootstrap\.json(\.new)?|(admin|supervisor)\.sock|envoy\.lock|envoy\.log|base-id|hot-restart_(udp_)?(child|parent)_[0-9]+"
)


class Places(t.NamedTuple):
    """Where the roles put things. An empty path stands for nothing."""

    install_dir: str
    extensions_dir: str
    config_dir: str
    directory: str
    run_dir: str
    log_path: str

    @property
    def directories(self) -> tuple[str, ...]:
        """The directory that Envoy reads, and the one that a killed hot restart leaves beside it (see ``_twin``)."""
        return (self.directory, self.directory + ".next") if self.directory else ()


class Entry(t.NamedTuple):
    path: str
    is_directory: bool


class Removal(t.NamedTuple):
    #: in an order in which it can be done: a directory after what is in it
    remove: list[Entry]
    #: what is not ours, and keeps a directory of ours in place
    left: list[str]


def plan(
    places: Places,
    found: t.Iterable[Entry],
    filters: t.Collection[str],
    keep: t.Collection[str],
    used: t.Collection[str] = (),
) -> Removal:
    """What to remove of what was found.

    :param found: the places themselves, where they are there, and what is in them. A link is no directory.
    :param filters: the names of the filters that this collection has published or denied here.
    :param keep: of :data:`PARTS`, what stays.
    :param used: paths of files that somebody else needs.
    """
    entries = sorted(set(found), key=lambda entry: entry.path, reverse=True)
    remove: list[Entry] = []
    left: list[str] = []
    staying: set[str] = set()
    for entry in entries:
        part = None if entry.path in used else _part(places, entry, filters)
        # What is below a directory sorts after it, so here comes before it.
        full = entry.is_directory and entry.path in staying
        if part is not None and part not in keep and not full:
            remove.append(entry)
            continue
        staying.add(os.path.dirname(entry.path))
        around = _part(places, Entry(os.path.dirname(entry.path), True), filters)
        if part is None and around not in keep and not full:
            left.append(entry.path)
    return Removal(remove, sorted(left))


def _part(places: Places, entry: Entry, filters: t.Collection[str]) -> str | None:
    """Which part an entry belongs to; ``None`` if it is somebody else's."""
    path, is_directory = entry
    if is_directory:
        roots = {
            # It may be one of the others.
            os.path.dirname(places.log_path): "logs",
            places.install_dir: "binaries",
            places.extensions_dir: "extensions",
            places.config_dir: "configuration",
            **dict.fromkeys(places.directories, "configuration"),
            places.run_dir: "configuration",
        }
        if path in roots:
            return roots[path]
        if path == f"{places.config_dir}/ads":
            return "configuration"
        return "configuration" if _FOLDERS.fullmatch(_below(places, path) or "-") else None
    if path == places.log_path:
        return "logs"
    name = os.path.basename(path)
    parent = os.path.dirname(path)
    if parent == places.install_dir and _BINARY.fullmatch(name):
        return "binaries"
    if parent == places.extensions_dir and parse(name):
        return "extensions"
    if parent == places.config_dir and _CONFIG.fullmatch(name):
        return "configuration"
    if parent == f"{places.config_dir}/ads" and _ADS.fullmatch(name):
        return "configuration"
    if parent == places.run_dir and _RUN.fullmatch(name):
        return "configuration"
    below = _below(places, path)
    if below is None:
        return None
    live = _FILTER.fullmatch(below)
    ours = live[1] in filters if live else _LIVE.fullmatch(below) or _STATE.fullmatch(below)
    return "configuration" if ours else None


def is_ours(places: Places, path: str) -> bool:
    """Whether a directory is one that this collection makes, and so one to look into."""
    return _part(places, Entry(path, True), ()) is not None


def _below(places: Places, path: str) -> str | None:
    """Where in a directory of Envoy's a path is."""
    return next((path[len(root) + 1 :] for root in places.directories if path.startswith(root + "/")), None)
