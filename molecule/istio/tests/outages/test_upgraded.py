# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""istiod was replaced by another build of it."""

from __future__ import annotations

import hashlib
import os
import pathlib

import pytest
import testinfra
from conftest import EPHEMERAL, Gateway

BUILD = pathlib.Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "build" / "control_plane" / "bin" / "pilot-discovery"


@pytest.mark.parametrize("name", ["istiod1", "istiod2"])
def test_the_new_build_runs(name: str) -> None:
    host = testinfra.get_host(f"ssh://{name}", ssh_config=str(EPHEMERAL / "ssh_config"))
    pid = host.service("istiod").systemd_properties["MainPID"]
    digest = hashlib.sha256(BUILD.read_bytes()).hexdigest()
    assert host.check_output(f"sha256sum /proc/{pid}/exe").split()[0] == digest
    # Nothing is started from the one of before.
    assert host.file("/opt/istiod").listdir().count(f"pilot-discovery-{digest[:16]}") == 1
    assert sum(one.startswith("pilot-discovery-") for one in host.file("/opt/istiod").listdir()) == 1


@pytest.mark.parametrize(("client", "statuses"), [("nobody", {401}), ("wrong", {401}), ("new", {200})])
def test_no_client_noticed(gateway: Gateway, client: str, statuses: set[int]) -> None:
    answers = gateway.answers("upgrade")[client]
    assert {answer.outcome for answer in answers} == statuses
    assert {answer.connection for answer in answers} == {1}
    assert len(answers) > 100
