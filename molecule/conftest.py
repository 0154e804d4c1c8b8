# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of all scenarios use, beside testinfra's ``host``, which is one gateway after the other."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
import yaml
from prober import Answer, ask

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
EPHEMERAL = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


class Gateway(t.NamedTuple):
    name: str
    address: str

    def status(self, credential: str | None = None, path: str = "/status/200") -> int:
        """Of one request, through the network."""
        with contextlib.closing(http.client.HTTPConnection(self.address, timeout=5)) as connection:
            return ask(connection, "httpbin.example.com", path, credential)

    def answers(self, event: str) -> dict[str, list[Answer]]:
        """What each client saw during an event, in order."""
        by_client: dict[str, list[Answer]] = {}
        for line in (EPHEMERAL / f"{event}.jsonl").read_text(encoding="utf-8").splitlines():
            answer = Answer(*json.loads(line))
            if answer.gateway == self.name:
                by_client.setdefault(answer.client, []).append(answer)
        return by_client


def play(playbook: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What an operator sees of a playbook."""
    return subprocess.run(
        [pathlib.Path(sys.executable).with_name("ansible-playbook"), playbook, *options]
        + ["--inventory", SCENARIO.parent / "inventory", "--inventory", SCENARIO / "inventory"],
        env=os.environ | {"ANSIBLE_FORCE_COLOR": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def gateway(host: t.Any) -> Gateway:
    inventory = yaml.safe_load((SCENARIO / "inventory" / "hosts.yml").read_text(encoding="utf-8"))
    name = host.backend.hostname
    return Gateway(name, inventory["gateways"]["hosts"][name]["address"])
