# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that changes no file still sees that systemd runs Envoy, would start it at boot, and has read its unit."""

from __future__ import annotations

import typing as t

from conftest import Gateway


def test_systemd_is_as_it_should_be(host: t.Any) -> None:
    properties = host.service("envoy").systemd_properties
    assert (properties["ActiveState"], properties["UnitFileState"], properties["NeedDaemonReload"]) == (
        "active",
        "enabled",
        "no",
    )


def test_the_gateway_serves(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:wrong"), gateway.status("foo:bar")) == (401, 401, 200)
