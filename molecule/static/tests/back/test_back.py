# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The password from before, which came back by hot restart."""

from __future__ import annotations

import typing as t

from conftest import Gateway
from service import supervisor


def test_the_old_password_is_back(host: t.Any, gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:baz"), gateway.status("foo:bar")) == (401, 401, 200)
    assert supervisor(host)["serving"]["epoch"] == 3


def test_nobody_noticed(gateway: Gateway) -> None:
    answers = gateway.answers("rollback")
    assert {client: {answer.outcome for answer in seen} for client, seen in answers.items()} == {
        "nobody": {401},
        "wrong": {401},
        "alice": {200},
    }
    assert all(len(seen) > 100 for seen in answers.values())
