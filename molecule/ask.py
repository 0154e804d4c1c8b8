# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask gateways until each gives the answers that were expected.

usage: ask.py SECONDS ADDRESS... < EXPECTED.json

EXPECTED is a mapping of ``user:password``, or of ``nobody``, to the status that such a request has to get.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import time

from prober import ask


def _found(address: str, clients: list[str]) -> dict[str, int | str]:
    statuses: dict[str, int | str] = {}
    for client in clients:
        with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
            try:
                credential = None if client == "nobody" else client
                statuses[client] = ask(connection, "httpbin.example.com", "/status/200", credential)
            except (OSError, http.client.HTTPException) as error:
                statuses[client] = type(error).__name__
    return statuses


def main() -> None:
    deadline = time.monotonic() + float(sys.argv[1])
    expected = json.load(sys.stdin)
    for address in sys.argv[2:]:
        while (found := _found(address, list(expected))) != expected:
            if time.monotonic() > deadline:
                sys.exit(f"{address}: found {found}, expected {expected}")
            time.sleep(0.1)


if __name__ == "__main__":
    main()
