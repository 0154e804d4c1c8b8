# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway whose Envoy came from a package that brings units of its own."""

from __future__ import annotations

import typing as t


def test_the_package_is_there_and_its_binary_runs_as_a_copy(host: t.Any) -> None:
    assert host.package("envoy").version == "1.40.0-1"
    assert host.file("/opt/envoy/envoy-1.40.0").sha256sum == host.file("/usr/bin/envoy").sha256sum
    (envoy,) = host.process.filter(comm="envoy-1.40.0")
    assert host.check_output(f"readlink /proc/{envoy.pid}/exe") == "/opt/envoy/envoy-1.40.0"


def test_none_of_its_units_runs(host: t.Any) -> None:
    assert host.process.filter(comm="envoy") == []
    assert host.service("envoy-proxy").is_masked
    assert not host.service("envoy-proxy").is_running
    # It never did: Debian was told to start nothing.
    assert host.check_output("journalctl --unit=envoy-proxy --no-pager --quiet") == ""
    unit = host.check_output("systemctl show --value --property=FragmentPath envoy")
    assert unit == "/etc/systemd/system/envoy.service"


def test_nothing_forbids_debian_to_start_units_any_more(host: t.Any) -> None:
    assert not host.file("/usr/sbin/policy-rc.d").exists
