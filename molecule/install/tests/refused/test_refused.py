# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are not as they should be: every reason is named, and nothing changes."""

from __future__ import annotations

import typing as t

import pytest
from conftest import play

FOREIGN = "[Service]\nExecStart=/usr/bin/envoy -c /etc/envoy.yaml\n"


def refused(*options: str) -> str:
    done = play("moe.gateway.site", *options)
    output = " ".join((done.stdout + done.stderr).replace("\\n", " ").split())
    assert done.returncode == 2, output
    assert "Nothing has changed." in output, output
    assert "changed=0" in output, output
    return output


@pytest.fixture(autouse=True)
def nothing_is_left(host: t.Any) -> t.Iterator[None]:
    yield
    for path in ("/etc/envoy", "/opt/envoy", "/etc/systemd/system/envoy.service"):
        assert not host.file(path).exists


def test_another_process_on_the_port(host: t.Any) -> None:
    host.run_expect([0], "systemd-run --quiet --unit=squatter python3 -m http.server 80")
    try:
        host.run_expect([0], "sh -c 'until ss -Hltn sport = :80 | grep -q :80; do sleep 0.1; done'")
        pid = host.check_output("systemctl show --value --property=MainPID squatter")
        for options in ([], ["--check"]):
            output = refused(*options)
            assert f"envoy_filters_listeners[0].port: found PID {pid} (" in output
            assert "python3) on 0.0.0.0:80, expected a port that no other process listens on" in output
    finally:
        host.run_expect([0], "systemctl stop squatter")


def test_a_unit_in_the_way(host: t.Any) -> None:
    host.run_expect([0], f"printf '{FOREIGN}' > /etc/systemd/system/envoy.service")
    try:
        assert "found envoy.service in the way (/etc/systemd/system/envoy.service), which is not" in refused()
    finally:
        host.run_expect([0], "rm /etc/systemd/system/envoy.service")


def test_another_unit_that_runs_envoy(host: t.Any) -> None:
    host.run_expect(
        [0], f"printf '{FOREIGN}[Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/edge.service"
    )
    host.run_expect([0], "systemctl enable edge")
    try:
        assert "found edge.service enabled (/etc/systemd/system/edge.service), which is not of this role" in refused()
    finally:
        host.run_expect([0], "systemctl disable edge")
        host.run_expect([0], "rm /etc/systemd/system/edge.service")


def test_no_space(host: t.Any) -> None:
    host.run_expect([0], "mount -t tmpfs -o size=8m tmpfs /opt")
    try:
        assert "envoy_install_dir: found 8 MiB free for /opt/envoy, expected 256 MiB or more." in refused()
    finally:
        host.run_expect([0], "umount /opt")


def test_a_clock_that_is_off() -> None:
    output = refused("--extra-vars", "ansible_python_interpreter=/usr/local/bin/early-python")
    assert "envoy_clock_tolerance: found a clock 7" in output
    assert "s ahead of the controller's, expected 60 s at most." in output
