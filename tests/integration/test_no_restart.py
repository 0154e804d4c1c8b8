# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing restarts for a credential: rotations under load, measured at the clients and at Envoy."""

from __future__ import annotations

import http.client
import threading

from real import NATIVE, htpasswd, native_users, request

ROTATIONS = 20
CLIENTS = 4


class Client(threading.Thread):
    """Asks on one connection without a pause until it is told to stop; notes each status and each new connection."""

    def __init__(self, port: int, credential: str) -> None:
        super().__init__()
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.credential = credential
        self.statuses: dict[int, int] = {}
        self.connections = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            if self.connection.sock is None:
                self.connection.connect()
                self.connections += 1
            status = request(self.connection, self.credential)
            self.statuses[status] = self.statuses.get(status, 0) + 1
        self.connection.close()


def test_rotations_under_load(gateway):
    """Clients whose credential stays never notice; the rotated one is refused once the module has returned."""
    gateway.serve(NATIVE)

    def users(word):
        line = htpasswd("stays", "same") + "\n" + htpasswd("foo", word)
        return native_users(line)

    gateway.filter("users", **users("0"))
    before, process = gateway.admin.server(), gateway.admin.peer().process
    idle = http.client.HTTPConnection("127.0.0.1", gateway.port)
    assert request(idle, "foo:0") == 200
    socket = idle.sock
    clients = [Client(gateway.port, "stays:same") for _number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        for number in range(1, ROTATIONS + 1):
            result = gateway.filter("users", **users(str(number)))
            assert result["action"] == "published"
            assert request(idle, f"foo:{number - 1}") == 401, "the old credential, on a connection that was open before"
            assert request(idle, f"foo:{number}") == 200
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
    assert idle.sock is socket
    assert [client.connections for client in clients] == [1] * CLIENTS, "no connection was closed"
    assert {status for client in clients for status in client.statuses} == {200}
    assert min(client.statuses[200] for client in clients) > ROTATIONS, "there was load"
    after = gateway.admin.server()
    assert (gateway.admin.peer().process, after.restart_epoch) == (process, before.restart_epoch)
    assert after.uptime > before.uptime
    counters = gateway.admin.stats(r"draining|drain_close|listener_(modified|removed|in_place_updated)")
    assert counters
    assert set(counters.values()) == {0}


def test_a_first_run_is_never_open(gateway):
    """From before there is a listener until the filter is in service, nobody without the credential is served."""
    statuses: set[int] = set()
    stopping = threading.Event()

    def probe():
        while not stopping.is_set():
            statuses.update((gateway.get(), gateway.get("foo:wrong")))

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        gateway.serve(NATIVE)
        gateway.filter("users", **native_users(htpasswd("foo", "bar")))
        assert gateway.get("foo:bar") == 200
        gateway.restart()
        gateway.filter("users", state="absent")
        gateway.config()
    finally:
        stopping.set()
        prober.join()
    assert {403, 401} <= statuses <= {0, 401, 403}, statuses
