# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A password that was changed while clients used it, by one write for both gateways."""

from __future__ import annotations

import pytest
from conftest import Gateway

#: Seconds between the last request with the old password that got through and the first with the new.
LIVE = 0.5


def test_the_new_password_is_the_one(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:bar"), gateway.status("foo:baz")) == (401, 401, 200)


@pytest.mark.parametrize(
    ("client", "statuses"),
    [("nobody", {401}), ("wrong", {401}), ("alice", {200}), ("alice's colleague", {200})],
)
def test_nobody_else_noticed(gateway: Gateway, client: str, statuses: set[int]) -> None:
    answers = gateway.answers("rotate")[client]
    assert {answer.outcome for answer in answers} == statuses
    assert len(answers) > 100


def test_no_connection_was_closed(gateway: Gateway) -> None:
    answers = gateway.answers("rotate").values()
    assert {answer.connection for of_client in answers for answer in of_client} == {1}


def test_it_changed_once_and_at_once_on_the_open_connection(gateway: Gateway) -> None:
    answers = gateway.answers("rotate")
    let_in = {client: [answer.outcome for answer in answers[client]] for client in ("old", "new")}
    assert let_in["old"] == sorted(let_in["old"])
    assert let_in["new"] == sorted(let_in["new"], reverse=True)
    assert {*let_in["old"]} == {*let_in["new"]} == {200, 401}
    last = max(answer.sent for answer in answers["old"] if answer.outcome == 200)
    first = min(answer.received for answer in answers["new"] if answer.outcome == 200)
    assert abs(first - last) < LIVE
