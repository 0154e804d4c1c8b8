# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill all processes of an operator's run at once, as if the controller had lost its power; print how many there were.

usage: kill.py OPERATOR
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import sys

MARK = f"MOLECULE_OPERATOR={sys.argv[1]}".encode()


def _marked() -> list[int]:
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if MARK in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def main() -> None:
    killed = set()
    while marked := _marked():
        for pid in marked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(marked)
    print(len(killed))


if __name__ == "__main__":
    main()
