# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example extension against Envoy's own Basic Auth: requests a second by wrk, and Envoy's memory."""

from __future__ import annotations

import statistics
import time

from real import RealGateway

from bench.figure import Figure
from bench.gateways import STEADY, memory, native, pin, rotating
from bench.wrk import Wrk

ROUNDS = 12
SECONDS = 1.5
CONNECTIONS = 32


def _rate(gateway: RealGateway) -> float:
    with Wrk(gateway.port, STEADY, CONNECTIONS) as wrk:
        pin(wrk.process.pid, 1)
        time.sleep(SECONDS)
        outcome = wrk.finish()
    if outcome.failed:
        raise RuntimeError(f"{outcome.failed} requests of {outcome.requests} failed")
    return outcome.rate


def measure() -> list[Figure]:
    ours, own, ratios = [], [], []
    with rotating() as rotated, native() as reference:
        extended = rotated.gateway
        for gateway in (extended, reference):
            pin(gateway.process.pid, 0)
            _rate(gateway)
        for turn in range(ROUNDS):
            # Whoever comes first in a round changes, so that a machine that gets slower favours none.
            order = [(extended, ours), (reference, own)]
            for gateway, rates in order if turn % 2 else order[::-1]:
                rates.append(_rate(gateway))
            ratios.append(ours[-1] / own[-1])
        used = memory(extended.process.pid), memory(reference.process.pid)
    quartiles = statistics.quantiles(ratios)
    return [
        Figure("requests/s, example extension", statistics.median(ours), detail=f"median of {ROUNDS}"),
        Figure("requests/s, Envoy's basic_auth", statistics.median(own), detail=f"median of {ROUNDS}"),
        Figure(
            "  as a ratio",
            statistics.median(ratios),
            at_least=0.95,
            detail=f"half of the rounds: {quartiles[0]:.3f} to {quartiles[2]:.3f}",
        ),
        Figure("memory of Envoy, example extension", used[0], " MiB"),
        Figure("memory of Envoy, its basic_auth", used[1], " MiB"),
    ]
