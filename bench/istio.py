# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways of one istiod: how long a rotation takes for 1, 5 and 20 of them, and what an inline filter costs clients.

The control plane is that of the integration tests; istiod waits as long for further changes as it does by default.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import upstreams
from control_plane import ControlPlane, Gateway, serving
from real import content_addressed

from bench import gateways
from bench.figure import Figure
from bench.payload import Payload, Run
from demo import BUILD, ROOT
from demo.http import get
from demo.watch import Watch

COUNTS = (1, 5, 20)
ROUNDS = 9
#: istiod's PILOT_DEBOUNCE_AFTER, in milliseconds.
DEBOUNCE = 100
CONNECTIONS = 8
#: Seconds in which Envoy closes the connections of a listener that was replaced, in place of 600.
DRAIN = 3
PASSWORDS = gateways.PASSWORDS


class Fleet:
    """Gateways of one istiod with the example extension, and two passwords of foo that take turns."""

    def __init__(self, plane: ControlPlane, upstream: int) -> None:
        self.plane = plane
        self.upstream = upstream
        self.istiod = plane.istiod()
        plane.validate(self.istiod)
        self.library = content_addressed(Path(gateways.extension()), plane.root)
        self.turn = 0

    def grow(self, count: int) -> None:
        while len(self.plane.gateways) < count:
            gateway = self.plane.gateway(f"gateway-{len(self.plane.gateways)}", self.istiod, start=False)
            gateway.start("--drain-time-s", str(DRAIN))
            self.plane.api.apply(*serving(gateway, self.upstream))

    def settle(self, gateway: Gateway) -> None:
        gateways.wait(lambda: gateway.get() in (200, 401), 30)

    def rotate(self, **options: t.Any) -> Run:
        self.turn += 1
        secrets = {"foo": PASSWORDS[self.turn % 2]}
        return Payload("moe.gateway.istio_filter", {**self.options(), "secrets": secrets, **options}).run()

    def options(self) -> dict[str, t.Any]:
        """Of ``istio_filter`` for all of them, but for its secret ``foo``."""
        return {
            "name": "basic_auth",
            "engine": "dynamic_module",
            "extension": str(self.library),
            "config": {"users": [{"username": "foo", "password": "${secret.foo}"}]},
            "kubeconfig": str(self.plane.kubeconfig),
            "istiods": [f"http://127.0.0.1:{self.istiod.monitoring}"],
            "min_gateways": len(self.plane.gateways),
        }


@contextlib.contextmanager
def fleet() -> t.Iterator[Fleet]:
    subprocess.run([sys.executable, "tools/build_control_plane.py"], cwd=ROOT, check=True, capture_output=True)
    with upstreams.running() as upstream, ControlPlane() as plane:
        yield Fleet(plane, upstream)


def measure() -> list[Figure]:
    figures = []
    with fleet() as gateways_of_istiod:
        for count in COUNTS:
            figures += _rotations(gateways_of_istiod, count)
        plane = gateways_of_istiod.plane
        memory = [plane.etcd, plane.api_server, gateways_of_istiod.istiod.program]
        for program in memory:
            figures.append(
                Figure(
                    f"memory of {program.name}", gateways.memory(program.pid), " MiB", detail=f"{COUNTS[-1]} gateways"
                )
            )
    for inline in (False, True):
        with fleet() as one:
            figures += _clients(one, inline)
    return figures


def _rotations(fleet: Fleet, count: int) -> list[Figure]:
    fleet.grow(count)
    for gateway in fleet.plane.gateways:
        fleet.settle(gateway)
    fleet.rotate()
    empty = Payload("ansible.builtin.ping", {})
    base, runs = [], []
    for _round in range(ROUNDS):
        base.append(empty.run().seconds)
        runs.append(fleet.rotate())
    if any(run.result["action"] != "published" or len(run.result["gateways"]) != count for run in runs):
        raise RuntimeError(f"not every run published to all: {[run.result for run in runs]}")
    whole = statistics.median(run.seconds for run in runs) * 1000
    own = whole - statistics.median(base) * 1000
    sent = statistics.median(run.result["propagation_ms"] for run in runs)
    bound = 2 * DEBOUNCE + 500 if count == COUNTS[-1] else None
    detail = f"median of {ROUNDS}, whole process"
    return [
        Figure(f"one rotation, gateways: {count}", whole, " ms", detail=detail),
        Figure("  the module's own time, beyond an empty module", own, " ms", at_most=bound),
        Figure("  from the write to the last acknowledgement", sent, " ms"),
    ]


def _clients(fleet: Fleet, inline: bool) -> list[Figure]:
    fleet.grow(1)
    (gateway,) = fleet.plane.gateways
    fleet.settle(gateway)
    fleet.rotate(inline=inline)
    gateways.wait(lambda: gateway.get() == 401, 30)
    # What the listener before has open ends first.
    time.sleep(DRAIN + 1)
    old = get(f"foo:{PASSWORDS[fleet.turn % 2]}")
    watch = Watch(gateway.port, [old] * CONNECTIONS, BUILD / "none", pause=0.02)
    try:
        fleet.rotate(inline=inline)
        returned = time.monotonic()
        time.sleep(DRAIN + 2)
    finally:
        watch.stop()
    late = [answer for answer in watch.answers if answer.sent > returned]
    form = "inline" if inline else "by itself (ECDS)"
    return [
        Figure(
            f"{form}: connections closed",
            sum(not answer.status for answer in watch.answers),
            detail=f"of {CONNECTIONS}",
        ),
        Figure(
            "  old credential accepted after return",
            sum(answer.status == 200 for answer in late),
            at_most=None if inline else 0,
            detail=f"of {len(late)} requests",
        ),
    ]
