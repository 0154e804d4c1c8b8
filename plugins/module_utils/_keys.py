# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads nested input key by key, so that every error names the whole path of the key that is wrong.

``ansible.module_utils``' argument spec covers the options of a module; this covers what lies deeper and needs
a better error than "Elements value for option ... is of type str".
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import invalid

_MISSING: t.Any = object()


def describe(value: object) -> str:
    """A value as a phrase for an error: its type, and the value itself where that is short."""
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind} of {len(value)}"
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


class Mapping:
    """A mapping at a known path. Each reader raises :class:`Failure` naming ``path.key``.

    ``only()`` must be called with all keys that are allowed, so that a misspelt key is an error, never ignored.
    """

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise invalid(path, describe(value), "a mapping")
        self.value: dict[str, t.Any] = value
        self.path = path

    def at(self, key: str) -> str:
        return f"{self.path}.{key}"

    def only(self, *allowed: str) -> Mapping:
        for key in self.value:
            if key not in allowed:
                raise invalid(self.at(str(key)), "an unknown key", "one of " + ", ".join(allowed))
        return self

    def _get(self, key: str, default: t.Any, expected: str) -> t.Any:
        value = self.value.get(key)
        if value is not None:
            return value
        if default is _MISSING:
            raise invalid(self.at(key), "nothing", expected)
        return default

    def text(self, key: str, default: t.Any = _MISSING, pattern: str = "", expected: str = "a string") -> t.Any:
        """A non-empty string that matches ``pattern`` whole, if given."""
        value = self._get(key, default, expected)
        if value is default and default is not _MISSING:
            return value
        if not isinstance(value, str) or not value or (pattern and not re.fullmatch(pattern, value)):
            raise invalid(self.at(key), describe(value), expected)
        return value

    def integer(self, key: str, low: int, high: int, default: t.Any = _MISSING) -> t.Any:
        """An integer, or a string of one (Jinja may give either), from ``low`` to ``high``."""
        expected = f"an integer from {low} to {high}"
        value = self._get(key, default, expected)
        if value is default and default is not _MISSING:
            return value
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise invalid(self.at(key), describe(self.value.get(key)), expected)
        return value

    def boolean(self, key: str, default: t.Any = _MISSING) -> t.Any:
        value = self._get(key, default, "true or false")
        if not isinstance(value, bool) and value is not default:
            raise invalid(self.at(key), describe(value), "true or false")
        return value

    def mapping(self, key: str, default: t.Any = _MISSING) -> t.Any:
        value = self._get(key, default, "a mapping")
        return value if value is default else Mapping(value, self.at(key))

    def items(self, key: str, default: t.Any = _MISSING, at_least: int = 0) -> t.Any:
        """The (path, value) pairs of a list."""
        expected = f"a list of at least {at_least}" if at_least else "a list"
        value = self._get(key, default, expected)
        if value is default:
            return value
        if not isinstance(value, list) or len(value) < at_least:
            raise invalid(self.at(key), describe(value), expected)
        return [(f"{self.at(key)}[{index}]", item) for index, item in enumerate(value)]
