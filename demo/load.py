# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that keep connections open and busy, in a process of their own so that they disturb no measurement.

The process gets its settings as a line of JSON on its standard input (a credential must not show in a list of
processes), answers every further line with its counts so far, and ends when its input does, that is also when its
parent dies.
"""

from __future__ import annotations

import collections
import json
import selectors
import subprocess
import sys
import time
import typing as t

from demo import ROOT
from demo.http import Closed, Connection, get


class Counts(t.NamedTuple):
    """What the clients have seen so far."""

    requests: int
    #: how many of these got no 200, and why: "401", "Closed", ...
    failures: dict[str, int]

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def since(self, before: Counts) -> Counts:
        failures = collections.Counter(self.failures)
        failures.subtract(before.failures)
        return Counts(self.requests - before.requests, {why: count for why, count in failures.items() if count})


class Load:
    """:param connections: how many clients, each with one connection.

    :param pause: seconds that a client waits after a response.
    """

    def __init__(self, port: int, credential: str, connections: int = 8, pause: float = 0.01) -> None:
        self.connections = connections
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            # Ctrl-C is for the parent to act upon.
            start_new_session=True,
        )
        settings = {"port": port, "credential": credential, "connections": connections, "pause": pause}
        self._ask(json.dumps(settings))

    def counts(self) -> Counts:
        return Counts(**json.loads(self._ask("counts")))

    def stop(self) -> None:
        self._process.communicate()

    def _ask(self, line: str) -> str:
        print(line, file=self._process.stdin, flush=True)
        return t.cast(t.IO[str], self._process.stdout).readline()


def _answer(requests: int, failures: t.Mapping[str, int]) -> None:
    print(json.dumps({"requests": requests, "failures": failures}), flush=True)


def _run(port: int, credential: str, connections: int, pause: float) -> None:
    request = get(credential)
    requests, failures = 0, collections.Counter[str]()
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    #: (when, connection or None for one to open), in order of time since every pause is the same
    waiting: collections.deque[tuple[float, Connection | None]] = collections.deque([(0.0, None)] * connections)
    _answer(requests, failures)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            connection = waiting.popleft()[1]
            try:
                connection = connection or Connection(port)
                connection.send(request)
                selector.register(connection, selectors.EVENT_READ)
            except (Closed, OSError) as error:
                requests += 1
                failures[type(error).__name__] += 1
                waiting.append((now + pause, None))
        for key, _events in selector.select(max(0.0, waiting[0][0] - now) if waiting else None):
            if key.fileobj is sys.stdin:
                if not sys.stdin.readline():
                    return
                _answer(requests, failures)
                continue
            busy = t.cast(Connection, key.fileobj)
            try:
                status = busy.receive()
                if status is None:
                    continue
                outcome, next_one = str(status), busy
            except Closed as error:
                outcome, next_one = type(error).__name__, None
            requests += 1
            if outcome != "200":
                failures[outcome] += 1
            selector.unregister(busy)
            if next_one is None:
                busy.close()
            waiting.append((time.monotonic() + pause, next_one))


if __name__ == "__main__":
    _run(**json.loads(sys.stdin.readline()))
