# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish to effect: ``envoy_filter`` against a bare ``mv`` of an equivalent file.

Seen from outside (``demo.watch``): from the kernel's notice of the rename until a client has, on a connection that was
open before, the first answer by the new configuration.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import typing as t

from bench.figure import Figure
from bench.gateways import Rotating, rotating, wait
from demo.http import get
from demo.watch import Watch

ROUNDS = 50


def _effect(gateway: Rotating, publish: t.Callable[[], object]) -> float:
    """Milliseconds from publish to effect."""
    watch = Watch(gateway.gateway.port, [get(gateway.credential(0))], gateway.live, pause=0.0001)
    try:
        wait(lambda: bool(watch.answers))
        publish()
        wait(lambda: bool(watch.published and watch.changes()))
        return (watch.changes()[0].received - watch.published[0]) * 1000
    finally:
        watch.stop()


class _Moving:
    """Puts the two files that the module would publish in place by mv, each time as a new version."""

    def __init__(self, gateway: Rotating) -> None:
        self._gateway = gateway
        self._texts = []
        for _turn in range(2):
            self._texts.append(gateway.live.read_text())
            gateway.rotate()
        self._staged = gateway.gateway.directory / "staged.json"
        self._count = 0

    def __call__(self) -> None:
        self._count += 1
        text = self._texts[self._count % 2]
        version = json.loads(text)["version_info"]
        self._staged.write_text(text.replace(version, f"{version.partition('-')[0]}-{1000 + self._count}"))
        subprocess.run(["mv", "-T", str(self._staged), str(self._gateway.live)], check=True)


def measure() -> list[Figure]:
    ours, bare = [], []
    with rotating() as published, rotating() as moved:
        move = _Moving(moved)
        for _round in range(ROUNDS):
            ours.append(_effect(published, published.rotate))
            bare.append(_effect(moved, move))
    medians = statistics.median(ours), statistics.median(bare)
    return [
        Figure(
            "publish to effect, envoy_filter",
            medians[0],
            " ms",
            detail=f"median of {ROUNDS}, longest {max(ours):.3g} ms",
        ),
        Figure(
            "publish to effect, bare mv", medians[1], " ms", detail=f"median of {ROUNDS}, longest {max(bare):.3g} ms"
        ),
        Figure("  as a ratio", medians[0] / medians[1], at_most=1.5),
    ]
