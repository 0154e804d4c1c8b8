# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of ansible-playbook, whose output goes to a log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from demo import ROOT

_RESULT = re.compile(r"^(ok|changed|fatal|failed): \[[^]]+\].*?=> (\{.*\})$", re.MULTILINE)
_RECAP = re.compile(r"^\S+\s+: ok=(\d+)\s+changed=(\d+)", re.MULTILINE)


class Played(t.NamedTuple):
    """What a run of ansible-playbook came to."""

    succeeded: bool
    seconds: float
    output: str
    #: tasks that changed something
    changed: int
    #: what the modules returned
    results: list[dict[str, t.Any]]

    @property
    def reason(self) -> str:
        """Why it failed, in the words of the task that did."""
        failed = [result for result in self.results if result.get("failed") or result.get("failure")]
        return str(failed[-1].get("msg", "")) if failed else ""


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read: a password in it must not show in a list of processes instead."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def play(name: str, variables: Path, log: Path) -> Played:
    """Run a playbook of the collection against inventory/local."""
    begin = time.monotonic()
    start = log.stat().st_size if log.exists() else 0
    with log.open("ab") as file:
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), f"moe.gateway.{name}"]
            + ["-i", "inventory/local", "-e", f"@{variables}", "-v"],
            cwd=ROOT,
            env=os.environ
            | {
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_HOME": str(log.parent / "ansible"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            },
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for this process to act upon.
            start_new_session=True,
            check=False,
        )
    with log.open("rb") as file:
        file.seek(start)
        output = file.read().decode("utf-8", "replace")
    recap = _RECAP.search(output)
    results = [
        json.loads(text) | ({"failed": True} if how in ("fatal", "failed") else {})
        for how, text in _RESULT.findall(output)
    ]
    changed = int(recap[2]) if recap else 0
    return Played(done.returncode == 0, time.monotonic() - begin, output, changed, results)
