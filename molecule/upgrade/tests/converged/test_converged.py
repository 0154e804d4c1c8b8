# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway with an Envoy that is to be upgraded."""

from __future__ import annotations

import re
import typing as t

import pytest
from conftest import Gateway, play
from service import check_service


def test_it_serves(host: t.Any, gateway: Gateway) -> None:
    check_service(host, "1.39.3", 0, "v0.1.0")
    assert (gateway.status(), gateway.status("foo:bar")) == (401, 200)


def test_systemd_calls_it_hardly_exposed(host: t.Any) -> None:
    # In tenths, from 0 to 100.
    host.run_expect([0], "systemd-analyze security --threshold=20 envoy")


@pytest.fixture(scope="module")
def checked() -> str:
    """What a check of an upgrade says."""
    done = play("moe.gateway.site", "--check", "--extra-vars", "envoy_version=1.40.0")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_check_tells_what_an_upgrade_would_do_and_does_nothing(host: t.Any, gateway: Gateway, checked: str) -> None:
    assert f"Envoy hot restarts on {gateway.name}, which no request notices" in checked
    assert re.search(rf"changed: \[{gateway.name}\]", checked)
    check_service(host, "1.39.3", 0, "v0.1.0")
