# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway of the demo on this machine: its folder, its upstream, and what its Envoy says of itself."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin
from demo import BUILD, ROOT
from demo.http import Closed, once
from demo.playbook import Played, play, write_private

FILTER = "basic_auth"
EXTENSION = BUILD / "extensions" / "basic_auth.so"


class SetupError(Exception):
    """The demo can't go on. ``details`` is the part of a log that tells why."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Facts(t.NamedTuple):
    """What tells whether Envoy restarted or drained anything."""

    pid: int
    #: clock ticks from boot to its start
    started: int
    restart_epoch: int
    uptime: int
    version: str
    #: listeners that were replaced, removed or drained since its start, and their filter chains
    drained: int
    #: the revision of the filter that it took last
    revision: str


class Place:
    """:param folder: everything of the gateway is in it, but its sockets, since the path of a socket must be short."""

    def __init__(self, folder: Path, sockets: Path, port: int, upstream_port: int) -> None:
        self.folder = folder
        self.sockets = sockets
        self.port = port
        self.upstream_port = upstream_port
        self.log = folder / "ansible.log"
        self.live = folder / "config" / "xds" / "filters" / f"{FILTER}.json"

    @classmethod
    def new(cls, folder: Path) -> Place:
        """One with nothing in it yet."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        ports = []
        with socket.socket() as one, socket.socket() as other:
            for sock in (one, other):
                sock.bind(("127.0.0.1", 0))
                ports.append(sock.getsockname()[1])
        place = cls(folder, Path(tempfile.mkdtemp(prefix="moe-")), *ports)
        place.log.touch(0o600)
        return place

    def variables(self) -> dict[str, t.Any]:
        """What this place sets of inventory/local."""
        return {
            "local_root": str(self.folder),
            "local_port": self.port,
            "local_upstream_port": self.upstream_port,
            "local_extension": str(EXTENSION),
            "envoy_run_dir": str(self.sockets),
            "envoy_log_path": str(self.folder / "envoy.log"),
        }

    def play(self, name: str, **variables: t.Any) -> Played:
        path = self.folder / "variables.json"
        write_private(path, json.dumps(self.variables() | variables))
        try:
            return play(name, path, self.log)
        finally:
            path.unlink()

    def build_extension(self) -> str:
        """Build the example extension if it is not up to date; how that went."""
        command = [sys.executable, "tools/build_extension.py", "examples/basic_auth", "-o", str(EXTENSION)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, start_new_session=True, check=False)
        if done.returncode:
            raise SetupError("The extension could not be built.", tail(done.stdout + done.stderr))
        return done.stdout.strip().removeprefix(f"{EXTENSION}: ").partition(", sha256")[0]

    def start_upstream(self) -> subprocess.Popen[bytes]:
        """Start httpbin and wait until it answers."""
        log = self.folder / "httpbin.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.upstream_port}"]
                # Connections are kept, so that none is closed at the very moment when Envoy sends a request on it.
                + ["--worker-class", "gthread", "--threads", "16", "--keep-alive", "86400", "httpbin:app"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not self._upstream_answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SetupError("httpbin does not start.", tail(log.read_text(encoding="utf-8")))
            time.sleep(0.05)
        return process

    def _upstream_answers(self) -> bool:
        try:
            return once(self.upstream_port) == 200
        except (Closed, OSError):
            return False

    def facts(self) -> Facts:
        admin = Admin(str(self.sockets / "admin.sock"), 10)
        server, process = admin.server(), admin.peer().process
        revision = f"extension_config_discovery.http_filter.{FILTER}.version_text"
        stats = admin.stats(
            r"^listener_manager\.(listener_(modified|removed|in_place_updated)|total_(listeners|filter_chains)_draining)$"
            + f"|^{revision}$"
        )
        text = stats.pop(revision, "")
        return Facts(
            process.pid,
            process.started,
            server.restart_epoch,
            server.uptime,
            server.version,
            sum(stats.values()),
            text,
        )

    def remove_sockets(self) -> None:
        shutil.rmtree(self.sockets, ignore_errors=True)


def tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])
