# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten hosts by ssh: what our playbooks take, in times of the least that Ansible could do there (``molecule/fleet``).

All of them are on this machine, so its processors also do what each host of a fleet would do by itself.
"""

from __future__ import annotations

import json
import statistics
import subprocess

from bench.figure import Figure
from demo import BUILD, ROOT

SEEN = BUILD / "bench" / "fleet.json"


def measure() -> list[Figure]:
    SEEN.unlink(missing_ok=True)
    subprocess.run(["make", "--silent", "molecule", "SCENARIO=fleet"], cwd=ROOT, check=True, capture_output=True)
    taken: dict[str, list[float]] = json.loads(SEEN.read_text(encoding="utf-8"))

    def ratio(ours: str, other: str) -> float:
        return statistics.median(mine / its for mine, its in zip(taken[ours], taken[other], strict=True))

    figures = [
        Figure(name, statistics.median(seconds), " s", detail=f"median of {len(seconds)}, 10 hosts")
        for name, seconds in taken.items()
    ]
    return [
        *figures,
        Figure("rotate, in times of copy", ratio("rotate", "copy"), at_most=1.0),
        Figure("  where nothing changed", ratio("rotate, unchanged", "copy, unchanged"), at_most=1.0),
        Figure("second site, in times of ping", ratio("site, unchanged", "ping"), at_most=8),
    ]
