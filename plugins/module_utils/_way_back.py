# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which generation a way back leads to. Pure: a table of cases tests it."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._history import Kept
from ansible_collections.moe.gateway.plugins.module_utils._keys import describe
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class Wanted(t.NamedTuple):
    """Which generation somebody wants; without any of these, the previous one."""

    generation: int | None = None
    version: str | None = None
    #: the one that was in service then: UTC, ISO 8601
    at: str | None = None


def moment(text: str, path: str) -> str:
    """A point in time that somebody wrote, in the form in which changes note theirs."""
    try:
        # Python before 3.11 reads no "Z".
        when = datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise invalid(path, describe(text), "a time with its zone, such as 2030-01-31T12:00:00Z")
    return when.astimezone(datetime.timezone.utc).strftime(_FORMAT)


def choose(kept: t.Sequence[Kept], current: Kept | None, wanted: Wanted, name: str) -> Kept:
    """The generation to go back to, or ``current`` if that is there already.

    A rollback that is repeated goes nowhere: what a rollback brought remembers from where, so "previous" means what was
    there before the last change that was no rollback, and a named generation is recognised even after its own file was
    let go of.

    :param kept: ascending.
    :param current: what is in service, which need not be among ``kept``; ``None`` if nothing of this collection is.
    :param name: of the filter, for errors.
    """
    change = current.change if current else None
    source = Version.parse(change.source) if change else None
    if wanted.generation is not None or wanted.version is not None:
        return _named(kept, current, source, wanted, name)
    if wanted.at is not None:
        return _at(kept, current, source, wanted.at, name)
    if current is None:
        raise _nothing(kept, name, "nothing that this collection published is in service", "Name the generation.")
    if source:
        return current
    for item in reversed(kept):
        if item.version.generation < current.version.generation and item.version.digest != current.version.digest:
            return item
    raise _nothing(kept, name, f"no other content was kept from before {current.version}", "")


def _named(kept: t.Sequence[Kept], current: Kept | None, source: Version | None, wanted: Wanted, name: str) -> Kept:
    version = Version.parse(wanted.version) if wanted.version is not None else None
    if wanted.version is not None and version is None:
        raise invalid("version", describe(wanted.version), "a version as status tells it, such as 3f0a9c5be1d04c55-12")
    number = version.generation if version else wanted.generation
    if current and (version.digest == current.version.digest if version else source and source.generation == number):
        return current
    for item in kept:
        if item.version.generation == number and version in (None, item.version):
            return item
    what = f"version {version}" if version else f"generation {number}"
    raise _nothing(kept, name, f"{what} is not kept", "Name one of these.")


def _at(kept: t.Sequence[Kept], current: Kept | None, source: Version | None, at: str, name: str) -> Kept:
    found = [(item.version.generation, item) for item in kept if item.change and item.change.at <= at]
    if current and source and current.change and (current.change.source_at or "~") <= at:
        # What is in service came from that one, whose own file may be gone.
        found.append((source.generation, current))
    if not found:
        raise _nothing(kept, name, f"nothing is kept from {at} or before", "Name one of these.")
    return max(found, key=lambda pair: (pair[0], pair[1] is current))[1]


def _nothing(kept: t.Sequence[Kept], name: str, what: str, fix: str) -> Failure:
    known = [f"{item.version} of {item.change.at if item.change else 'a time that was not noted'}" for item in kept]
    text = f"{name}: {what}. Kept: {', '.join(known) or 'none'}. {fix}".rstrip()
    return Failure("no_generation", f"{text} Nothing has changed.", kept=[str(item.version) for item in kept])
