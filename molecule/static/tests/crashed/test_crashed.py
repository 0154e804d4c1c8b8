# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Envoy that was killed: systemd starts another, whose bootstrap is made anew from the disk."""

from __future__ import annotations

import typing as t

import pytest
from conftest import Gateway
from service import supervisor


def test_it_serves_what_it_did(host: t.Any, gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:baz"), gateway.status("foo:bar")) == (401, 401, 200)
    assert supervisor(host)["serving"]["epoch"] == 0


@pytest.mark.parametrize("client", ["nobody", "wrong", "new"])
def test_it_was_never_open(gateway: Gateway, client: str) -> None:
    outcomes = {answer.outcome for answer in gateway.answers("crash")[client]}
    assert 401 in outcomes
    assert 200 not in outcomes
