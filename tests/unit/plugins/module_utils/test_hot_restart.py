# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a hot restart leads to another Envoy, and when only a restart does."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _hot_restart
from ansible_collections.moe.gateway.plugins.module_utils._hot_restart import PROTOCOL, Way, way

SUPERVISOR = {"protocol": PROTOCOL, "serving": {"epoch": 0}}
SAME, OTHER = ("11.104", "11.104"), ("11.104", "12.104")
HOT = Way("hot_restart")


@pytest.mark.parametrize(
    ("what", "outdated", "wanted", "supervisor", "versions", "expected"),
    [
        ("nothing to do", False, True, SUPERVISOR, SAME, Way("none")),
        ("nothing to do, and it is off", False, False, None, None, Way("none")),
        ("all is well", True, True, SUPERVISOR, SAME, HOT),
        ("check mode, before the new binary is there", True, True, SUPERVISOR, None, HOT),
        ("it is off", True, False, SUPERVISOR, SAME, Way("restart", "envoy_hot_restart is off")),
        (
            "one of before there was a supervisor",
            True,
            True,
            None,
            None,
            Way("restart", "the one that runs was started without a supervisor"),
        ),
        (
            "a supervisor of another time",
            True,
            True,
            {"protocol": 99},
            SAME,
            Way("restart", f"its supervisor speaks protocol 99, expected {PROTOCOL}"),
        ),
        (
            "one that has never served",
            True,
            True,
            {**SUPERVISOR, "serving": None},
            None,
            Way("restart", "the one that runs does not serve yet"),
        ),
        (
            "Envoys that don't understand each other",
            True,
            True,
            SUPERVISOR,
            OTHER,
            Way("restart", "the hot restart version is 11.104 and would be 12.104"),
        ),
    ],
)
def test_way(
    what: str,
    outdated: bool,
    wanted: bool,
    supervisor: dict[str, t.Any] | None,
    versions: tuple[str, str] | None,
    expected: Way,
) -> None:
    assert way(outdated, wanted, supervisor, versions) == expected, what


def test_there_may_be_no_supervisor(tmp_path: t.Any) -> None:
    assert _hot_restart.status(str(tmp_path)) is None
