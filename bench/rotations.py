# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""100 rotations under load: what clients whose credential stays valid notice of them."""

from __future__ import annotations

import statistics
import time

from bench.figure import Figure
from bench.gateways import STEADY, Rotating, rotating
from bench.wrk import Outcome, Wrk

ROUNDS = 10
ROTATIONS = 10
CONNECTIONS = 32
#: Milliseconds between an answer and the next request, so that there is a latency to disturb: where the load takes all
#: of the machine, the latency is only the length of a queue.
DELAY = 10


def _counter(gateway: Rotating, name: str) -> int:
    return gateway.gateway.admin.stats(f"^http.ingress.{name}$")[f"http.ingress.{name}"]


def _window(gateway: Rotating, seconds: float, rotations: int) -> tuple[Outcome, int]:
    """The outcome of one run of wrk, and how many connections it needed more than it should."""
    before = _counter(gateway, "downstream_cx_total")
    wrk = Wrk(gateway.gateway.port, STEADY, seconds, CONNECTIONS, DELAY)
    begin = time.monotonic()
    for count in range(rotations):
        time.sleep(max(0.0, begin + (count + 0.5) * seconds / (rotations + 1) - time.monotonic()))
        gateway.rotate()
    if time.monotonic() > begin + seconds:
        raise RuntimeError("the rotations took longer than the load")
    outcome = wrk.finish()
    return outcome, _counter(gateway, "downstream_cx_total") - before - CONNECTIONS


def measure() -> list[Figure]:
    quiet, busy, reconnects = [], [], 0
    with rotating() as gateway:
        begin = time.monotonic()
        gateway.rotate()
        # Each window is long enough for its rotations, at a third of the pace that is possible.
        seconds = max(3.0, 3 * ROTATIONS * (time.monotonic() - begin))
        for _round in range(ROUNDS):
            for outcomes, rotations in ((quiet, 0), (busy, ROTATIONS)):
                outcome, more = _window(gateway, seconds, rotations)
                outcomes.append(outcome)
                reconnects += more
    total = sum(outcome.requests for outcome in busy)
    p99 = [statistics.median(outcome.p99 for outcome in outcomes) for outcomes in (quiet, busy)]
    ratio = statistics.median(after.p99 / before.p99 for before, after in zip(quiet, busy, strict=True))
    return [
        Figure("rotations", ROUNDS * ROTATIONS, at_least=100),
        Figure("  requests failed", sum(outcome.failed for outcome in busy), at_most=0, detail=f"of {total}"),
        Figure(
            "  connections closed", reconnects, at_most=0, detail=f"of {CONNECTIONS} in each of {2 * ROUNDS} windows"
        ),
        Figure("p99 without rotations", p99[0], " ms", detail=f"median of {ROUNDS} windows of {seconds:.1f} s"),
        Figure(
            "p99 with rotations", p99[1], " ms", detail=f"median of {ROUNDS} windows, {ROTATIONS} rotations in each"
        ),
        Figure("  as a ratio", ratio, at_most=1.2),
    ]
