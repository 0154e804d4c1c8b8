# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients saw during each fault. That the next run converged is seen by the playbooks, right after the fault."""

from __future__ import annotations

import typing as t

import pytest
from conftest import Gateway
from prober import Answer

BOTH = ("bullseye", "trixie")
#: faults, and the gateways whose clients may notice them
FAULTS: dict[str, tuple[str, ...]] = {
    "disk_full": (),
    "read_only": (),
    "two_controllers": (),
    "controller_killed": (),
    "installation_killed": BOTH,
    "envoy_killed": BOTH,
    "paused": ("bullseye",),
    "cut_off": ("bullseye",),
    "restarted": BOTH,
    "clock_jump": (),
    "extension_deleted": BOTH,
    "foreign_edits": (),
}
#: who must never get anything from upstream
STRANGERS = ("nobody", "wrong")


def let_in(answers: list[Answer]) -> list[Answer]:
    """Those that are not a refusal, nor no answer at all."""
    return [answer for answer in answers if isinstance(answer.outcome, int) and answer.outcome < 400]


@pytest.mark.parametrize("client", STRANGERS)
def test_the_clients_see_a_gateway_that_is_open(gateway: Gateway, client: str) -> None:
    assert let_in(gateway.answers("opened")[client])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("client", STRANGERS)
def test_nobody_was_let_in_who_may_not(gateway: Gateway, fault: str, client: str) -> None:
    answers = gateway.answers(fault)[client]
    assert answers[0].outcome == answers[-1].outcome == 401
    assert let_in(answers) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_who_may_was_served(gateway: Gateway, fault: str) -> None:
    answers = gateway.answers(fault)["alice"]
    assert answers[0].outcome == answers[-1].outcome == 200
    missed = [answer for answer in answers if answer.outcome != 200]
    if gateway.name in FAULTS[fault]:
        # The fault did happen.
        assert missed
    else:
        assert missed == []
        assert answers[-1].connection == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_the_password_changed(gateway: Gateway, fault: str) -> None:
    """Each fault met a rotation, in the fault itself or in the run after it."""
    for client in ("old", "new"):
        assert {200, 401} <= {answer.outcome for answer in gateway.answers(fault)[client]}


def test_systemd_is_content(host: t.Any) -> None:
    assert host.service("envoy").is_running
    assert host.check_output("systemctl list-units --state=failed --plain --no-legend") == ""
