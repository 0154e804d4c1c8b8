# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the figures, or only those of the modules named: ``python -m bench [effect|host_time|...]...``"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time

from bench import machine, wrk

MODULES = {
    "effect": "From publish to effect",
    "host_time": "Time on the host",
    "throughput": "The example extension under load",
    "rotations": "Rotations under load",
    "refusal": "The old credential",
    "versions": "Ten versions of the extension",
    "fleet": "Ten hosts",
    "ways": "One change of a credential, in several ways",
    "istio": "Gateways of one istiod",
    "growth": "From one gateway to twenty",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the figures that the README gives.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(MODULES)}; by default all of them")
    names = parser.parse_args().names or list(MODULES)
    if unknown := set(names) - set(MODULES):
        parser.error(f"found {', '.join(sorted(unknown))}, expected names out of {', '.join(MODULES)}")
    found = wrk.path()
    if not found:
        print(
            "bench: found no wrk on the PATH. Install it: apt install wrk (Debian, Ubuntu), or your system's package."
        )
        return 2
    # What is under way is ended on this signal too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(*machine.lines(found), sep="\n")
    begin, missed = time.monotonic(), []
    for name in names:
        print(f"\n{MODULES[name]}", flush=True)
        for figure in importlib.import_module(f"bench.{name}").measure():
            print(figure, flush=True)
            if figure.missed:
                missed.append(f"{MODULES[name]}: {figure.name.strip()}")
    print(f"\n{time.monotonic() - begin:.0f} s")
    if missed:
        print("Missed:", *missed, sep="\n  ")
        return 1
    print("All targets are met.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
