# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which generation a way back leads to, and that a repeated one leads nowhere."""

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._history import Change, Kept
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version
from ansible_collections.moe.gateway.plugins.module_utils._way_back import Wanted, choose, moment

A, B, C = ("a" * 16, "b" * 16, "c" * 16)


def kept(number, digest, action="published", source=None, noted=True):
    """Generation 7 is of 07:00, and so on; ``source`` is what a rollback took it from."""
    change = Change(
        f"2030-01-31T{number:02}:00:00Z",
        action,
        None,
        {},
        str(source.version) if source else None,
        source.change.at if source else None,
    )
    return Kept(Version(digest, number), {"content": digest}, {}, change if noted else None)


A1, B2, C3 = kept(1, A), kept(2, B), kept(3, C)
B3_HEALED = kept(3, B, "healed")
A3_BACK = kept(3, A, "rolled_back", A1)
A4_BACK_OF_C = kept(4, A, "rolled_back", A1)
A5_HEALED = kept(5, A, "healed", A1)
B5_AFTER = kept(5, B)

PREVIOUS = [
    ("the one before", [A1, B2], B2, A1),
    ("of three", [A1, B2, C3], C3, B2),
    ("beyond what only healed", [A1, B2, B3_HEALED], B3_HEALED, A1),
    ("repeated, it stays", [A1, B2, A3_BACK], A3_BACK, A3_BACK),
    ("repeated after the source was let go of", [B2, A3_BACK], A3_BACK, A3_BACK),
    ("repeated after somebody healed it", [A1, B2, C3, A4_BACK_OF_C, A5_HEALED], A5_HEALED, A5_HEALED),
    ("after the variables brought the other again", [A1, B2, A4_BACK_OF_C, B5_AFTER], B5_AFTER, A4_BACK_OF_C),
    ("of what no run lived to confirm", [A1, B2], Kept(Version(C, 3), None, {}, None), B2),
    ("where nothing was noted", [kept(1, A, noted=False), kept(2, B, noted=False)], kept(2, B, noted=False), "a" * 16),
]


@pytest.mark.parametrize(
    ("history", "current", "expected"), [case[1:] for case in PREVIOUS], ids=[c[0] for c in PREVIOUS]
)
def test_previous(history, current, expected):
    found = choose(history, current, Wanted(), "filter f")
    assert found.version.digest == expected if isinstance(expected, str) else found is expected


NAMED = [
    ("by number", [A1, B2, C3], C3, Wanted(generation=1), A1),
    ("the one in service", [A1, B2, C3], C3, Wanted(generation=3), C3),
    ("by version", [A1, B2, C3], C3, Wanted(version=f"{A}-1"), A1),
    ("repeated, it stays", [A1, B2, A3_BACK], A3_BACK, Wanted(generation=1), A3_BACK),
    ("repeated after it was let go of", [B2, A3_BACK], A3_BACK, Wanted(generation=1), A3_BACK),
    ("a version let go of, the same content in service", [B2, A3_BACK], A3_BACK, Wanted(version=f"{A}-1"), A3_BACK),
    ("forward again", [A1, B2, A3_BACK], A3_BACK, Wanted(generation=2), B2),
    ("nothing of ours in service", [A1, B2], None, Wanted(generation=1), A1),
    ("at the minute", [A1, B2, C3], C3, Wanted(at="2030-01-31T02:00:00Z"), B2),
    ("between", [A1, B2, C3], C3, Wanted(at="2030-01-31T02:59:59Z"), B2),
    ("later than all", [A1, B2, C3], C3, Wanted(at="2031-01-01T00:00:00Z"), C3),
    ("repeated, a time stays", [A1, B2, A3_BACK], A3_BACK, Wanted(at="2030-01-31T01:30:00Z"), A3_BACK),
    ("a time, its generation let go of", [B2, A3_BACK], A3_BACK, Wanted(at="2030-01-31T01:30:00Z"), A3_BACK),
    ("a time after the rollback's source", [B2, A3_BACK], A3_BACK, Wanted(at="2030-01-31T02:30:00Z"), B2),
    ("generations that noted nothing", [kept(1, A, noted=False), B2], B2, Wanted(at="2030-01-31T02:30:00Z"), B2),
]


@pytest.mark.parametrize(
    ("history", "current", "wanted", "expected"), [case[1:] for case in NAMED], ids=[c[0] for c in NAMED]
)
def test_named(history, current, wanted, expected):
    assert choose(history, current, wanted, "filter f") is expected


NOTHING = [
    ("no other content", [A1], A1, Wanted(), "no other content was kept from before " + A + "-1. Kept: " + A + "-1 of"),
    ("only what came later", [A1, B2], A1, Wanted(), "no other content was kept"),
    ("nothing of ours in service", [A1], None, Wanted(), "nothing that this collection published is in service"),
    ("nothing at all", [], None, Wanted(), "Kept: none"),
    ("a number that is not kept", [A1, B2], B2, Wanted(generation=9), "generation 9 is not kept"),
    ("the number of another content", [A1, B2], B2, Wanted(version=f"{C}-1"), f"version {C}-1 is not kept"),
    ("a time before all", [A1, B2], B2, Wanted(at="2029-01-01T00:00:00Z"), "nothing is kept from 2029-01-01T00:00:00Z"),
]


@pytest.mark.parametrize(
    ("history", "current", "wanted", "text"), [case[1:] for case in NOTHING], ids=[c[0] for c in NOTHING]
)
def test_nothing_to_go_back_to(history, current, wanted, text):
    with pytest.raises(Failure) as caught:
        choose(history, current, wanted, "filter f")
    assert caught.value.code == "no_generation"
    assert caught.value.message.startswith("filter f: ")
    assert text in caught.value.message
    assert caught.value.details["kept"] == [str(item.version) for item in history]


def test_a_version_that_is_none():
    with pytest.raises(Failure, match="version: found 'latest'"):
        choose([A1], A1, Wanted(version="latest"), "filter f")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00Z"),
        ("2030-01-31T12:00:00+02:00", "2030-01-31T10:00:00Z"),
        ("2030-01-31 12:00:00.900+00:00", "2030-01-31T12:00:00Z"),
    ],
)
def test_moments(text, expected):
    assert moment(text, "at") == expected


@pytest.mark.parametrize("text", ["", "noon", "2030-01-31", "2030-01-31T12:00:00", "12:00Z"])
def test_what_is_no_moment(text):
    with pytest.raises(Failure, match="^at: found .*, expected a time with its zone"):
        moment(text, "at")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"at": 1, "action": "published"},
        {**B2.change._asdict(), "origin": None},
        {**B2.change._asdict(), "source": 1},
    ],
    ids=str,
)
def test_a_damaged_note_is_none(data):
    assert Change.parse(data) is None


def test_a_note_survives_json():
    assert Change.parse(A3_BACK.change._asdict()) == A3_BACK.change
