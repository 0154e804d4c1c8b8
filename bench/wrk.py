# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load by wrk."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import typing as t

from demo.http import HOST

#: Seconds until wrk ends by itself.
_LONGEST = 600

_SCRIPT = """
wrk.headers["Host"] = "@HOST@"
wrk.headers["Authorization"] = "Basic @CREDENTIAL@"
if @DELAY@ > 0 then
  function delay() return @DELAY@ end
end
function done(summary, latency, requests)
  local failed = 0
  for _, count in pairs(summary.errors) do failed = failed + count end
  io.stderr:write(string.format('{"requests": %d, "seconds": %f, "failed": %d, "p50": %f, "p99": %f}',
    summary.requests, summary.duration / 1e6, failed, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


def path() -> str | None:
    return shutil.which("wrk")


class Outcome(t.NamedTuple):
    """What wrk says of one run."""

    requests: int
    seconds: float
    #: requests that got no answer in time or at all, or a status above 399
    failed: int
    #: milliseconds
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Wrk:
    """wrk, running in the background from ``with`` on, until its time is over or :meth:`finish` says so.

    :param delay: milliseconds that each connection waits between an answer and the next request.
    """

    def __init__(self, port: int, credential: tuple[str, str], connections: int, delay: int = 0) -> None:
        text = _SCRIPT.replace("@HOST@", HOST).replace("@DELAY@", str(delay))
        text = text.replace("@CREDENTIAL@", base64.b64encode(":".join(credential).encode()).decode())
        # A file of mode 0600: a credential must not show in a list of processes.
        descriptor, self._script = tempfile.mkstemp(prefix="moe-", suffix=".lua")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        self.process = subprocess.Popen(
            [path() or "wrk", "-t1", f"-c{connections}", f"-d{_LONGEST}s", "-s", self._script]
            + [f"http://127.0.0.1:{port}/"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Wrk:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        # Waits for it, and closes the pipe.
        self.process.__exit__(None, None, None)
        os.unlink(self._script)

    def finish(self) -> Outcome:
        """End it now; what it counted."""
        self.process.send_signal(signal.SIGINT)
        _out, text = self.process.communicate()
        if not text.startswith("{"):
            raise RuntimeError(f"wrk failed with status {self.process.returncode}: {text}")
        return Outcome(**json.loads(text))
