# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of each generation: its content, and how it came to be. Pure, but for the clock."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._revision import Version


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

    @property
    def origin(self) -> tuple[str, str | None]:
        """Where the content came from first, if it was brought back: that version, and when it was published."""
        if self.change and self.change.source:
            return self.change.source, self.change.source_at
        return str(self.version), self.change.at if self.change else None


def now() -> str:
    """For ``Change.at``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
