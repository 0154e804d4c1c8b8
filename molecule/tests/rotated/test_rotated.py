# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A password that was changed while clients used it."""

from __future__ import annotations

import typing as t

import pytest
from conftest import Gateway

#: Seconds after which a change counts as not live; it takes milliseconds.
LIVE = 0.5


def test_the_new_password_is_the_one(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:bar"), gateway.status("foo:baz")) == (401, 401, 200)


@pytest.mark.parametrize("client", ["nobody", "wrong"])
def test_who_may_not_never_got_in(gateway: Gateway, client: str) -> None:
    assert {answer.outcome for answer in gateway.answers("rotate")[client]} == {401}


@pytest.mark.parametrize("client", ["alice", "alice's colleague"])
def test_nobody_else_noticed(gateway: Gateway, client: str) -> None:
    answers = gateway.answers("rotate")[client]
    assert {answer.outcome for answer in answers} == {200}
    assert len(answers) > 100


def test_no_connection_was_closed(gateway: Gateway) -> None:
    answers = gateway.answers("rotate").values()
    assert {answer.connection for of_client in answers for answer in of_client} == {1}


@pytest.mark.parametrize(("client", "before", "after"), [("old", 200, 401), ("new", 401, 200)])
def test_it_changed_once_and_at_once_on_the_open_connection(
    host: t.Any, gateway: Gateway, client: str, before: int, after: int
) -> None:
    # A rename sets the time of the inode's last change. All hosts share the controller's clock.
    published = float(host.check_output("stat --format=%.9Z /etc/envoy/xds/filters/basic_auth.json"))
    answers = gateway.answers("rotate")[client]
    assert {answer.outcome for answer in answers if answer.received < published} == {before}
    assert {answer.outcome for answer in answers if answer.sent > published + LIVE} == {after}
    changes = sum(one.outcome != other.outcome for one, other in zip(answers, answers[1:], strict=False))
    assert changes == 1
