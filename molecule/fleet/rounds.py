# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the playbooks in turn, round by round, and keep how many seconds each took, for ``bench/fleet.py``."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time

ROUNDS = 7
PLAYS = {
    "rotate": "moe.gateway.rotate",
    "copy": "copy.yml",
    "rotate, unchanged": "moe.gateway.rotate",
    "copy, unchanged": "copy.yml",
    "site, unchanged": "moe.gateway.site",
    "ping": "ping.yml",
}
HERE = pathlib.Path(__file__).parent


def seconds(playbook: str, password: str) -> float:
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    options = ["--inventory", "inventory", "--forks", "10", "--extra-vars", f"password={password}"]
    begin = time.perf_counter()
    subprocess.run([program, playbook, *options], cwd=HERE, stdin=subprocess.DEVNULL, check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    taken: dict[str, list[float]] = {name: [] for name in PLAYS}
    for turn in range(ROUNDS):
        for name, playbook in PLAYS.items():
            taken[name].append(seconds(playbook, f"password-of-round-{turn}"))
    seen = pathlib.Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "build" / "bench" / "fleet.json"
    seen.parent.mkdir(parents=True, exist_ok=True)
    seen.write_text(json.dumps(taken), encoding="utf-8")


if __name__ == "__main__":
    main()
