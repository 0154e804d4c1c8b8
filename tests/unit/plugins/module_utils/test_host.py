# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is and who is on it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _host
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.modules import gateway_files

#: Listens on a TCP port and on a Unix socket until its standard input ends.
SERVER = """
import socket, sys
tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen()
print(tcp.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path):
    """A function that starts another process which listens: (PID, port, socket)."""
    processes = []

    def start(**environment):
        path = f"{os.path.relpath(tmp_path)}/{len(processes)}.sock"
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        processes.append(process)
        return process.pid, int(process.stdout.readline()), path

    yield start
    for process in processes:
        process.communicate()


def look(endpoints=(), admin_socket=None, unit=None, now=None, places=(), alone=True):
    return _host.look(endpoints, admin_socket, unit, now, places, alone)


def test_another_process_on_a_port(server):
    pid, port, _path = server()
    for address in ("127.0.0.1", "0.0.0.0"):
        (taker,) = look([(address, port)]).takers
        assert (taker.address, taker.port, taker.pid, taker.command) == ("127.0.0.1", port, pid, sys.executable)
    assert look([("127.0.0.2", port)]).takers == []
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = free.getsockname()[1]
    assert look([("127.0.0.1", other)]).takers == []


def test_the_envoy_of_this_gateway_is_not_in_the_way(server):
    _pid, port, path = server(MOE_GATEWAY_START="x")
    found = look([("127.0.0.1", port)], path)
    assert (found.takers, found.stranger) == ([], None)
    # Under systemd it has to be the unit's, too.
    assert look([("127.0.0.1", port)], path, unit="no-such-unit").stranger is not None


def test_somebody_else_behind_the_admin_socket(server, tmp_path):
    pid, _port, path = server()
    assert (look(admin_socket=path).stranger.pid, look(admin_socket=path).stranger.command) == (pid, sys.executable)
    assert look(admin_socket=str(tmp_path / "none.sock")).stranger is None


def test_the_clock():
    assert abs(look(now=time.time()).ahead) < 60
    assert 3500 < look(now=time.time() - 3600).ahead < 3700
    assert look().ahead == 0.0


def test_space(tmp_path):
    deep = tmp_path / "not" / "yet" / "there"
    (place,) = look(places=[("a_key", str(deep), 5)]).places
    status = os.statvfs(tmp_path)
    assert (place.key, place.path, place.needed, place.device) == ("a_key", str(deep), 5, os.stat(tmp_path).st_dev)
    assert 0 < place.free <= status.f_blocks * status.f_frsize


@pytest.fixture
def units(tmp_path, monkeypatch):
    """Folders of units of their own; a function that puts a unit there."""
    folders = [tmp_path / name for name in ("etc", "lib")]
    monkeypatch.setattr(_host, "_UNITS", str(folders[0]))
    monkeypatch.setattr(_host, "_UNIT_FOLDERS", tuple(map(str, folders)))
    (folders[0] / "multi-user.target.wants").mkdir(parents=True)
    folders[1].mkdir()

    def put(folder, name, text, enabled=False):
        path = folders[["etc", "lib"].index(folder)] / name
        path.write_text(text)
        if enabled:
            (folders[0] / "multi-user.target.wants" / name).symlink_to(path)
        return path

    return put


FOREIGN = "[Service]\nExecStart=/usr/bin/envoy -c /etc/envoy/envoy.yaml\n"
OURS = "# Written by Ansible.\n[Service]\nExecStart=/usr/bin/python3 supervisor.py -- /opt/envoy/envoy-1.40.0\n"


def found_units(unit="moe-test"):
    # A machine that tests this may run an Envoy of its own.
    return [(found.name, found.how, found.where) for found in look(unit=unit).units if found.how != "active"]


def test_a_unit_in_the_way(units):
    path = units("etc", "moe-test.service", FOREIGN, enabled=True)
    assert found_units() == [("moe-test.service", "in the way", str(path))]
    path.write_text(OURS)
    assert found_units() == []


def test_a_unit_of_a_package(units):
    units("lib", "moe-test.service", FOREIGN, enabled=True)
    # Ours comes before it, under the same name.
    assert found_units() == []
    path = units("lib", "proxy.service", FOREIGN, enabled=True)
    assert found_units() == [("proxy.service", "enabled", str(path))]
    (path.parent.parent / "etc" / "proxy.service").symlink_to("/dev/null")
    assert found_units() == []


@pytest.mark.parametrize(
    ("name", "text", "active"),
    [
        ("moe-test.service", FOREIGN, True),
        ("proxy.service", FOREIGN, True),
        ("ssh.service", "[Service]\nExecStart=/usr/sbin/sshd -D\n", False),
    ],
)
def test_an_envoy_that_runs(units, monkeypatch, name, text, active):
    """Of a package, before ours is there; of another unit; within one, as another controller's throwaway Envoy."""
    units("lib", name, text)
    monkeypatch.setattr(_host, "_envoys", lambda: iter([os.getpid()]))
    monkeypatch.setattr(_host, "_unit_of", lambda pid: name)
    found = [(unit.name, unit.how, unit.where) for unit in look(unit="moe-test").units]
    assert found == ([(name, "active", f"PID {os.getpid()}")] if active else [])


def test_an_envoy_beside_it_does_no_harm_where_it_is_no_envoy(units):
    units("lib", "proxy.service", FOREIGN, enabled=True)
    path = units("etc", "moe-test.service", FOREIGN)
    assert [found.where for found in look(unit="moe-test", alone=False).units] == [str(path)]


def test_units_that_do_no_harm(units):
    units("lib", "disabled.service", FOREIGN)
    units("lib", "other.service", "[Service]\nExecStart=/usr/bin/other\n", enabled=True)
    units("etc", "gateway2.service", OURS, enabled=True)
    assert found_units() == []


def test_the_module_refuses_before_it_changes_anything(server, tmp_path):
    pid, port, _path = server()
    preflight = {
        "endpoints": [{"key": "envoy_filters_listeners[0].port", "address": "0.0.0.0", "port": port}],
        "unit": None,
        "alone": True,
        "manager": "envoy_service_manager",
        "systemd": None,
        "now": time.time() - 7200,
        "tolerance": 60.0,
        "space": [{"key": "envoy_install_dir", "path": str(tmp_path), "mib": 1 << 40}],
    }
    item = {"path": str(tmp_path / "d"), "mode": "0700", "keep": False}
    params = {"directories": [item], "files": [], "needs": [], "owner": None, "group": None, "admin_socket": None}
    params.update(started_with={}, hot_restart=None, preflight=preflight)
    for write in (False, True):
        with pytest.raises(Failure) as caught:
            gateway_files.run(params, write)
        assert [problem["code"] for problem in caught.value.details["problems"]] == ["port_taken", "clock_off"]
        assert f"envoy_filters_listeners[0].port: found PID {pid} ({sys.executable}) on" in caught.value.message
    assert not (tmp_path / "d").exists()
    # Space is for what has to be installed.
    params["needs"] = [{"path": str(tmp_path / "envoy")}]
    with pytest.raises(Failure, match="envoy_install_dir: found [0-9]+ MiB free"):
        gateway_files.run(params, True)


def test_what_systemd_says_of_a_unit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _host.service("envoy") == {}
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("""#!/bin/sh
test "$*" = "show --property=ActiveState,UnitFileState,NeedDaemonReload envoy.service" || exit 1
echo ActiveState=active
echo UnitFileState=
""")
    systemctl.chmod(0o700)
    assert _host.service("envoy") == {"ActiveState": "active", "UnitFileState": ""}
