# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What identifies a revision: canonical content, secrets put in, a keyed digest, a version. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import invalid

# "$${secret." is the escape for a literal "${secret.", hence the optional first "$". What is misspelt matches too: else
# it would go to the gateway as it stands, as a password that anybody can guess.
_REFERENCE = re.compile(r"(\$?)\$\{(\s*secrets?\b[^}]*)(\}?)", re.IGNORECASE)
_WRITTEN = 'a reference as ${secret.NAME}, or "$${" for that very text'


def canonical(value: object) -> bytes:
    """The same bytes for the same content, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def substitute(value: t.Any, secrets: dict[str, str], path: str) -> tuple[t.Any, dict[str, str]]:
    """Put secrets in where ``${secret.NAME}`` stands in any string below ``value``.

    :param path: where ``value`` stands in the options, for errors.
    :returns: the value with its secrets, and the secrets that it uses.
    """
    used: dict[str, str] = {}

    def walk(item: t.Any, at: str) -> t.Any:
        if isinstance(item, dict):
            for key in item:
                if _REFERENCE.search(str(key)):
                    raise invalid(at, f"a reference to a secret in the key {key!r}", "references in values alone")
            return {key: walk(child, f"{at}.{key}") for key, child in item.items()}
        if isinstance(item, list):
            return [walk(child, f"{at}[{index}]") for index, child in enumerate(item)]
        if not isinstance(item, str):
            return item

        def put(match: re.Match[str]) -> str:
            escaped, body, end = match.groups()
            if escaped:
                return match.group(0)[1:]
            word, dot, name = body.partition(".")
            if not end:
                raise invalid(at, f'a "${{{word}{dot}" without its "}}"', _WRITTEN)
            if word + dot != "secret.":
                raise invalid(at, f'a "${{{word}{dot}"', _WRITTEN)
            if name not in secrets:
                known = ", ".join(sorted(secrets)) or "none is given"
                raise invalid(at, f"a reference to the secret {name!r}", f"one of the names in secrets ({known})")
            used[name] = secrets[name]
            return secrets[name]

        return _REFERENCE.sub(put, item)

    return walk(value, path), used


def check_secrets(secrets: object) -> dict[str, str]:
    """Secrets are a flat mapping of names to non-empty strings. Errors tell types, never values."""
    if not isinstance(secrets, dict):
        raise invalid("secrets", f"a {type(secrets).__name__}", "a mapping of names to strings")
    for name, value in secrets.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise invalid("secrets", "a name that is not a word", "names of letters, digits and underscores")
        if not isinstance(value, str) or not value:
            what = f"a value of type {type(value).__name__}" if value != "" else "an empty string"
            raise invalid(f"secrets.{name}", what, "a non-empty string", "Quote it, if it is a number.")
    return secrets


def keyed_digest(key: bytes, *parts: object) -> str:
    """16 hex digits that tell two contents apart and tell nothing to somebody without the gateway's key.

    A bare hash of a short secret can be reversed by trying all short secrets.
    """
    return hmac.new(key, canonical(parts), hashlib.sha256).hexdigest()[:16]


class Version(t.NamedTuple):
    """What Envoy reports as ``version_info``: which content, and by which publish it came.

    The generation makes every publish distinct, so that Envoy's ``version_text`` names one publish and no other.
    """

    digest: str
    generation: int

    def __str__(self) -> str:
        return f"{self.digest}-{self.generation}"

    @classmethod
    def parse(cls, text: object) -> Version | None:
        match = re.fullmatch(r"([0-9a-f]{16})-([1-9][0-9]{0,9})", text) if isinstance(text, str) else None
        return cls(match.group(1), int(match.group(2))) if match else None


def literal_secrets(config: t.Any, path: str = "config") -> list[str]:
    """Paths of values in ``config`` that look like secrets written in clear; those would show in output and diffs."""
    if isinstance(config, list):
        return [hit for index, child in enumerate(config) for hit in literal_secrets(child, f"{path}[{index}]")]
    if not isinstance(config, dict):
        return []
    hits = []
    for key, child in config.items():
        at = f"{path}.{key}"
        if isinstance(child, str):
            named = re.search(r"pass(word|phrase|wd)|secret|token|private_key", str(key), re.IGNORECASE)
            if named and not _REFERENCE.search(child):
                hits.append(at)
        else:
            hits.extend(literal_secrets(child, at))
    return hits
