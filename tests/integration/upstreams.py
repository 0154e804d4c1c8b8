# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gateways of the tests' istiods lead to."""

from __future__ import annotations

import contextlib
import http.server
import threading
import typing as t


class Upstream(http.server.ThreadingHTTPServer):
    """A web server that answers with who it is."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "8")
            self.end_headers()
            self.wfile.write(b"upstream")

        def log_message(self, *arguments: object) -> None:
            pass

    def __init__(self, address: str) -> None:
        super().__init__((address, 0), self.Handler)


@contextlib.contextmanager
def running(address: str = "127.0.0.1") -> t.Iterator[int]:
    """One that runs; its port."""
    with Upstream(address) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
