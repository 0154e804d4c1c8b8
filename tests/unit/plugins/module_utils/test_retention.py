# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of extensions may go."""

from __future__ import annotations

import hashlib

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _retention
from ansible_collections.moe.gateway.plugins.module_utils._retention import Kept, Used


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def kept(name, version, mtime, inode=None):
    return Kept(name, digest(f"{name} {version}"), inode or 1000 * len(name) + version, mtime)


A1, A2, A3, A4 = (kept("a", version, mtime=version) for version in (1, 2, 3, 4))
B1, B2 = (kept("b-b", version, mtime=version) for version in (1, 2))
ALL = [A2, B1, A4, A1, B2, A3]
PATH = f"/opt/envoy/extensions/{A1.file}"


@pytest.mark.parametrize(
    ("why", "wanted", "named", "mapped", "keep", "gone"),
    [
        ("nothing uses any", [], [], [], 0, [A4, B2, A3, A2, B1, A1]),
        ("the newest of each name stay", [], [], [], 1, [A3, A2, B1, A1]),
        ("more may stay than there are", [], [], [], 9, []),
        ("the inventory has it", [A1.file, B1.file], [], [], 0, [A4, B2, A3, A2]),
        ("what the inventory has doesn't count as unused", [A4.file, B2.file], [], [], 1, [A2, A1]),
        ("a revision names it", [], [A1.sha256], [], 0, [A4, B2, A3, A2, B1]),
        ("what a revision names doesn't count either", [], [A4.sha256], [], 1, [A2, B1, A1]),
        ("a process runs it", [], [], [Used(PATH, A1.inode)], 0, [A4, B2, A3, A2, B1]),
        ("under another path, as in a container", [], [], [Used("/x.so", A1.inode)], 0, [A4, B2, A3, A2, B1]),
        ("another file, removed since", [], [], [Used(PATH, 7)], 0, [A4, B2, A3, A2, B1]),
        ("by another path with its name", [], [], [Used("/link/" + A1.file, 7)], 0, [A4, B2, A3, A2, B1]),
        ("a name is part of another", [], [], [Used(f"/x/b-{A1.file}", 7)], 0, [A4, B2, A3, A2, B1, A1]),
        ("all reasons at once", [A4.file], [A3.sha256], [Used(PATH, 7)], 0, [B2, A2, B1]),
    ],
)
def test_which_may_go(why, wanted, named, mapped, keep, gone):
    assert set(_retention.unused(ALL, wanted, named, mapped, keep)) == set(gone), why


def test_of_two_of_the_same_moment_the_same_stays_each_time():
    one, other = kept("a", 1, mtime=5), kept("a", 2, mtime=5)
    assert _retention.unused([one, other], [], [], [], 1) == _retention.unused([other, one], [], [], [], 1)


@pytest.mark.parametrize("name", ["a", "basic_auth", "a-b.c", f"a-{'0' * 64}"])
def test_names_of_ours(name):
    assert _retention.parse(f"{name}-{'a1' * 32}.so") == (name, "a1" * 32)


@pytest.mark.parametrize(
    "name",
    [
        "basic_auth.so",
        f"{'a1' * 32}.so",
        f"-{'a1' * 32}.so",
        f".x-{'a1' * 32}.so",
        f"x-{'A1' * 32}.so",
        f"x-{'a1' * 31}.so",
        f"x-{'a1' * 33}.so",
        f"x-{'a1' * 32}.so.bak",
        f"x-{'a1' * 32}.whole",
        f"x y-{'a1' * 32}.so",
        f"x-{'a1' * 32}.so\n",
        "",
    ],
)
def test_names_of_others(name):
    assert _retention.parse(name) is None


@pytest.mark.parametrize(
    "text",
    [
        b'{"filename": "/opt/x-%b.so"}' % A1.sha256.encode(),
        b'{"library_id": "x-%b", "library_path": "x"}' % A1.sha256.encode(),
        b"path: %b.so" % A1.sha256.encode(),
        b"\xff\0%b\xff" % A1.sha256.encode(),
    ],
)
def test_a_revision_names_a_digest(text):
    assert _retention.digests(text) == {A1.sha256}


@pytest.mark.parametrize("text", [b"", b"0" * 63, b"0" * 65, b"0" * 128, b"F" * 64])
def test_what_is_no_digest(text):
    assert _retention.digests(text) == set()
