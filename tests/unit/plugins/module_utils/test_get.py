# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of what answers at a socket, in whatever pieces it comes."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._get import Connection

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nab\r\nc\r\n1A\r\n"
    + b"d" * 26
    + b"\r\n0\r\nTrailer: x\r\n\r\n"
)
SIZED = b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone"


@contextlib.contextmanager
def answering(*connections, step=100_000):
    """A server that answers each connection with a list of responses, in steps of so many bytes, and closes it."""
    asked = []
    # The path of a test's own directory may be too long for a socket.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = os.path.join(folder, "socket")
        server.bind(path)
        server.listen()

        def serve():
            for responses in connections:
                client, _address = server.accept()
                with client, client.makefile("rb") as requests:
                    for response in responses:
                        asked.append(requests.readline())
                        while requests.readline().strip():
                            pass
                        for at in range(0, len(response), step):
                            client.sendall(response[at : at + step])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Connection(path, 10), asked
        finally:
            thread.join(20)


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_one_connection_for_several_requests(step):
    with answering([CHUNKED, SIZED, CHUNKED], step=step) as (connection, asked):
        assert connection.get("/one") == (200, b"ab\r\nc" + b"d" * 26)
        assert connection.get("/two?x=%5E") == (404, b"none")
        assert connection.is_open
        assert connection.get("/three")[0] == 200
        connection.close()
    assert asked == [b"GET /one HTTP/1.1\r\n", b"GET /two?x=%5E HTTP/1.1\r\n", b"GET /three HTTP/1.1\r\n"]


@pytest.mark.parametrize(
    "response",
    [b"HTTP/1.0 200 OK\r\n\r\nbody", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"],
)
def test_a_connection_that_ends_with_the_response(response):
    with answering([response], [SIZED]) as (connection, _asked):
        assert connection.get("/") == (200, b"body")
        assert not connection.is_open
        assert connection.get("/") == (404, b"none")
        connection.close()


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (b"", "closed without a response"),
        (CHUNKED[:-30], "closed within a response"),
        (CHUNKED[:-2], "closed without a response"),
        (SIZED[:-1], "closed within a response"),
        (b"HTTP/1.1 200", "does not speak HTTP"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "does not speak HTTP"),
        (b"220 mail.example.com ESMTP\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbody\r\n", "does not speak HTTP"),
        (b"\xff" * 100_000, "does not speak HTTP"),
    ],
)
def test_what_is_no_response(response, message):
    with answering([response]) as (connection, _asked):
        with pytest.raises(ConnectionError, match=message):
            connection.get("/")
        assert not connection.is_open


def test_nobody_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        Connection(os.path.relpath(tmp_path / "none"), 1).get("/")
