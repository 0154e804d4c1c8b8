# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway that `site` has set up."""

from __future__ import annotations

import re
import typing as t

import pytest
from conftest import Gateway, play
from service import supervisor


def test_it_serves_who_may(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:wrong"), gateway.status("foo:bar")) == (401, 401, 200)


def test_it_is_httpbin_that_answers(gateway: Gateway) -> None:
    assert gateway.status("foo:bar", path="/status/418") == 418


def test_a_path_that_no_route_has_is_guarded_too(gateway: Gateway) -> None:
    assert (gateway.status(path="/other"), gateway.status("foo:bar", path="/other")) == (401, 404)


def test_systemd_runs_it_from_boot_on(host: t.Any) -> None:
    envoy = host.service("envoy")
    assert envoy.is_running
    assert envoy.is_enabled
    assert envoy.systemd_properties["NRestarts"] == "0"


def test_it_has_no_rights_but_to_bind_low_ports(host: t.Any) -> None:
    process = host.process.get(pid=supervisor(host)["serving"]["pid"])
    assert process.comm == "envoy-1.40.0"
    assert (process.user, process.group) == ("envoy", "envoy")
    status = host.file(f"/proc/{process.pid}/status").content_string
    capabilities = dict(re.findall(r"^(Cap\w+):\t(\w+)$", status, re.MULTILINE))
    # 1 << CAP_NET_BIND_SERVICE
    assert {int(mask, 16) for mask in capabilities.values()} == {1 << 10}
    assert "NoNewPrivs:\t1" in status


def test_systemd_calls_it_hardly_exposed(host: t.Any) -> None:
    analysis = host.check_output("systemd-analyze --no-pager security envoy.service")
    exposure = re.search(r"Overall exposure level for envoy.service: ([0-9.]+)", analysis)
    assert exposure is not None, analysis
    assert float(exposure[1]) < 2.0


def test_it_listens_nowhere_else(host: t.Any) -> None:
    sockets = host.socket.get_listening_sockets()
    ports = {socket.rpartition(":")[2] for socket in sockets if socket.startswith(("tcp", "udp"))}
    assert ports == {"22", "80"}


@pytest.mark.parametrize(
    ("path", "user", "mode"),
    [
        ("/etc/envoy", "envoy", 0o700),
        ("/etc/envoy/bootstrap-*.json", "envoy", 0o600),
        ("/etc/envoy/xds", "envoy", 0o700),
        ("/etc/envoy/xds/listeners.json", "envoy", 0o600),
        ("/etc/envoy/xds/filters/basic_auth.json", "envoy", 0o600),
        ("/etc/systemd/system/envoy.service", "root", 0o644),
        ("/opt/envoy/envoy-1.40.0", "root", 0o755),
        ("/opt/envoy/supervisor.py", "root", 0o755),
        ("/run/envoy", "envoy", 0o700),
        ("/run/envoy/admin.sock", "envoy", 0o600),
        ("/run/envoy/supervisor.sock", "envoy", 0o600),
        ("/run/envoy/hot-restart_parent_*", "envoy", 0o600),
    ],
)
def test_only_its_user_may_look(host: t.Any, path: str, user: str, mode: int) -> None:
    for found in host.check_output(f"echo {path}").split():
        file = host.file(found)
        assert (file.user, file.mode) == (user, mode)


def test_it_runs_the_extension_that_it_was_given(host: t.Any) -> None:
    (path,) = host.file("/opt/envoy/extensions").listdir()
    extension = host.file(f"/opt/envoy/extensions/{path}")
    assert (extension.user, extension.mode) == ("root", 0o444)
    digest = re.fullmatch(r"basic_auth-([0-9a-f]{64})\.so", path)
    assert digest is not None
    assert extension.sha256sum == digest[1]
    serving = supervisor(host)["serving"]["pid"]
    assert f"/opt/envoy/extensions/{path}\n" in host.file(f"/proc/{serving}/maps").content_string


def test_no_secret_is_in_the_journal(host: t.Any) -> None:
    journal = host.check_output("journalctl --no-pager --output=cat")
    assert "Started" in journal
    assert "Envoy gateway" in journal
    assert "in-wonderland" not in journal


@pytest.fixture(scope="module")
def checked() -> str:
    """What a check of all gateways says."""
    done = play("moe.gateway.site", "--check", "--diff", "--limit", "gateways")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_check_has_nothing_to_change(gateway: Gateway, checked: str) -> None:
    changed = dict(re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+) ", checked, re.MULTILINE))
    assert changed[gateway.name] == "0", checked
