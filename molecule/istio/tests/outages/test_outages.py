# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""istiods were gone, and the store was lost: gateways went on with what they had, and none was ever open."""

from __future__ import annotations

import pytest
from conftest import Gateway

CLIENTS = [(event, client) for event in ("outages", "restore") for client in ("nobody", "wrong")]


@pytest.mark.parametrize(("event", "client"), [*CLIENTS, ("outages", "old")])
def test_who_may_not_never_got_in(gateway: Gateway, event: str, client: str) -> None:
    outcomes = {answer.outcome for answer in gateway.answers(event)[client]}
    assert 401 in outcomes
    # Anything but an answer from upstream: refused, or no connection.
    assert not any(isinstance(outcome, int) and outcome < 400 for outcome in outcomes)


def test_only_a_gateway_that_restarts_needs_an_istiod(gateway: Gateway) -> None:
    outcomes = [answer.outcome for answer in gateway.answers("outages")["new"]]
    assert outcomes[0] == outcomes[-1] == 200
    assert ("ConnectionRefusedError" in outcomes) == (gateway.name == "bookworm")
    if gateway.name != "bookworm":
        assert {*outcomes} == {200}


def test_nobody_noticed_that_the_store_was_lost(gateway: Gateway) -> None:
    answers = gateway.answers("restore")["alice"]
    assert {answer.outcome for answer in answers} == {200}
    assert len(answers) > 100


def test_a_password_was_changed_after_that(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:baz"), gateway.status("foo:qux")) == (401, 401, 200)
