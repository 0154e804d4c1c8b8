# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways that hear from an istiod, under systemd."""

from __future__ import annotations

import typing as t

import pytest
from conftest import Gateway


def test_it_serves_who_may(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:wrong"), gateway.status("foo:bar")) == (401, 401, 200)


def test_it_is_httpbin_that_answers(gateway: Gateway) -> None:
    assert gateway.status("foo:bar", path="/status/418") == 418


def test_systemd_runs_it_from_boot_on(host: t.Any) -> None:
    envoy = host.service("envoy")
    assert envoy.is_running
    assert envoy.is_enabled
    assert envoy.systemd_properties["NRestarts"] == "0"


@pytest.mark.parametrize(("path", "mode"), [("/etc/envoy/ads", 0o700), ("/etc/envoy/ads/identity.pem", 0o600)])
def test_only_its_user_may_read_its_key(host: t.Any, path: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.mode) == ("envoy", mode)
