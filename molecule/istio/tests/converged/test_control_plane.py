# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of the control plane."""

from __future__ import annotations

import http.client
import re
import ssl
import typing as t

import pytest
import testinfra
from conftest import EPHEMERAL

UNITS = {
    "istiod1": ["istiod-etcd", "istiod-apiserver", "istiod"],
    "istiod2": ["istiod"],
}
#: ports that are open to other hosts
OPEN = {"istiod1": {22, 6443, 15012}, "istiod2": {22, 15012, 15014}}
SERVICES = [(name, unit) for name, units in UNITS.items() for unit in units]


def _host(name: str) -> t.Any:
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(EPHEMERAL / "ssh_config"))


@pytest.mark.parametrize(("name", "unit"), SERVICES)
def test_systemd_runs_it_from_boot_on(name: str, unit: str) -> None:
    service = _host(name).service(unit)
    assert service.is_running
    assert service.is_enabled
    assert service.systemd_properties["NRestarts"] == "0"


@pytest.mark.parametrize(("name", "unit"), SERVICES)
def test_it_may_do_next_to_nothing(name: str, unit: str) -> None:
    host = _host(name)
    pid = host.service(unit).systemd_properties["MainPID"]
    status = host.file(f"/proc/{pid}/status").content_string
    assert "\nUid:\t0\t" not in status
    assert {int(mask, 16) for mask in re.findall(r"^Cap\w+:\t(\w+)$", status, re.MULTILINE)} == {0}
    assert "NoNewPrivs:\t1" in status
    analysis = host.check_output(f"systemd-analyze --no-pager security {unit}.service")
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", analysis)
    assert exposure is not None, analysis
    assert float(exposure[1]) < 2.0


@pytest.mark.parametrize("name", UNITS)
def test_only_what_has_to_be_is_open_to_other_hosts(name: str) -> None:
    sockets = _host(name).socket.get_listening_sockets()
    found = [socket for socket in sockets if socket.startswith(("tcp", "udp")) and "://127.0.0.1:" not in socket]
    assert {int(socket.rpartition(":")[2]) for socket in found} == OPEN[name]


@pytest.mark.parametrize("name", UNITS)
def test_only_root_may_read_what_is_private(name: str) -> None:
    host = _host(name)
    private = host.check_output("find /etc/istio -name '*.key' -o -name '*.kubeconfig'").split()
    assert len(private) > 1
    for path in ["/etc/istio", *private]:
        file = host.file(path)
        assert (file.user, file.mode & 0o077) == ("root", 0)


def test_the_configuration_is_nobody_elses() -> None:
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("10.213.74.31", 6443, timeout=5, context=context)
    connection.request("GET", "/api/v1/namespaces/istio-system/secrets")
    assert connection.getresponse().status == 401


def test_debug_pages_are_nobody_elses() -> None:
    connection = http.client.HTTPConnection("10.213.74.32", 15014, timeout=5)
    connection.request("GET", "/debug/syncz")
    assert connection.getresponse().status == 401


@pytest.mark.parametrize("name", UNITS)
def test_no_secret_is_in_the_journal(name: str) -> None:
    journal = _host(name).check_output("journalctl --no-pager --output=cat")
    assert "Started" in journal
    assert "in-wonderland" not in journal
    assert "PRIVATE KEY" not in journal
