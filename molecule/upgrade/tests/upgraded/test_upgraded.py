# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another version, which took over under load."""

from __future__ import annotations

import typing as t

from conftest import Gateway
from service import check_answers, check_service


def test_the_new_one_serves(host: t.Any) -> None:
    check_service(host, "1.40.0", 2, "v0.2.0")


def test_nobody_noticed(gateway: Gateway) -> None:
    check_answers(gateway, "upgrade")


def test_connections_were_let_go(gateway: Gateway) -> None:
    assert {answer.connection for answer in gateway.answers("upgrade")["foo"]} == {1, 2}


def test_systemctl_reload_does_it_too(host: t.Any, gateway: Gateway) -> None:
    host.run_expect([0], "systemctl reload envoy")
    check = "python3 /opt/envoy/supervisor.py status --run-dir /run/envoy"
    host.run_expect([0], f"timeout 60 sh -c 'while {check} | grep -A1 draining | grep -q {{; do sleep 1; done'")
    check_service(host, "1.40.0", 3, "v0.2.0")
    assert (gateway.status(), gateway.status("foo:bar")) == (401, 200)
