# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each generation came to be, and which of them a way back leads to. Pure: a table of cases tests it."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import describe
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class Change(t.NamedTuple):
    """How a generation came to be: for people, and to tell a rollback from other changes. Holds no secret."""

    #: UTC, ISO 8601, by the clock of the gateway
    at: str
    #: ``published``, ``healed``, ``rolled_back`` or ``restored``; ``noted`` for what an installation had put there
    action: str
    #: the version that was on disk before
    previous: str | None
    #: who asked for it, as far as that was said
    origin: dict[str, str]
    #: for what a rollback brought: the version that it took the content from, and when that was published
    source: str | None = None
    source_at: str | None = None

    @classmethod
    def parse(cls, data: object) -> Change | None:
        """From JSON; ``None`` if it is not one."""
        if not isinstance(data, dict):
            return None
        texts = [data.get(name) for name in ("previous", "source", "source_at")]
        origin = data.get("origin")
        if (
            not all(isinstance(data.get(name), str) for name in ("at", "action"))
            or not all(text is None or isinstance(text, str) for text in texts)
            or not isinstance(origin, dict)
        ):
            return None
        texts_of_origin = {str(key): str(value) for key, value in origin.items()}
        return cls(data["at"], data["action"], texts[0], texts_of_origin, texts[1], texts[2])


class Kept(t.NamedTuple):
    """A generation that is kept on disk."""

    version: Version
    content: t.Any
    #: what it was made from, with secrets as keyed digests; empty where that was not noted
    view: dict[str, t.Any]
    change: Change | None


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
