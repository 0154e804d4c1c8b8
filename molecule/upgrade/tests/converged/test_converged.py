# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway with an Envoy that is to be upgraded."""

from __future__ import annotations

import re
import typing as t

from conftest import Gateway, play
from service import check_service


def test_it_serves(host: t.Any, gateway: Gateway) -> None:
    check_service(host, "1.39.3", 0, "v0.1.0")
    assert (gateway.status(), gateway.status("foo:bar")) == (401, 200)


def test_systemd_calls_it_hardly_exposed(host: t.Any) -> None:
    # In tenths, from 0 to 100.
    host.run_expect([0], "systemd-analyze security --threshold=20 envoy")


def test_a_check_tells_what_an_upgrade_would_do_and_does_nothing(host: t.Any) -> None:
    checked = play("moe.gateway.site", "--check", "--extra-vars", "envoy_version=1.40.0")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Envoy hot restarts on bookworm, which no request notices" in checked.stdout
    assert re.search(r"changed: \[bookworm\]", checked.stdout)
    check_service(host, "1.39.3", 0, "v0.1.0")
