# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a rotation grows with the number of gateways: a file on each of them, against one write to their istiod.

Both are a play of the one task that ``rotate`` is for such gateways. All of them are on this machine, so its processors
also do what each host of a fleet would do by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

from real import RealGateway, content_addressed

from bench import gateways
from bench.figure import Figure
from bench.istio import COUNTS, Fleet, fleet
from demo import BUILD

ROUNDS = 5
Task = dict[str, t.Any]


class Rotation:
    """A play of one task, which gives foo another password each time."""

    def __init__(self, folder: Path, name: str, hosts: dict[str, dict[str, t.Any]], task: Task) -> None:
        #: hosts on which it changes something
        self.changes = 1 if task.get("run_once") else len(hosts)
        self.forks = len(hosts)
        common = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        inventory = {"all": {"hosts": {host: {**common, **own} for host, own in hosts.items()}}}
        play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
        self.inventory, self.book = folder / f"{name}-hosts.json", folder / f"{name}.json"
        self.inventory.write_text(json.dumps(inventory), encoding="utf-8")
        self.book.write_text(json.dumps([play]), encoding="utf-8")
        self.turn = 0

    def run(self) -> float:
        """Seconds that the play took."""
        self.turn += 1
        command = [BUILD / "venv" / "bin" / "ansible-playbook", "--inventory", self.inventory, f"--forks={self.forks}"]
        command += ["--extra-vars", f"password={gateways.PASSWORDS[self.turn % 2]}", self.book]
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(BUILD / "collections")}
        begin = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
        if done.returncode or done.stdout.count("changed=1") != self.changes:
            raise RuntimeError(done.stdout + done.stderr)
        return seconds


def _by_files(folder: Path, started: list[RealGateway]) -> Rotation:
    filter_ = {"name": gateways.NAME, "engine": "dynamic_module"}
    hosts = {}
    for number, gateway in enumerate(started):
        library = content_addressed(BUILD / "extensions" / "basic_auth.so", gateway.extensions)
        hosts[f"gateway-{number}"] = {"where": gateway.where(), "extension": str(library)}
    users = [{"username": "foo", "password": "${secret.foo}"}]
    options = {
        **filter_,
        "extension": "{{ extension }}",
        "config": {"users": users},
        "secrets": {"foo": "{{ password }}"},
    }
    where = {key: f"{{{{ where.{key} }}}}" for key in started[0].where()}
    return Rotation(folder, f"files-{len(started)}", hosts, {"moe.gateway.envoy_filter": {**where, **options}})


def _by_istiod(folder: Path, mesh: Fleet, count: int) -> Rotation:
    hosts: dict[str, dict[str, t.Any]] = {f"gateway-{number}": {} for number in range(count)}
    task = {"moe.gateway.istio_filter": {**mesh.options(), "secrets": {"foo": "{{ password }}"}}, "run_once": True}
    return Rotation(folder, f"istiod-{count}", hosts, task)


def measure() -> list[Figure]:
    gateways.extension()
    figures = []
    with fleet() as mesh, contextlib.ExitStack() as ended, tempfile.TemporaryDirectory() as name:
        folder, started = Path(name), []
        for count in COUNTS:
            while len(started) < count:
                gateway = ended.enter_context(gateways.running())
                gateways.check(gateway.serve({"name": gateways.NAME, "engine": "dynamic_module"}))
                started.append(gateway)
            mesh.grow(count)
            ways = {
                "a file on each": _by_files(folder, started),
                "one write to istiod": _by_istiod(folder, mesh, count),
            }
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for _round in range(ROUNDS + 1):
                for way, rotation in ways.items():
                    taken[way].append(rotation.run())
            figures += [
                Figure(
                    f"a play that rotates, gateways: {count}, {way}",
                    # Not the first, which finds another state of things.
                    statistics.median(seconds[1:]),
                    " s",
                    detail=f"median of {ROUNDS}",
                )
                for way, seconds in taken.items()
            ]
    return figures
