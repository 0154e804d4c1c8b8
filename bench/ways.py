# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same change of a credential in several ways, on one host under systemd: what ``molecule/ways`` does and sees."""

from __future__ import annotations

import json
import subprocess
import typing as t

from bench.figure import Figure
from demo import BUILD, ROOT

SEEN = BUILD / "bench" / "ways"
WAYS = {
    "restart": "template, systemctl restart",
    "lds": "template of the listener (LDS)",
    "copy": "template of the filter (ECDS)",
    "rotate": "moe.gateway.rotate",
    "hot_restart": "moe.gateway.rotate, hot restart (static)",
}


class Way(t.NamedTuple):
    """What clients noticed of one change."""

    #: of the clients whose credential stays
    failed: int
    closed: int
    #: seconds from the end of the play to the last request that the old credential got through, 0 if there was none
    busy: float
    idle: float
    #: seconds that the play took
    wall: float


def judge(begin: float, end: float, answers: list[tuple[t.Any, ...]]) -> Way:
    """:param answers: as ``molecule/prober.py`` writes them."""
    failed, opened, last = 0, {}, {"busy": end, "idle": end}
    for _gateway, client, connection, _sent, received, outcome in answers:
        kind = client.partition(" ")[0]
        if kind == "alice":
            failed += outcome != 200
            opened[client] = connection
        elif kind in ("old", "idle") and outcome == 200:
            name = "busy" if kind == "old" else "idle"
            last[name] = max(last[name], received)
    closed = sum(count - 1 for count in opened.values())
    return Way(failed, closed, last["busy"] - end, last["idle"] - end, end - begin)


def _run() -> None:
    command = ["make", "--silent", "molecule", "SCENARIO=ways"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-4000:]}")


def measure() -> list[Figure]:
    _run()
    figures = []
    for name, title in WAYS.items():
        times = json.loads((SEEN / f"{name}.json").read_text(encoding="utf-8"))
        lines = (SEEN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        way = judge(times["begin"], times["end"], [tuple(json.loads(line)) for line in lines])
        most = 0 if name == "rotate" else None
        figures += [
            Figure(title, way.wall, " s", detail="the play"),
            Figure("  requests failed", way.failed, at_most=most, detail=f"of {len(lines)}"),
            Figure("  connections closed", way.closed, at_most=most, detail="of 4, which go on asking"),
            Figure("  old credential, busy connection", way.busy, " s", most, detail="after the play's end"),
            Figure("  old credential, connection at rest", way.idle, " s", most, detail="after the play's end"),
        ]
    return figures
