# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An upstream that answers no request until the file OPEN exists, then each with 200.

usage: gate.py PORT OPEN
"""

from __future__ import annotations

import http.server
import pathlib
import sys
import time

PORT, OPEN = int(sys.argv[1]), pathlib.Path(sys.argv[2])


class Gate(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        while not OPEN.exists():
            time.sleep(0.05)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


http.server.ThreadingHTTPServer(("", PORT), Gate).serve_forever()
