# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Envoy that runs on its own: it outlives the module, is found again, and ends when told to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import typing as t

import pytest
from real import REPOSITORY, RealGateway, Result, run_module, wait_until

from ansible_collections.moe.gateway.plugins.module_utils._detached import Detached


class Own(RealGateway):
    """An Envoy that envoy_process starts."""

    def __init__(self) -> None:
        super().__init__()
        self.command = self.root / "run"
        self.bootstrap_path = self.root / "bootstrap.json"
        self.write(f"exec {self.binary} -c {self.bootstrap_path} --disable-hot-restart --concurrency 1")

    def write(self, script: str) -> None:
        self.bootstrap_path.write_text(json.dumps(self.bootstrap))
        self.command.write_text(f"#!/bin/sh\n{script}\n")
        self.command.chmod(0o700)

    def options(self, state: str, timeout: float = 20) -> dict[str, t.Any]:
        where = {"lock": str(self.root / "lock"), "output": str(self.log), "admin_socket": str(self.socket)}
        return {"state": state, "command": str(self.command), "timeout": timeout, **where}

    def bring(self, state: str, check: bool = False, timeout: float = 20) -> Result:
        return run_module("envoy_process", self.options(state, timeout), check)

    def detached(self) -> Detached:
        where = self.options("started")
        return Detached(where["command"], where["lock"], where["output"], where["admin_socket"], where["timeout"])

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int((self.root / "lock").read_text())
            if str(self.bootstrap_path).encode() in _command_line(pid):
                os.kill(pid, signal.SIGKILL)
        super().remove()


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()
    return b""


@pytest.fixture
def own() -> t.Iterator[Own]:
    gateway = Own()
    try:
        yield gateway
    finally:
        gateway.remove()


def test_started_found_again_restarted_and_stopped(own: Own) -> None:
    assert own.bring("started", check=True)["action"] == "started"
    assert not own.socket.exists()
    started = own.bring("started")
    assert (started["changed"], started["action"]) == (True, "started")
    # It must not end with the module that started it, however much later.
    time.sleep(0.5)
    assert own.admin.peer().process.pid == started["pid"]
    again = own.bring("started")
    assert (again["changed"], again["action"], again["pid"]) == (False, "none", started["pid"])
    assert own.bring("restarted", check=True)["pid"] is None
    assert own.admin.peer().process.pid == started["pid"]
    restarted = own.bring("restarted")
    assert (restarted["action"], restarted["previous_pid"]) == ("restarted", started["pid"])
    assert own.admin.peer().process.pid == restarted["pid"] != started["pid"]
    stopped = own.bring("stopped")
    assert (stopped["action"], stopped["previous_pid"]) == ("stopped", restarted["pid"])
    assert not _command_line(restarted["pid"])
    assert not own.bring("stopped")["changed"]


def test_after_a_kill_it_is_started_again(own: Own) -> None:
    pid = own.bring("started")["pid"]
    os.kill(pid, signal.SIGKILL)
    # A process that ends gives its lock back a moment after its command line.
    wait_until(lambda: own.detached().pid() is None, "Envoy keeps its lock")
    again = own.bring("started")
    assert (again["action"], again["previous_pid"]) == ("started", None)


def test_one_that_hangs_is_ended_all_the_same(own: Own) -> None:
    pid = own.bring("started")["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert own.bring("stopped", timeout=1)["action"] == "stopped"
    assert not _command_line(pid)


def test_two_runs_at_once_start_one(own: Own) -> None:
    program = ["-m", "ansible_collections.moe.gateway.plugins.modules.envoy_process"]
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": own.options("started")})
    runs = [_spawn(program, arguments) for _number in range(3)]
    results = [json.loads(run.communicate(timeout=60)[0]) for run in runs]
    started = [result for result in results if result.get("action") == "started"]
    assert len(started) == 1
    assert own.admin.peer().process.pid == started[0]["pid"]
    for result in results:
        assert not result.get("failed") or result["failure"]["code"] in ("starting", "foreign_envoy"), result


def _spawn(program: list[str], arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "build" / "collections")}
    run = subprocess.Popen(
        [sys.executable, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert run.stdin
    run.stdin.write(arguments)
    run.stdin.flush()
    return run


def test_a_bootstrap_that_envoy_refuses_is_told(own: Own) -> None:
    own.bootstrap["node"]["id"] = 7
    own.write(f"exec {own.binary} -c {own.bootstrap_path} --disable-hot-restart --concurrency 1")
    result = own.bring("started")
    assert result.code == "not_started"
    assert "node" in result["msg"]
    assert not own.bring("stopped")["changed"]


def test_a_command_that_is_not_there_is_told(own: Own) -> None:
    own.command.unlink()
    result = own.bring("started")
    assert result.code == "not_started"
    assert str(own.command) in result["msg"]


def test_one_that_never_serves_is_ended(own: Own) -> None:
    own.write("exec sleep 60")
    result = own.bring("started", timeout=1)
    assert result.code == "not_live"
    assert not own.bring("stopped")["changed"]


def test_another_envoy_behind_the_socket_is_left_alone(own: Own) -> None:
    own.start()
    assert own.process
    result = own.bring("started")
    assert result.code == "foreign_envoy"
    assert str(own.process.pid) in result["msg"]
    assert own.admin.peer().process.pid == own.process.pid
