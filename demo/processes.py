# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of this demo, and how they end."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import time
import typing as t
from pathlib import Path

# <sys/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE = 10.0


@contextlib.contextmanager
def alone(path: Path) -> t.Iterator[bool]:
    """Hold a lock file; whether nobody else does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def adopt() -> None:
    """Make orphans children of this process, so that whatever it started can be found, whoever let go of it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def started(pid: int) -> int | None:
    """When a process started, which tells it from a later one of the same PID; None if there is none."""
    fields = _stat(pid)
    # A zombie has ended.
    return int(fields[19]) if fields and fields[0] != "Z" else None


def end_children() -> None:
    """End all children of this process, and theirs, which become its own as soon as their parents have ended."""
    deadline = time.monotonic() + _PATIENCE
    asked: set[int] = set()
    while children := _children():
        for pid in children - asked:
            os.kill(pid, signal.SIGTERM)
            asked.add(pid)
        if time.monotonic() > deadline:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.01)


def end(pid: int, since: int) -> bool:
    """End a process that is not a child, if it is still the one that started at ``since``; whether it was."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _PATIENCE
        if started(pid) != since:
            return number == signal.SIGKILL
        os.kill(pid, number)
        while started(pid) == since and time.monotonic() < deadline:
            time.sleep(0.01)
    return True


def _children() -> set[int]:
    own = str(os.getpid())
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return {pid for pid in pids if (fields := _stat(pid)) and fields[1] == own and fields[0] != "Z"}


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third (state) on: the second may hold anything. Empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
