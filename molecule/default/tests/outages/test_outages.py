# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Envoy was killed, a host rebooted, another lost power: they came up with what was published last, and never open."""

from __future__ import annotations

import typing as t

import pytest
from conftest import Gateway

EVENTS = ["crash", "reboot"]
#: Seconds that foo may have to wait in all.
OUTAGE = 15


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("client", ["nobody", "wrong", "old"])
def test_who_may_not_never_got_in(gateway: Gateway, event: str, client: str) -> None:
    outcomes = {answer.outcome for answer in gateway.answers(event)[client]}
    assert 401 in outcomes
    # Anything but an answer from upstream: refused, or no connection.
    assert not any(isinstance(outcome, int) and outcome < 400 for outcome in outcomes)


@pytest.mark.parametrize("event", EVENTS)
def test_who_may_was_soon_served_again(gateway: Gateway, event: str) -> None:
    answers = gateway.answers(event)["new"]
    assert answers[0].outcome == answers[-1].outcome == 200
    missed = [answer for answer in answers if answer.outcome != 200]
    # The event did happen.
    assert missed
    assert missed[-1].received - missed[0].sent < OUTAGE


def test_the_last_password_is_in_force(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:bar"), gateway.status("foo:baz")) == (401, 401, 200)


def test_systemd_is_content(host: t.Any) -> None:
    envoy = host.service("envoy")
    assert envoy.is_running
    assert envoy.is_enabled
    # Since the host's own start.
    assert envoy.systemd_properties["NRestarts"] == "0"
    assert host.check_output("systemctl list-units --state=failed --plain --no-legend") == ""
