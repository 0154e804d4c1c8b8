# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A password that was changed by hot restart while clients used it."""

from __future__ import annotations

import re
import typing as t

import pytest
from conftest import Gateway, play
from service import supervisor

#: A page of the admin interface, with what the hosts have.
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect("/run/envoy/admin.sock")
    sock.sendall(f"GET /{sys.argv[1]} HTTP/1.1\\r\\nHost: envoy\\r\\nConnection: close\\r\\n\\r\\n".encode())
    print(sock.makefile().read())
"""


def test_another_epoch_serves_alone(host: t.Any) -> None:
    state = supervisor(host)
    # The first was the one that served nothing, the second the one that site has filled.
    assert (state["serving"]["epoch"], state["draining"]) == (2, [])
    assert host.service("envoy").systemd_properties["NRestarts"] == "0"
    assert not host.file("/etc/envoy/xds.next").exists


def test_the_new_password_is_the_one(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:bar"), gateway.status("foo:baz")) == (401, 401, 200)


@pytest.mark.parametrize("client", ["nobody", "wrong"])
def test_who_may_not_never_got_in(gateway: Gateway, client: str) -> None:
    answers = gateway.answers("rotate")[client]
    assert {answer.outcome for answer in answers} == {401}
    assert len(answers) > 100


def test_nobody_else_noticed(gateway: Gateway) -> None:
    answers = gateway.answers("rotate")["alice"]
    assert {answer.outcome for answer in answers} == {200}
    assert len(answers) > 100


@pytest.mark.parametrize(("client", "before", "after"), [("old", 200, 401), ("new", 401, 200)])
def test_it_changed_once(gateway: Gateway, client: str, before: int, after: int) -> None:
    """On a new connection: the one to the old Envoy is let go, and until then it is as it was."""
    answers = gateway.answers("rotate")[client]
    outcomes = [one.outcome for one, other in zip(answers, answers[1:], strict=False) if one.outcome != other.outcome]
    assert [*outcomes, answers[-1].outcome] == [before, after]
    assert {answer.connection for answer in answers if answer.outcome == before} == {1}
    assert {answer.connection for answer in answers if answer.outcome == after} == {2}


def test_status_tells_it(gateway: Gateway) -> None:
    secrets = '{"envoy_filters_secrets": {"foo_password": "baz", "alice_password": "in-wonderland"}}'
    said = play("moe.gateway.status", "--limit", gateway.name, "--extra-vars", secrets)
    assert said.returncode == 0, said.stdout + said.stderr
    assert re.search(rf"{gateway.name} .*ok", said.stdout), said.stdout


def test_no_secret_is_told(host: t.Any) -> None:
    for page in ("config_dump", "server_info"):
        dump = host.check_output(f"python3 -c '{ASK}' {page}")
        assert "200 OK" in dump
        assert len(dump) > 1000
        assert "in-wonderland" not in dump
    assert "in-wonderland" not in host.check_output("journalctl --no-pager --output=cat")
    bootstrap = host.file("/run/envoy/bootstrap.json")
    assert (bootstrap.user, bootstrap.mode) == ("envoy", 0o600)
    assert "in-wonderland" in bootstrap.content_string
