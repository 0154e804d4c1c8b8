# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""100 rotations under load: what clients whose credential stays valid notice of them."""

from __future__ import annotations

import functools
import statistics
import time
import typing as t

from bench.figure import Figure
from bench.gateways import STEADY, Rotating, rotating, wait
from bench.payload import Payload
from bench.wrk import Outcome, Wrk

ROUNDS = 10
ROTATIONS = 10
CONNECTIONS = 32
#: Milliseconds between an answer and the next request, so that there is a latency to disturb: where the load takes all
#: of the machine, the latency is only the length of a queue.
DELAY = 10
#: Seconds that wrk gets to open its connections.
SETTLE = 0.3
#: Seconds from one rotation to the next, at least.
PACE = 0.7


def _connections(gateway: Rotating) -> tuple[int, int]:
    """How many connections from clients Envoy has taken so far, and how many of them are open."""
    stats = gateway.gateway.admin.stats(r"^http\.ingress\.downstream_cx_(total|active)$")
    return stats["http.ingress.downstream_cx_total"], stats["http.ingress.downstream_cx_active"]


def _window(gateway: Rotating, during: t.Callable[[], object]) -> tuple[Outcome, int]:
    """Load while something is done: what wrk counted, and how many of its connections were closed, or opened anew."""
    wait(lambda: _connections(gateway)[1] == 0)
    with Wrk(gateway.gateway.port, STEADY, CONNECTIONS, DELAY) as wrk:
        # wrk first tries the address with a connection that it closes again.
        time.sleep(SETTLE)
        wait(lambda: _connections(gateway)[1] == CONNECTIONS)
        before, _open = _connections(gateway)
        during()
        after, still_open = _connections(gateway)
        outcome = wrk.finish()
    return outcome, after - before + CONNECTIONS - still_open


def _again(publish: t.Callable[[], object]) -> None:
    for _rotation in range(ROTATIONS):
        due = time.monotonic() + PACE
        publish()
        time.sleep(max(0.0, due - time.monotonic()))


def measure() -> list[Figure]:
    empty = Payload("ansible.builtin.ping", {})
    rotated, pinged, quiet, closed = [], [], [], 0
    with rotating() as gateway:
        for _round in range(ROUNDS):
            outcome, closed_now = _window(gateway, lambda: _again(gateway.rotate))
            rotated.append(outcome)
            closed += closed_now
            pinged.append(_window(gateway, lambda: _again(empty.run))[0])
            quiet.append(_window(gateway, functools.partial(time.sleep, outcome.seconds))[0])
    windows = f"median of {ROUNDS} windows"
    p99 = [statistics.median(outcome.p99 for outcome in outcomes) for outcomes in (quiet, pinged, rotated)]
    ratio = statistics.median(after.p99 / before.p99 for before, after in zip(quiet, rotated, strict=True))
    requests = sum(outcome.requests for outcome in rotated)
    return [
        Figure("rotations", ROUNDS * ROTATIONS, at_least=100, detail=f"one each {PACE} s"),
        Figure("  requests failed", sum(outcome.failed for outcome in rotated), at_most=0, detail=f"of {requests}"),
        Figure("  connections closed", closed, at_most=0, detail=f"of {CONNECTIONS} in each of {ROUNDS} windows"),
        Figure("p99 without rotations", p99[0], " ms", detail=windows),
        Figure("p99 with an empty module instead", p99[1], " ms", detail=f"{windows}: what any task of Ansible costs"),
        Figure("p99 with rotations", p99[2], " ms", detail=windows),
        Figure("  as a ratio", ratio, at_most=1.2),
    ]
