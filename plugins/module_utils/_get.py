# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: HTTP/1.1 as far as Envoy's admin interface needs it: one GET after another over a Unix socket.

``http.client`` does that too, but what it imports (email, ssl) is a tenth of what a run with nothing to do takes.
"""

from __future__ import annotations

import socket
import typing as t

#: No line of a response's head is longer, nor a line that tells the length of a chunk.
_LONGEST_LINE = 65536


class Connection:
    """Opened at the first request, and anew where it was closed. Whatever goes wrong is an ``OSError``."""

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self._opened: tuple[socket.socket, t.BinaryIO] | None = None

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    def close(self) -> None:
        for part in self._opened or ():
            part.close()
        self._opened = None

    def get(self, target: str) -> tuple[int, bytes]:
        """The status and the body; the connection is closed where there is none."""
        try:
            return self._get(target)
        except OSError:
            self.close()
            raise
        except ValueError:
            self.close()
            raise ConnectionError("what answers there does not speak HTTP") from None

    def _get(self, target: str) -> tuple[int, bytes]:
        sock, file = self._opened = self._opened or self._open()
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: envoy\r\n\r\n".encode("ascii"))
        protocol, status = _line(file).split(b" ")[:2]
        if not protocol.startswith(b"HTTP/1."):
            raise ValueError(protocol)
        fields = {}
        while line := _line(file):
            name, _colon, value = line.partition(b":")
            fields[name.lower()] = value.strip().lower()
        if fields.get(b"transfer-encoding") == b"chunked":
            body = b"".join(_chunks(file))
        else:
            body = _exactly(file, int(fields[b"content-length"])) if b"content-length" in fields else file.read()
        if fields.get(b"connection") == b"close" or not fields.keys() & {b"transfer-encoding", b"content-length"}:
            self.close()
        return int(status), body

    def _open(self) -> tuple[socket.socket, t.BinaryIO]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        return sock, sock.makefile("rb")


def _line(file: t.BinaryIO) -> bytes:
    line = file.readline(_LONGEST_LINE)
    if not line:
        raise ConnectionResetError("the connection was closed without a response")
    if not line.endswith(b"\n"):
        raise ValueError("a line without an end")
    return line.rstrip(b"\r\n")


def _chunks(file: t.BinaryIO) -> t.Iterator[bytes]:
    while size := int(_line(file).partition(b";")[0], 16):
        yield _exactly(file, size)
        _line(file)
    while _line(file):
        pass


def _exactly(file: t.BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ConnectionResetError("the connection was closed within a response")
    return data
