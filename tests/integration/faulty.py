# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module as a process of its own, with something happening at one of its file operations.

``python faulty.py MODULE COUNT-FILE kill N``          ended by SIGKILL before its N-th file operation
``python faulty.py MODULE COUNT-FILE run N COMMAND``   runs a command before it

Instead of N, a regular expression tells which operation it is: the first that matches as a whole.

The arguments of the module are read from standard input. Every operation is noted in COUNT-FILE, a line each.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys

from ansible_collections.moe.gateway.plugins.module_utils._files import Files


def main() -> None:
    module, notes, action, number = sys.argv[1:5]
    command = sys.argv[5:]
    del sys.argv[1:]  # a module that has arguments reads them instead of its standard input
    steps = 0

    def step(_files: Files, what: str) -> None:
        nonlocal steps
        steps += 1
        if steps == int(number) if number.isdigit() else re.fullmatch(number, what):
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            subprocess.run(command, check=True)
        with open(notes, "a", encoding="utf-8") as file:
            file.write(what + "\n")

    Files.step = step  # type: ignore[method-assign]
    importlib.import_module(f"ansible_collections.moe.gateway.plugins.modules.{module}").main()


if __name__ == "__main__":
    main()
