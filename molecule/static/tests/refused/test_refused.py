# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What did not come into service, or not for long."""

from __future__ import annotations

import typing as t

from conftest import Gateway
from service import supervisor


def test_what_ran_before_runs(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:other"), gateway.status("foo:bar")) == (401, 401, 200)


def test_only_the_first_gateway_of_the_rollout_changed_and_was_restored(host: t.Any, gateway: Gateway) -> None:
    state = supervisor(host)
    assert (state["serving"]["epoch"], state["draining"]) == ({"bookworm": 5, "trixie": 3}[gateway.name], [])


def test_nobody_noticed(gateway: Gateway) -> None:
    answers = gateway.answers("refused")
    assert {client: {answer.outcome for answer in seen} for client, seen in answers.items()} == {
        "nobody": {401},
        "wrong": {401},
        "alice": {200},
    }
    assert all(len(seen) > 100 for seen in answers.values())
