# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Envoy that is down, hangs, can't be reached, is another one than meant, or comes and goes during a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from real import NATIVE, RealGateway, Result, htpasswd, native_users, run_module, wait_until

GOOD = native_users(htpasswd("foo", "bar"))
NEXT = native_users(htpasswd("foo", "baz"), timeout=2)


@pytest.fixture
def served(gateway):
    gateway.serve(NATIVE)
    assert not gateway.filter("users", **GOOD).failed
    return gateway


def run_with_fault(gateway, number, *command, timeout=2):
    """Rotate with a command at the ``number``-th file operation."""
    process, _operations = gateway.faulty_filter("users", {**NEXT, "timeout": timeout}, "run", number, *command)
    return Result(process)


@pytest.fixture
def rename(served):
    """The number of the file operation that puts the live file in place."""
    options = native_users(htpasswd("foo", "first"))
    _process, operations = served.faulty_filter("users", options, "run", 0)
    assert not served.filter("users", **GOOD).failed
    return operations.index(f"rename {served.live('users')}") + 1


def test_down(served):
    files = served.files()
    served.stop()
    result = served.filter("users", **NEXT)
    assert (result.code, result["action"]) == ("envoy_down", "none")
    assert str(served.socket) in result["msg"]
    assert served.files() == files


def test_killed(served):
    """Its socket is still there, and nobody listens."""
    served.stop(signal.SIGKILL)
    result = served.filter("users", **NEXT)
    assert result.code == "envoy_down"
    assert "without removing its socket" in result["msg"]


def test_hung(served):
    files = served.files()
    os.kill(served.process.pid, signal.SIGSTOP)
    started = time.monotonic()
    result = served.filter("users", **NEXT)
    assert (result.code, result["action"]) == ("envoy_hung", "none")
    assert time.monotonic() - started < 6, "waits for its timeout of 2 s, not for ever"
    assert served.files() == files
    os.kill(served.process.pid, signal.SIGCONT)
    assert served.filter("users", **NEXT)["action"] == "published"


def test_hangs_during_the_publish(served, rename):
    """Nobody can tell what Envoy will make of the new file, so the last good one is put back before it looks."""
    result = run_with_fault(served, rename, "kill", "-STOP", str(served.process.pid))
    assert (result.code, result["action"]) == ("envoy_hung", "restored")
    assert result["failure"]["details"]["restored"] == "on disk"
    os.kill(served.process.pid, signal.SIGCONT)
    wait_until(lambda: served.get("foo:bar") == 200, "the last good revision serves")
    assert served.get("foo:baz") == 401
    assert not served.filter("users", **GOOD).failed
    assert served.filter("users", **GOOD)["action"] == "none"
    assert [served.get("foo:bar"), served.get("foo:baz")] == [200, 401]


def test_ends_during_the_publish(served, rename):
    result = run_with_fault(served, rename, "kill", "-KILL", str(served.process.pid))
    assert (result.code, result["action"]) == ("envoy_down", "restored")
    served.process.wait()
    served.start()
    assert [served.get("foo:bar"), served.get("foo:baz")] == [200, 401]
    assert served.filter("users", **NEXT)["action"] == "published"


def test_is_started_again_during_the_publish(served, rename):
    """A service manager brings it back with the new file: that is applied, and said to be."""
    process = served.process

    def bring_back():
        process.wait()
        served.start()

    manager = threading.Thread(target=bring_back)
    manager.start()
    result = run_with_fault(served, rename, "kill", "-KILL", str(process.pid), timeout=30)
    manager.join()
    assert not result.failed, result
    assert result["action"] == "published"
    assert [served.get("foo:bar"), served.get("foo:baz")] == [401, 200]
    assert served.filter("users", **NEXT)["action"] == "none"


def test_a_restart_in_between_changes_nothing(served):
    served.restart()
    assert served.get("foo:bar") == 200
    result = served.filter("users", **GOOD)
    assert (result["action"], result["found"]) == ("none", [])


def test_another_envoy_on_the_socket(served):
    """A second Envoy took over the admin socket: what it says is not what the first one runs."""
    other = RealGateway()
    try:
        other.socket = served.socket
        other.bootstrap["admin"] = served.bootstrap["admin"]
        other.start()
        files = served.files()
        result = served.filter("users", **NEXT)
        assert result.code == "wrong_gateway"
        assert f"PID {other.process.pid}" in result["msg"]
        assert str(served.live("users")) in result["msg"]
        assert run_module("envoy_config", served.where()).code == "wrong_gateway"
        assert served.files() == files
    finally:
        other.remove()


def test_another_envoy_on_the_port(served):
    """The kernel shares the port between the two, silently: half of the traffic would meet no filter."""
    other = RealGateway()
    try:
        other.port = served.port
        other.start()
        result = other.serve()
        assert result.code == "port_shared"
        assert f"PID {served.process.pid}" in result["msg"]
        assert f"127.0.0.1:{served.port}" in result["msg"]
        # It gets there by other means; then the gateway that was there first says so.
        listener = json.loads((served.directory / "listeners.json").read_text())
        listener["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"].pop(0)
        other.push(other.directory / "listeners.json", json.dumps(listener))
        wait_until(lambda: other.admin.listeners() != [], "the other one listens")
        result = served.filter("users", **NEXT)
        assert result.code == "port_shared"
        assert f"PID {other.process.pid}" in result["msg"]
    finally:
        other.remove()
    assert served.filter("users", **NEXT)["action"] == "published"


def test_something_else_on_the_socket(served):
    served.stop()
    served.socket.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(served.socket))
        server.listen()

        def answer():
            for _number in range(3):
                connection, _address = server.accept()
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        result = served.filter("users", **NEXT)
    assert result.code == "admin_error"
    assert "not Envoy's admin interface" in result["msg"]


def test_no_socket_at_all(served):
    served.socket.unlink()
    result = served.filter("users", **NEXT)
    assert result.code == "envoy_down"
    assert "there is no such socket" in result["msg"]


def test_two_runs_at_once(served):
    """One waits for the other; both succeed, and the gateway runs what the later one brought."""
    results = {}

    def rotate(word):
        results[word] = served.filter("users", **native_users(htpasswd("foo", word), timeout=30))

    threads = [threading.Thread(target=rotate, args=(word,)) for word in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result["action"] for result in results.values()] == ["published"] * 3
    latest = max(results, key=lambda word: results[word]["generation"])
    assert len({result["generation"] for result in results.values()}) == 3
    assert [served.get(f"foo:{word}") == 200 for word in results] == [word == latest for word in results]


def test_a_run_that_does_not_end_is_named(served):
    holder = subprocess.Popen(
        [shutil.which("flock") or "flock", str(served.directory / "state"), "sleep", "30"],
    )
    try:
        time.sleep(0.3)
        result = served.filter("users", **NEXT)
        assert result.code == "locked"
        assert str(served.directory / "state") in result["msg"]
    finally:
        holder.terminate()
        holder.wait()
    assert served.get("foo:bar") == 200
