# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hides secrets in the words of others. Pure."""

from __future__ import annotations

import json
import re
import typing as t

MASK = "********"

#: So long a part of a secret is cut out as well as the whole. It is longer than "password", which reasons name.
_PART = 9
#: Characters of secrets beyond which only whole ones and their lines are cut out: a file of users has megabytes.
_MOST_IN_PART = 500_000


def mask(text: str, secrets: t.Iterable[str]) -> str:
    """``text`` without any of ``secrets``: as they are, as JSON and JSON within JSON write them, and in part."""
    forms = {secret for secret in secrets if secret}
    # Of a secret of several lines Envoy quotes single ones, and reasons are told with their white space collapsed.
    lines = {line.strip() for form in forms for line in form.splitlines()}
    forms |= {" ".join(form.split()) for form in forms} | {line for line in lines if len(line) >= 4}
    # The library behind regular expressions tells every byte as a character.
    forms |= {form.encode("utf-8", "surrogatepass").decode("latin-1") for form in forms}
    forms.discard("")
    for _level in range(2):
        forms |= {json.dumps(form, ensure_ascii=ascii)[1:-1] for form in forms for ascii in (True, False)}
    parts = set(forms)
    if sum(map(len, forms)) <= _MOST_IN_PART:
        parts = {form[at : at + _PART] for form in forms for at in range(max(1, len(form) - _PART + 1))}
    # Quotations that break off, such as Lua's.
    parts |= {form[:length] + "..." for form in forms for length in range(3, min(_PART, len(form)))}
    lengths = sorted({len(part) for part in parts})
    # Secrets may overlap: what any of them covers is found first, and replaced then.
    covered = bytearray(len(text))
    for at in range(len(text)):
        for length in lengths:
            if text[at : at + length] in parts:
                covered[at : at + length] = b"\1" * len(text[at : at + length])
    pieces = re.finditer(b"\1+|\0+", bytes(covered))
    return "".join(MASK if covered[piece.start()] else text[piece.start() : piece.end()] for piece in pieces)
