# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check of a new host left no trace."""

from __future__ import annotations

import typing as t

import pytest


@pytest.mark.parametrize(
    "path", ["/etc/envoy", "/opt/envoy", "/run/envoy", "/var/log/envoy", "/etc/systemd/system/envoy.service"]
)
def test_nothing_was_made(host: t.Any, path: str) -> None:
    assert not host.file(path).exists


def test_nobody_was_made(host: t.Any) -> None:
    assert not host.user("envoy").exists
    assert not host.group("envoy").exists


def test_nothing_listens(host: t.Any) -> None:
    assert not host.socket("tcp://0.0.0.0:80").is_listening
