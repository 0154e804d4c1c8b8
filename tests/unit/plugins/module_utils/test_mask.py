# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether any part of a secret is left where others quote it."""

from __future__ import annotations

import json
import random

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._mask import MASK, mask


@pytest.mark.parametrize(
    ("text", "secrets", "result"),
    [
        ("nothing here", ["x1"], "nothing here"),
        ("a bar b bar", ["bar"], f"a {MASK} b {MASK}"),
        ("", ["bar"], ""),
        ("text", [], "text"),
        ("text", [""], "text"),
        # One secret in another: the longer first.
        ("foobar foo", ["foo", "foobar"], f"{MASK} {MASK}"),
        ("foobar foo", ["foobar", "foo"], f"{MASK} {MASK}"),
        # As JSON writes it.
        (r'{"p": "a\"b\\c\n"}', ['a"b\\c\n'], '{"p": "' + MASK + '"}'),
        (r"p\u00e4ss and päss", ["päss"], f"{MASK} and {MASK}"),
        (r'"pä\"ss"', ['pä"ss'], f'"{MASK}"'),
        (r'"p\u00e4\"ss"', ['pä"ss'], f'"{MASK}"'),
        # What stands for a secret is not searched for another.
        ("abc", ["abc", "*"], MASK),
    ],
)
def test_masks(text, secrets, result):
    assert mask(text, secrets) == result


def test_no_part_of_secrets_that_overlap_is_left():
    assert mask("x abcdefghi y", ["abcdef", "defghi"]) == f"x {MASK} y"
    assert mask("x abcdefghi y", ["defghi", "abcdef"]) == f"x {MASK} y"


ODD_SECRETS = ["HIDDEN", 'a"b-HIDDEN', "a\\b-HIDDEN", "\u00e4-HIDDEN", "a\nb-HIDDEN", "\u2028-HIDDEN", '\u00e4"-HIDDEN']


@pytest.mark.parametrize("secret", ODD_SECRETS)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_secret_is_found_as_envoy_quotes_it(secret, ascii_only):
    """A native filter's configuration is part of Envoy's JSON; a dynamic module's is JSON in a string of that."""
    native = json.dumps({"typed_config": {"password": secret}}, ensure_ascii=ascii_only)
    module = json.dumps({"password": secret}, ensure_ascii=False)
    for text in (native, module, json.dumps({"value": module}, ensure_ascii=ascii_only)):
        masked = mask(f"Envoy refuses {text}.", [secret])
        assert MASK in masked
        assert "HIDDEN" not in masked


@pytest.mark.parametrize(
    ("text", "secret", "result"),
    [
        ('[string "x = one-two-three..."]: near', "one-two-three four", f'[string "x = {MASK}..."]: near'),
        ("[string one...]", "one two", f"[string {MASK}]"),
        ("unexpected two-three-four in it", "one two-three-four five", f"unexpected{MASK}in it"),
        ("missing ]: [caf\u00c3\u00a9-HIDDEN.", "caf\u00e9-HIDDEN", f"missing ]: [{MASK}."),
        ("username:password is expected", "no-password", "username:password is expected"),
    ],
)
def test_a_part_of_a_secret_is_found(text, secret, result):
    assert mask(text, [secret]) == result


def test_nothing_of_random_secrets_is_left():
    source = random.Random(3)
    for _round in range(300):
        secrets = ["".join(source.choice('ab"\\\n ä') for _c in range(source.randrange(1, 6))) for _s in range(4)]
        text = "".join(source.choice([*secrets, "x", "y"]) for _part in range(8))
        masked = mask(text, secrets)
        assert not [secret for secret in secrets if secret in masked.replace(MASK, "\0")]
