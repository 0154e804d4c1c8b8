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
#: how a gateway refuses: by the filter, and else by what stands in its place while it has no configuration, or no code
REFUSALS: dict[str, set[int]] = {"installation_killed": {401, 403}, "extension_deleted": {401, 500}}
#: who must never get anything from upstream
STRANGERS = ("nobody", "wrong")


def statuses(answers: list[Answer]) -> set[int]:
    """Of the requests that had an answer."""
    return {answer.outcome for answer in answers if isinstance(answer.outcome, int)}


@pytest.mark.parametrize("client", STRANGERS)
def test_the_clients_see_a_gateway_that_is_open(gateway: Gateway, client: str) -> None:
    assert 200 in statuses(gateway.answers("opened")[client])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("client", STRANGERS)
def test_nobody_was_let_in_who_may_not(gateway: Gateway, fault: str, client: str) -> None:
    answers = gateway.answers(fault)[client]
    assert answers[0].outcome == answers[-1].outcome == 401
    # Any other status would tell that a request came past the filter, as a 503 does that of an upstream which is away.
    assert statuses(answers) <= REFUSALS.get(fault, {401})
    # A gateway that gives no answer proves nothing.
    assert sum(answer.outcome == 401 for answer in answers) > 100


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
