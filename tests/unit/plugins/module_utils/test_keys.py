# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading nested input: every error names the whole path of its key, what stands there and what should."""

from __future__ import annotations

import re

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._keys import Mapping, describe


def item(**keys):
    return Mapping(keys, "top[0]")


@pytest.mark.parametrize(
    ("value", "phrase"),
    [
        (None, "nothing"),
        ("x", "'x' (str)"),
        ("", "'' (str)"),
        ("1", "'1' (str)"),
        (1, "1 (int)"),
        (True, "True (bool)"),
        (1.5, "1.5 (float)"),
        ([], "a list of 0"),
        ([{"password": "hidden"}], "a list of 1"),
        ({"password": "hidden", "b": 1}, "a mapping of 2"),
        ("x" * 78, repr("x" * 78) + " (str)"),
        ("x" * 79, "'" + "x" * 76 + "... (str)"),
        ("a\nb", r"'a\nb' (str)"),
    ],
)
def test_a_value_is_described_in_one_short_line(value, phrase):
    assert describe(value) == phrase


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_only_a_mapping_is_one(value):
    with pytest.raises(Failure, match=r"^top\[0\]: found .*, expected a mapping\.$"):
        Mapping(value, "top[0]")


READ = [
    (lambda m: m.text("a"), {"a": "x"}, "x"),
    (lambda m: m.text("a", None), {}, None),
    (lambda m: m.text("a", "default"), {"a": None}, "default"),
    (lambda m: m.text("a", pattern="[a-z]+"), {"a": "abc"}, "abc"),
    (lambda m: m.integer("a", 1, 9), {"a": 9}, 9),
    (lambda m: m.integer("a", -5, 9), {"a": "-5"}, -5),
    (lambda m: m.integer("a", 1, 9), {"a": "007"}, 7),
    (lambda m: m.integer("a", 0, 9), {"a": 0}, 0),
    (lambda m: m.integer("a", 1, 9, None), {}, None),
    (lambda m: m.boolean("a"), {"a": False}, False),
    (lambda m: m.boolean("a", None), {}, None),
    (lambda m: m.boolean("a", True), {"a": None}, True),
    (lambda m: m.mapping("a").path, {"a": {}}, "top[0].a"),
    (lambda m: m.mapping("a", None), {}, None),
    (lambda m: m.items("a"), {"a": ["x", "y"]}, [("top[0].a[0]", "x"), ("top[0].a[1]", "y")]),
    (lambda m: m.items("a"), {"a": []}, []),
    (lambda m: m.items("a", []), {}, []),
    (lambda m: m.only("a", "b").value, {"b": 1}, {"b": 1}),
]


@pytest.mark.parametrize(("read", "keys", "value"), READ)
def test_reads(read, keys, value):
    assert read(item(**keys)) == value


REFUSE = [
    (lambda m: m.text("a"), {}, "top[0].a: found nothing, expected a string."),
    (lambda m: m.text("a"), {"a": None}, "top[0].a: found nothing, expected a string."),
    (lambda m: m.text("a"), {"a": ""}, "top[0].a: found '' (str), expected a string."),
    (lambda m: m.text("a", None), {"a": ""}, "top[0].a: found '' (str), expected a string."),
    (lambda m: m.text("a", "default"), {"a": 1}, "top[0].a: found 1 (int), expected a string."),
    (
        lambda m: m.text("a", pattern="[a-z]+", expected="a word"),
        {"a": "abc\n"},
        r"top[0].a: found 'abc\n' (str), expected a word.",
    ),
    (lambda m: m.integer("a", 1, 9), {}, "top[0].a: found nothing, expected an integer from 1 to 9."),
    (lambda m: m.integer("a", 1, 9), {"a": 0}, "top[0].a: found 0 (int), expected an integer from 1 to 9."),
    (lambda m: m.integer("a", 1, 9), {"a": "10"}, "top[0].a: found '10' (str), expected an integer from 1 to 9."),
    (lambda m: m.integer("a", 0, 9), {"a": True}, "top[0].a: found True (bool), expected an integer from 0 to 9."),
    (lambda m: m.integer("a", 1, 9), {"a": 5.0}, "top[0].a: found 5.0 (float), expected an integer from 1 to 9."),
    (lambda m: m.integer("a", 1, 9), {"a": "5 "}, "top[0].a: found '5 ' (str), expected an integer from 1 to 9."),
    (lambda m: m.integer("a", 1, 9), {"a": "٣"}, "top[0].a: found '٣' (str), expected an integer from 1 to 9."),
    (lambda m: m.boolean("a"), {"a": "yes"}, "top[0].a: found 'yes' (str), expected true or false."),
    (lambda m: m.boolean("a"), {"a": 0}, "top[0].a: found 0 (int), expected true or false."),
    (lambda m: m.mapping("a", None), {"a": []}, "top[0].a: found a list of 0, expected a mapping."),
    (lambda m: m.mapping("a"), {}, "top[0].a: found nothing, expected a mapping."),
    (lambda m: m.items("a"), {"a": {}}, "top[0].a: found a mapping of 0, expected a list."),
    (lambda m: m.items("a"), {"a": "xy"}, "top[0].a: found 'xy' (str), expected a list."),
    (lambda m: m.items("a", at_least=1), {"a": []}, "top[0].a: found a list of 0, expected a list of at least 1."),
    (lambda m: m.items("a", at_least=1), {}, "top[0].a: found nothing, expected a list of at least 1."),
    (lambda m: m.only("b", "c"), {"a": 1}, "top[0].a: found an unknown key, expected one of b, c."),
    (lambda m: m.mapping("a").text("b"), {"a": {"b": 1}}, "top[0].a.b: found 1 (int), expected a string."),
]


@pytest.mark.parametrize(("read", "keys", "message"), REFUSE)
def test_refuses_with_the_whole_path(read, keys, message):
    with pytest.raises(Failure, match="^" + re.escape(message) + "$") as caught:
        read(item(**keys))
    assert caught.value.code == "invalid_option"
