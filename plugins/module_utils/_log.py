# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the reasons that Envoy gives, which are only in its log."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._mask import mask

LOG_LINE = re.compile(r"^\[[-0-9 :.]+\]\[\d+\]\[(\w+)\]\[([\w.-]+)\] (?:\[[^\]]*\] )?", re.MULTILINE)
#: What Envoy repeats of what it was given: it may hold secrets. In protobuf's text form; as JSON.
_REPEATED = re.compile(r"(?:: )?goo\.gle/debug\w*.*?(?:\n: |\Z)|(?<=\)): \{.*", re.DOTALL)


def reasons(log: str) -> str:
    """What Envoy and the extension give as reasons in a log at level warning, as one line."""
    own, envoy = [], []
    marks = list(LOG_LINE.finditer(log))
    for mark, end in zip(marks, [*(following.start() for following in marks[1:]), len(log)]):
        level, logger = mark.groups()
        line = log[mark.end() : end]
        text = re.sub(r"^error initializing configuration '[^']*': ", "", line)
        text = re.sub(r"^.*config update rejected: ", "", text)
        text = " ".join(_REPEATED.sub("", text).split())
        if logger == "dynamic_modules" and level in ("error", "critical"):
            own.append(text)
        elif level in ("error", "critical") or "rejected" in line:
            envoy.append(text)
    seen = dict.fromkeys(part.rstrip(".") for part in [*own, *envoy] if part)
    return "; ".join(seen)


class Log:
    """What Envoy writes into its log from now on, where that is a file."""

    #: Seconds to wait for lines that Envoy keeps back (``--file-flush-interval-msec``, 10 seconds by default).
    patience = 1.0

    def __init__(self, path: str, pid: int) -> None:
        """:param path: Envoy's ``--log-path``; empty if it logs to its standard error."""
        self.path = path or f"/proc/{pid}/fd/2"
        self.start = -1
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            if stat.S_ISREG(status.st_mode):
                self.start = status.st_size

    def reasons(self, secrets: t.Collection[str] = ()) -> str:
        """Reasons since the start, without secrets; empty if there is no file to read, or nothing comes in time."""
        deadline = time.monotonic() + self.patience
        while self.start >= 0:
            with contextlib.suppress(OSError), open(self.path, "rb") as file:
                file.seek(self.start)
                found = reasons(mask(file.read(1024 * 1024).decode("utf-8", "replace"), secrets))
                if found:
                    return found
            if time.monotonic() >= deadline:
                break
            time.sleep(0.05)
        return ""
