# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 over a connection that stays open. Unlike ``http.client`` it never reconnects by itself: a demo that
claims "on the same connection" has to notice when there is a new one."""

from __future__ import annotations

import base64
import socket

HOST = "httpbin.example.com"
PATH = "/status/200"


class Closed(Exception):
    """The other side has closed the connection."""


def get(credential: str | None = None, path: str = PATH) -> bytes:
    """A GET request, with Basic credentials given as ``user:password``."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}"]
    if credential is not None:
        lines.append("Authorization: Basic " + base64.b64encode(credential.encode()).decode())
    return "\r\n".join([*lines, "", ""]).encode()


class Connection:
    """One connection to a port of this machine, with one request under way at a time."""

    def __init__(self, port: int, timeout: float = 10) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, request: bytes) -> None:
        try:
            self._socket.sendall(request)
        except ConnectionError as error:
            raise Closed(str(error)) from error

    def receive(self) -> int | None:
        """Take what has arrived: the status once the response is whole, else None."""
        try:
            data = self._socket.recv(65536)
        except ConnectionError as error:
            raise Closed(str(error)) from error
        if not data:
            raise Closed("end of stream")
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        status_line, *headers = head.split(b"\r\n")
        length = next(int(line[15:]) for line in headers if line.lower().startswith(b"content-length:"))
        if len(body) < length:
            return None
        self._buffer.clear()
        return int(status_line.split()[1])

    def status(self, request: bytes) -> int:
        """Send a request and wait for the status of its response."""
        self.send(request)
        while (status := self.receive()) is None:
            pass
        return status


def once(port: int, credential: str | None = None, path: str = PATH) -> int:
    """The status of one request on a connection of its own."""
    connection = Connection(port)
    try:
        return connection.status(get(credential, path))
    finally:
        connection.close()
