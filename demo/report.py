# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads: sections of claims, each with the value that was measured."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time

_WIDTH = 51


class Report:
    """Writes to standard output, in colour where that is a terminal."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty()
        try:
            "✓✗".encode(sys.stdout.encoding or "ascii")
            self._marks = {True: "✓", False: "✗"}
        except UnicodeEncodeError:
            self._marks = {True: "ok", False: "NO"}
        self._begin = time.monotonic()
        self.claims = 0
        self.false: list[str] = []

    def title(self, text: str) -> None:
        self._line(self._paint("1", text))

    def section(self, text: str) -> None:
        self._line("")
        self._line(self._paint("1", text))

    def note(self, text: str) -> None:
        self._line(f"    {text}")

    def quote(self, text: str) -> None:
        """Somebody else's words, such as Envoy's."""
        width = min(shutil.get_terminal_size().columns, 120) - 6
        for line in textwrap.wrap(text, width, break_on_hyphens=False):
            self._line("      " + self._paint("36", line))

    def doing(self, text: str) -> None:
        """Say what takes a while; gone as soon as there is a result."""
        if self._colours:
            print(f"\r\x1b[K    {self._paint('2', text + ' ...')}", end="", flush=True)

    def claim(self, text: str, true: bool, value: object = "") -> None:
        self.claims += 1
        if not true:
            self.false.append(text)
        mark = self._paint("32" if true else "1;31", self._marks[true])
        self._line(f"  {mark} {text:<{_WIDTH}} {value}".rstrip())

    def failure(self, text: str, details: str = "") -> None:
        self._line("")
        self._line(self._paint("1;31", text))
        for line in details.splitlines():
            self._line(f"  | {line}")

    def end(self) -> None:
        """The verdict."""
        seconds = f"{time.monotonic() - self._begin:.0f} s"
        if self.false:
            self.failure(f"{len(self.false)} of {self.claims} claims are false ({seconds}):", "\n".join(self.false))
        else:
            self._line("")
            self._line(self._paint("1;32", f"All {self.claims} claims are true. ({seconds})"))

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _line(self, text: str) -> None:
        try:
            print(("\r\x1b[K" if self._colours else "") + text, flush=True)
        except BrokenPipeError:
            # Nobody reads any more (| head); the work goes on all the same.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
