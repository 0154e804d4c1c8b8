# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's own time on the host: the whole process that Ansible starts there, less that of an empty module.

What Ansible needs for any module (starting Python, unpacking and compiling its own code) is measured by ``ping``.
"""

from __future__ import annotations

import statistics

from bench.figure import Figure
from bench.gateways import rotating
from bench.payload import Payload, Run

ROUNDS = 30


def measure() -> list[Figure]:
    empty = Payload("ansible.builtin.ping", {})
    runs: dict[str, list[Run]] = {
        "an empty module": [],
        "envoy_filter, publishing": [],
        "envoy_filter, nothing to do": [],
    }
    with rotating() as gateway:
        for _round in range(ROUNDS):
            for name, run in zip(runs, (empty.run, gateway.rotate, gateway.publish), strict=True):
                runs[name].append(run())
    if any(run.result["action"] != "none" for run in runs["envoy_filter, nothing to do"]):
        raise RuntimeError("there was something to do")
    wall = {name: statistics.median(run.seconds for run in found) * 1000 for name, found in runs.items()}
    cpu = {name: statistics.median(run.cpu_seconds for run in found) * 1000 for name, found in runs.items()}
    base, publishing, idle = runs
    figures = [
        Figure(
            f"whole process, {name}",
            wall[name],
            " ms",
            detail=f"median of {ROUNDS}; {cpu[name]:.0f} ms of processor time",
        )
        for name in runs
    ]
    return [
        *figures,
        Figure("  own time, publishing", wall[publishing] - wall[base], " ms", at_most=250),
        Figure("  own time, nothing to do", wall[idle] - wall[base], " ms", at_most=100),
    ]
