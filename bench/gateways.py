# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateways that are measured."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from real import NATIVE, RealGateway, content_addressed, htpasswd, native_users

from bench.payload import Payload, Run
from demo import BUILD, ROOT

NAME = "basic_auth"
PASSWORDS = ("first-of-foo", "second-of-foo")
#: a credential that no rotation touches
STEADY = ("bar", "password-of-bar")


def extension() -> str:
    """The example extension, built if it is not up to date."""
    target = BUILD / "extensions" / "basic_auth.so"
    command = [sys.executable, "tools/build_extension.py", "examples/basic_auth", "-o", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return str(target)


class Rotating:
    """A gateway with the example extension, and two passwords of foo that take turns."""

    def __init__(self, gateway: RealGateway) -> None:
        self.gateway = gateway
        library = content_addressed(BUILD / "extensions" / "basic_auth.so", gateway.extensions)
        users = [
            {"username": "foo", "password": "${secret.foo}"},
            {"username": STEADY[0], "password": "${secret.bar}"},
        ]
        self._payload = Payload(
            "moe.gateway.envoy_filter",
            {
                **gateway.where(),
                "name": NAME,
                "engine": "dynamic_module",
                "extension": str(library),
                "config": {"realm": "bench", "users": users},
                "secrets": {"foo": "@PASSWORD@", "bar": STEADY[1]},
            },
        )
        self.turn = 0
        self.publish()

    @property
    def live(self):
        return self.gateway.live(NAME)

    def credential(self, turn: int) -> str:
        return f"foo:{PASSWORDS[turn % 2]}"

    def rotate(self) -> Run:
        """Publish the other password."""
        self.turn += 1
        return self.publish()

    def publish(self) -> Run:
        """Publish what this turn wants; at the second time there is nothing to do."""
        return self._payload.run(PASSWORD=PASSWORDS[self.turn % 2])


@contextlib.contextmanager
def running() -> t.Iterator[RealGateway]:
    gateway = RealGateway()
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.remove()


@contextlib.contextmanager
def rotating() -> t.Iterator[Rotating]:
    extension()
    with running() as gateway:
        check(gateway.serve({"name": NAME, "engine": "dynamic_module"}))
        yield Rotating(gateway)


@contextlib.contextmanager
def native() -> t.Iterator[RealGateway]:
    """A gateway with Envoy's own Basic Auth and the steady credential."""
    with running() as gateway:
        check(gateway.serve(NATIVE))
        check(gateway.filter(NATIVE["name"], **native_users(htpasswd(*STEADY))))
        yield gateway


def check(result: t.Any) -> None:
    if result.failed:
        raise RuntimeError(result["msg"])


def _status(process: int, key: str) -> int:
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    return int(re.search(rf"^{key}:\s+(\d+)", text, re.MULTILINE)[1])


def memory(process: int) -> float:
    """MiB that are resident."""
    return _status(process, "VmRSS") / 1024


def threads(process: int) -> int:
    return _status(process, "Threads")


def pin(process: int, core: int) -> None:
    """Keep a process on one core, where there are enough, so that Envoy and what drives it don't push each other."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for task in os.listdir(f"/proc/{process}/task"):
            os.sched_setaffinity(int(task), {cores[core % len(cores)]})


def wait(condition: t.Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("nothing happened in time")
        time.sleep(0.002)
