# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway with a real supervisor and Envoys. Only systemctl is played, by a script that does what ExecReload says."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import typing as t

from real import REPOSITORY, RealGateway, Result, content_addressed, request, run_module, wait_until

SUPERVISOR = REPOSITORY / "roles" / "envoy" / "files" / "supervisor.py"
COMPOSER = SUPERVISOR.with_name("static.py")
SYSTEMCTL = """#!/bin/sh
# What systemd knows of the unit is what it was at the last daemon-reload.
cd {root}
case $1 in
    daemon-reload) cp envoy.service loaded ;;
    reload)
        export "$(sed -n s/^Environment=//p loaded)"
        sh -c "$(sed -n s/^ExecReload=//p loaded)" || {{ echo "Job for $2.service failed." >&2; exit 1; }} ;;
esac
"""


class Supervised(RealGateway):
    """An Envoy with a supervisor.

    :param static: whether all that the gateway runs is in the bootstrap.
    :param patient: whether the first Envoy may wait for a control plane.
    """

    def __init__(self, static: bool = False, patient: bool = False) -> None:
        super().__init__()
        self.static = static
        self.patient = patient
        if static:
            del self.bootstrap["dynamic_resources"]
        self.unit = self.root / "envoy.service"
        self.previous = self.root / "envoy.service.previous"
        self.supervisor: subprocess.Popen[bytes] | None = None
        (self.root / "bin").mkdir()
        systemctl = self.root / "bin" / "systemctl"
        systemctl.write_text(SYSTEMCTL.format(root=self.root))
        systemctl.chmod(0o755)

    def wanted(
        self,
        change: t.Callable[[dict[str, t.Any]], object] = lambda _bootstrap: None,
        binary: str = "",
        drain: int = 30,
    ) -> dict[str, t.Any]:
        """Options for the module: another bootstrap, under its own name, and the unit that names it."""
        bootstrap = json.loads(json.dumps(self.bootstrap))
        change(bootstrap)
        text = json.dumps(bootstrap)
        start = hashlib.sha256((text + binary + str(drain)).encode()).hexdigest()[:16]
        path = self.root / f"bootstrap-{start}.json"
        path.write_text(text)
        log = f"--log-path {self.log} --file-flush-interval-msec 100"
        config = self.root / "composed.json" if self.static else path
        command = (
            f"{binary or self.binary} -c {config} --concurrency 1 {log} "
            f"--drain-time-s 1 --parent-shutdown-time-s {drain}"
        )
        prepare = f"{sys.executable} {COMPOSER} {path} {self.directory} {config}" if self.static else ""
        reload = (
            f"{sys.executable} -I -S -B {SUPERVISOR} reload --run-dir {self.root} --prepare '{prepare}' -- {command}"
        )
        return {
            "unit": str(self.unit),
            "previous": str(self.previous),
            "content": f"Environment=MOE_GATEWAY_START={start}\n#{command}\n#{prepare}\nExecReload={reload}\n",
            "envoy_binary": binary or str(self.binary),
            "version": self.admin.server().version if self.supervisor else "",
            "bootstrap": str(path),
            "start": start,
            "directory": str(self.directory),
            "run_dir": str(self.root),
            "admin_socket": str(self.socket),
            "timeout": 60,
        }

    def begin(self, **options: t.Any) -> None:
        wanted = self.wanted(**options)
        self.unit.write_text(wanted["content"])
        command, prepare = (line[1:] for line in wanted["content"].splitlines()[1:3])
        words = [sys.executable, "-I", "-S", "-B", str(SUPERVISOR), "run", "--run-dir", str(self.root), "--ready", "4"]
        words += ["--directory", str(self.directory), "--prepare", prepare, *(["--patient"] if self.patient else [])]
        with (self.root / "supervisor.log").open("w") as log:
            self.supervisor = subprocess.Popen(
                [*words, "--admin", str(self.socket), "--drain", "30", "--", *command.split()],
                stderr=log,
                env={**os.environ, "MOE_GATEWAY_START": wanted["start"]},
            )
        process = self.supervisor

        def started() -> bool:
            status = self.status()
            return (status["serving"] or (status["starting"] if self.patient else {}))["epoch"] == 0

        wait_until(lambda: process.poll() is not None or started(), "there is no Envoy")
        assert process.poll() is None, (self.root / "supervisor.log").read_text()

    def crash(self) -> None:
        """End Envoy; the supervisor ends with it."""
        assert self.supervisor
        os.kill(self.status()["serving"]["pid"], signal.SIGKILL)
        self.supervisor.wait(20)
        self.supervisor = None

    def status(self) -> t.Any:
        words = [sys.executable, "-I", str(SUPERVISOR), "status", "--run-dir", str(self.root)]
        return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)

    def extend(self, library: pathlib.Path | str, password: str = "bar") -> Result:
        extension = library
        if pathlib.Path(library).parent != self.extensions:
            extension = content_addressed(pathlib.Path(library), self.extensions)
        users = {"users": [{"username": "foo", "password": "${secret.foo}"}]}
        return self.filter(
            "basic_auth",
            engine="dynamic_module",
            extension=str(extension),
            config=users,
            secrets={"foo": password},
        )

    def hot_restart(self, wanted: dict[str, t.Any], check: bool = False) -> Result:
        return run_module("envoy_hot_restart", wanted, check)

    def remove(self) -> None:
        if self.supervisor:
            self.supervisor.terminate()
            self.supervisor.wait(20)
        super().remove()


@contextlib.contextmanager
def load(gateway: Supervised) -> t.Iterator[dict[str, list[int | str]]]:
    """Clients that ask all the time on connections that are kept; what each got."""
    stop = threading.Event()
    answers: dict[str, list[int | str]] = {"foo:bar": [], "foo:wrong": []}

    def ask(credential: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
        while not stop.is_set():
            try:
                answers[credential].append(request(connection, credential))
            except (OSError, http.client.HTTPException) as error:
                answers[credential].append(type(error).__name__)
                connection.close()
            stop.wait(0.005)
        connection.close()

    threads = [threading.Thread(target=ask, args=(credential,)) for credential in answers]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def only(answers: dict[str, list[int | str]]) -> dict[str, set[int | str]]:
    return {credential: set(seen) for credential, seen in answers.items()}
