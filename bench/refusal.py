# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The old credential after the module has returned: how often it is still accepted, on connections that stay open."""

from __future__ import annotations

import time

from bench.figure import Figure
from bench.gateways import rotating
from demo.http import get
from demo.watch import Watch

ROTATIONS = 30
CONNECTIONS = 4
#: Seconds that the old credential goes on being sent.
AFTER = 0.2


def measure() -> list[Figure]:
    spans: list[tuple[float, float, int]] = []
    with rotating() as gateway:
        requests = [get(gateway.credential(index)) for index in range(CONNECTIONS)]
        watch = Watch(gateway.gateway.port, requests, gateway.live, pause=0.0005)
        try:
            for _rotation in range(ROTATIONS):
                gateway.rotate()
                returned = time.monotonic()
                time.sleep(AFTER)
                spans.append((returned, time.monotonic(), gateway.turn))
        finally:
            watch.stop()
    old, accepted_old, refused_new = 0, 0, 0
    for begin, end, turn in spans:
        for answer in watch.answers:
            if begin <= answer.sent < end:
                if answer.connection % 2 == turn % 2:
                    refused_new += answer.status != 200
                else:
                    old += 1
                    accepted_old += answer.status == 200
    if old < ROTATIONS * CONNECTIONS:
        raise RuntimeError(f"only {old} requests were made with an old credential")
    return [
        Figure(
            "old credential accepted after return",
            accepted_old,
            at_most=0,
            detail=f"of {old}, in {ROTATIONS} rotations",
        ),
        Figure("new credential refused after return", refused_new, at_most=0),
    ]
