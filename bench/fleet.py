# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten gateways: what our playbooks take, in times of the least that Ansible could do on the same hosts.

All of them are on this machine, so its processors also do what each host of a fleet would do by itself.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import statistics
import tempfile
import time
import typing as t

from plays import Site, write_inventory

from bench.figure import Figure
from bench.gateways import extension

HOSTS = 10
ROUNDS = 7


class Fleet:
    """Gateways on this machine, and plays on all of them."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        library = pathlib.Path(extension())
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="moe-fleet-"))
        stack.callback(shutil.rmtree, self._folder)
        self._sites = [Site(library) for _host in range(HOSTS)]
        for site in self._sites:
            stack.callback(site.remove)
        hosts = {f"gateway{number}": site.variables for number, site in enumerate(self._sites)}
        self._inventory = write_inventory(self._folder / "inventory", hosts)
        self._turn = 0

    def turn(self) -> None:
        """From now on the credential, and the file that is copied, are others."""
        self._turn += 1
        secrets = self._inventory / "group_vars" / "gateways" / "turn.yml"
        secrets.write_text(json.dumps({"envoy_filters_secrets": {"foo_password": f"password-{self._turn}"}}))
        secrets.chmod(0o600)

    def book(self, name: str) -> float:
        return self._play(f"playbooks/{name}.yml")

    def task(self, task: dict[str, t.Any]) -> float:
        book = self._folder / "book.json"
        book.write_text(json.dumps([{"hosts": "gateways", "gather_facts": False, "tasks": [task]}]))
        return self._play(str(book))

    def copy(self) -> float:
        """Of a file like the one that a rotation writes."""
        content = json.dumps({"resources": [{"password": f"password-{self._turn}", "rest": "x" * 1000}]})
        copy = {"content": content, "dest": "{{ local_root }}/copied.json", "mode": "0600"}
        return self.task({"ansible.builtin.copy": copy})

    def ping(self) -> float:
        return self.task({"ansible.builtin.ping": {}})

    def _play(self, book: str) -> float:
        begin = time.perf_counter()
        done = self._sites[0].run("-i", str(self._inventory), "--forks", str(HOSTS), book)
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return seconds


def measure() -> list[Figure]:
    with contextlib.ExitStack() as stack:
        fleet = Fleet(stack)
        fleet.turn()
        fleet.book("site")
        plays: dict[str, t.Callable[[], float]] = {
            "rotate": lambda: fleet.book("rotate"),
            "copy": fleet.copy,
            "rotate, unchanged": lambda: fleet.book("rotate"),
            "copy, unchanged": fleet.copy,
            "site, unchanged": lambda: fleet.book("site"),
            "ping": fleet.ping,
        }
        taken: dict[str, list[float]] = {name: [] for name in plays}
        for _round in range(ROUNDS):
            fleet.turn()
            for name, play in plays.items():
                taken[name].append(play())

    def ratio(ours: str, other: str) -> float:
        return statistics.median(mine / its for mine, its in zip(taken[ours], taken[other], strict=True))

    figures = [
        Figure(name, statistics.median(seconds), " s", detail=f"median of {ROUNDS}, {HOSTS} hosts")
        for name, seconds in taken.items()
    ]
    return [
        *figures,
        Figure("rotate, in times of copy", ratio("rotate", "copy"), at_most=1.0),
        Figure("  where nothing changed", ratio("rotate, unchanged", "copy, unchanged"), at_most=1.0),
        Figure("second site, in times of ping", ratio("site, unchanged", "ping"), at_most=8),
    ]
