# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask gateways the same all the time, and write down every answer.

usage: prober.py PREFIX < SETTINGS.json

Every client asks every gateway on a connection of its own, and opens another only when that one has failed, or when the
gateway has asked for it. It goes on for as long as the file PREFIX.runs exists. PREFIX.asked says that each has had an
answer. At the end each line of PREFIX.jsonl is one ``Answer``.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import pathlib
import sys
import threading
import time
import typing as t

#: seconds between an answer and the next request, unless the settings say other
_PAUSE = 0.02
#: seconds after which an answer counts as missing
_TIMEOUT = 2.0


class Answer(t.NamedTuple):
    gateway: str
    client: str
    #: how many connections this client has opened so far
    connection: int
    #: seconds since the epoch
    sent: float
    received: float
    #: the HTTP status, or what went wrong
    outcome: int | str


class Settings(t.TypedDict):
    host: str
    path: str
    #: name to address
    gateways: dict[str, str]
    #: name to ``user:password``, or to none
    clients: dict[str, str | None]
    #: name of a client to the seconds between an answer and its next request
    pauses: dict[str, float]


def ask(connection: http.client.HTTPConnection, host: str, path: str, credential: str | None) -> int:
    """The status that a request with Basic credentials, or with none, gets on a connection."""
    headers = {"Host": host}
    if credential is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(credential.encode()).decode()
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    return response.status


def _probe(
    settings: Settings,
    gateway: str,
    client: str,
    running: pathlib.Path,
    asked: threading.Barrier,
    answers: list[Answer],
) -> None:
    opened = 0
    connection = None
    first = True
    while running.exists():
        sent = time.time()
        outcome: int | str
        try:
            if connection is None:
                opened += 1
                connection = http.client.HTTPConnection(settings["gateways"][gateway], timeout=_TIMEOUT)
                # A connection that was closed is not silently opened again.
                connection.auto_open = 0
                connection.connect()
            outcome = ask(connection, settings["host"], settings["path"], settings["clients"][client])
            if connection.sock is None:
                # The gateway has asked for that, by "connection: close".
                connection = None
        except (OSError, http.client.HTTPException) as error:
            outcome = type(error).__name__
            with contextlib.suppress(OSError):
                t.cast(http.client.HTTPConnection, connection).close()
            connection = None
        answers.append(Answer(gateway, client, opened, sent, time.time(), outcome))
        if first:
            asked.wait()
            first = False
        due = time.monotonic() + settings["pauses"].get(client, _PAUSE)
        while running.exists() and (rest := due - time.monotonic()) > 0:
            time.sleep(min(rest, 0.1))


def main() -> None:
    prefix = sys.argv[1]
    running = pathlib.Path(f"{prefix}.runs")
    settings: Settings = json.load(sys.stdin)
    answers: list[Answer] = []
    asked = threading.Barrier(
        len(settings["gateways"]) * len(settings["clients"]), action=pathlib.Path(f"{prefix}.asked").touch
    )
    threads = [
        threading.Thread(target=_probe, args=(settings, gateway, client, running, asked, answers))
        for gateway in settings["gateways"]
        for client in settings["clients"]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(f"{prefix}.jsonl", "w", encoding="utf-8") as lines:
        for answer in answers:
            print(json.dumps(answer), file=lines)


if __name__ == "__main__":
    main()
