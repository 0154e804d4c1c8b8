# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of the extension that one Envoy has loaded after the other, each with a Go runtime of its own.

Go code is never unloaded. So Envoy holds all versions if they are loaded side by side, and one after a hot restart.
"""

from __future__ import annotations

import pathlib
import tempfile
import time

from real import RealGateway, content_addressed

from bench.figure import Figure
from bench.gateways import NAME, STEADY, check, extension, memory, running, threads
from bench.wrk import Wrk

VERSIONS = 10
CONNECTIONS = 32
#: Seconds of load on each version, so that it has the memory and threads of one at work.
SECONDS = 1


def _publish(gateway: RealGateway, library: pathlib.Path) -> None:
    config = {"realm": "bench", "users": [{"username": STEADY[0], "password": "${secret.bar}"}]}
    options = {"engine": "dynamic_module", "extension": str(library), "config": config}
    check(gateway.filter(NAME, **options, secrets={"bar": STEADY[1]}))
    with Wrk(gateway.port, STEADY, CONNECTIONS) as wrk:
        time.sleep(SECONDS)
        outcome = wrk.finish()
    if outcome.failed:
        raise RuntimeError(f"{outcome.failed} requests of {outcome.requests} failed")


def measure() -> list[Figure]:
    code = pathlib.Path(extension()).read_bytes()
    figures = []
    with tempfile.TemporaryDirectory(prefix="moe-versions-") as folder, running() as gateway:
        check(gateway.serve({"name": NAME, "engine": "dynamic_module"}))
        source = pathlib.Path(folder) / f"{NAME}.so"
        for version in range(1, VERSIONS + 1):
            # What follows the last section is nobody's, and makes it another file to Envoy and to the loader.
            source.write_bytes(code + bytes([version]))
            _publish(gateway, content_addressed(source, gateway.extensions))
            if version in (1, VERSIONS):
                pid, detail = gateway.process.pid, "loaded side by side" if version > 1 else "as after a hot restart"
                figures += [
                    Figure(f"memory of Envoy, versions: {version}", memory(pid), " MiB", detail=detail),
                    Figure(f"threads of Envoy, versions: {version}", threads(pid), detail=detail),
                ]
    return figures
