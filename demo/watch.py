# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See from outside when a published file takes effect.

One thread looks at two things: the kernel's notice (inotify) that a file was renamed into place, which is the very
notice that Envoy waits for, and the answers to one request sent again and again on connections that stay open. The
time to effect runs from that notice until a client has the first answer that differs, so it contains the way of that
answer back to the client.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import socket
import struct
import threading
import time
import typing as t
from pathlib import Path

from demo.http import Closed, Connection

# <sys/inotify.h>
_IN_MOVED_TO = 0x80
_EVENT = struct.Struct("iIII")


class Answer(t.NamedTuple):
    """One request of a watch."""

    connection: int
    sent: float
    received: float
    #: 0 if the connection was closed instead
    status: int


class Renames:
    """An inotify descriptor that tells when a file of this name is renamed into place."""

    def __init__(self, file: Path) -> None:
        self._name = os.fsencode(file.name)
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(file.parent), _IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(file.parent))

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)

    def happened(self) -> bool:
        data = os.read(self._descriptor, 65536)
        names = []
        while data:
            length = _EVENT.unpack_from(data)[3]
            names.append(data[_EVENT.size : _EVENT.size + length].rstrip(b"\0"))
            data = data[_EVENT.size + length :]
        return self._name in names


class Watch(threading.Thread):
    """:param requests: one connection is opened for each, and it is sent there again and again.

    :param pause: seconds between an answer and the next request.
    """

    def __init__(self, port: int, requests: list[bytes], file: Path, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.published: list[float] = []
        self.answers: list[Answer] = []
        self._requests = requests
        self._pause = pause
        self._connections = [Connection(port) for _request in requests]
        self._renames = Renames(file)
        self._wake, self._end = socket.socketpair()
        self.start()

    def stop(self) -> None:
        self._end.close()
        self.join()
        self._wake.close()
        self._renames.close()
        for connection in self._connections:
            connection.close()

    def run(self) -> None:
        sent = [0.0] * len(self._connections)
        due: dict[int, float] = dict.fromkeys(range(len(self._connections)), 0.0)
        with selectors.EpollSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            selector.register(self._renames, selectors.EVENT_READ)
            for index, connection in enumerate(self._connections):
                selector.register(connection, selectors.EVENT_READ, index)
            while True:
                now = time.monotonic()
                for index in [index for index, moment in due.items() if moment <= now]:
                    del due[index]
                    sent[index] = time.monotonic()
                    # One that was closed is readable, and ends below.
                    with contextlib.suppress(Closed):
                        self._connections[index].send(self._requests[index])
                ready = selector.select(max(0.0, min(due.values()) - now) if due else None)
                now = time.monotonic()
                for key, _events in ready:
                    if key.fileobj is self._wake:
                        return
                    if key.fileobj is self._renames:
                        if self._renames.happened():
                            self.published.append(now)
                        continue
                    try:
                        status = self._connections[key.data].receive()
                    except Closed:
                        status = 0
                        selector.unregister(key.fileobj)
                    if status is None:
                        continue
                    self.answers.append(Answer(key.data, sent[key.data], now, status))
                    if status:
                        due[key.data] = now + self._pause

    def changes(self, since: float = 0.0) -> list[Answer]:
        """Answers that differ from the one before them on the same connection."""
        last: dict[int, int] = {}
        found = []
        for answer in list(self.answers):
            if answer.received > since and last.get(answer.connection, answer.status) != answer.status:
                found.append(answer)
            last[answer.connection] = answer.status
        return found
