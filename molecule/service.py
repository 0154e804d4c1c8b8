# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be true of a gateway under systemd before and after a hot restart."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import typing as t

from conftest import Gateway

PROJECT = pathlib.Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])


def supervisor(host: t.Any) -> t.Any:
    return json.loads(host.check_output("python3 /opt/envoy/supervisor.py status --run-dir /run/envoy"))


def check_extensions(host: t.Any, *builds: str) -> None:
    """The Envoy that serves has loaded these builds of the extension, and no other.

    :param builds: folders below build/molecule
    """
    files = (PROJECT / "build" / "molecule" / build / "basic_auth.so" for build in builds)
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    maps = host.file(f"/proc/{supervisor(host)['serving']['pid']}/maps").content_string
    assert set(re.findall(r"/opt/envoy/extensions/basic_auth-(.*)\.so$", maps, re.MULTILINE)) == digests


def check_service(host: t.Any, version: str, epoch: int, abi: str) -> None:
    """This Envoy serves, alone, with the extension that is built for it, and systemd has restarted nothing."""
    state = supervisor(host)
    assert (state["serving"]["epoch"], state["draining"], state["starting"]) == (epoch, [], None)
    (process,) = host.process.filter(user="envoy", comm=f"envoy-{version}")
    assert process.pid == state["serving"]["pid"]
    assert host.service("envoy").systemd_properties["NRestarts"] == "0"
    check_extensions(host, f"../extensions/{abi}")
    unit = host.file("/etc/systemd/system/envoy.service").content_string
    assert f"-- /opt/envoy/envoy-{version} --config-path" in unit
    assert not host.file("/opt/envoy/envoy.service.previous").exists
    assert not host.file("/etc/envoy/xds.next").exists
    (bootstrap,) = host.check_output("ls /etc/envoy/bootstrap*").split()
    assert f" {bootstrap} " in unit


def check_answers(gateway: Gateway, event: str) -> None:
    """Who may never had to wait or to ask again, and who may not never got in."""
    assert (gateway.status(), gateway.status("foo:wrong"), gateway.status("foo:bar")) == (401, 401, 200)
    answers = gateway.answers(event)
    assert {client: {answer.outcome for answer in seen} for client, seen in answers.items()} == {
        "nobody": {401},
        "wrong": {401},
        "foo": {200},
        "alice": {200},
    }
    assert all(len(seen) > 100 for seen in answers.values())
