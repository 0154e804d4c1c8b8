# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m demo [up|down]``: tell the story and prove it; or leave a gateway running; or stop that."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from demo import BUILD, ROOT, processes, standing, story
from demo.http import Closed
from demo.place import SetupError
from demo.report import Report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("action", nargs="?", choices=["up", "down"], help="by default: tell the story, and end it all")
    action = parser.parse_args().action
    os.chdir(ROOT)
    # Whoever ends the demo by a signal also ends what it started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    processes.adopt()
    report = Report()
    # A demo works beside what `up` has left running, but not beside another demo.
    with processes.alone(BUILD / ("up.lock" if action else "demo.lock")) as alone:
        if not alone:
            report.failure("Another one is running in this checkout; wait for its end.")
            return 1
        status = 1
        try:
            {None: story.run, "up": standing.up, "down": standing.down}[action](report)
            status = 1 if report.false else 0
        except SetupError as error:
            report.failure(str(error), error.details)
        except Closed as error:
            report.failure(f"A connection was closed that should have stayed open ({error}).")
        except (Failure, OSError) as error:
            report.failure(f"{type(error).__name__}: {error}")
        except KeyboardInterrupt:
            report.failure("Interrupted; ending everything.")
            status = 130
        finally:
            if action is None or status:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                processes.end_children()
    if action is None and not (status and not report.false):
        report.end()
    return status


if __name__ == "__main__":
    sys.exit(main())
