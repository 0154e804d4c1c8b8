# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back, from the gateway's own disk: to the previous generation or a named one, by the same transaction."""

from __future__ import annotations

import http.client
import json
import pathlib
import typing as t

import pytest
from plays import Site
from real import HOST, NATIVE, content_addressed, htpasswd, native_users, request, wait_until

FIRST, SECOND, THIRD = "first-word", "second-word", "third-word"


def users(password, **options):
    return native_users(htpasswd("foo", password), **options)


@pytest.fixture
def served(gateway):
    """Three passwords, one after the other."""
    gateway.serve(NATIVE)
    for password in (FIRST, SECOND, THIRD):
        assert not gateway.filter("users", **users(password)).failed
    return gateway


def accepted(gateway):
    return [password for password in (FIRST, SECOND, THIRD) if gateway.get(f"foo:{password}") == 200]


def numbers(gateway):
    folder = gateway.directory / "state" / "filters" / "users"
    return sorted(int(file.stem) for file in folder.glob("[0-9]*.json"))


def test_check_run_check_run(served):
    """Open connections stay open; the secret that comes back is nowhere in what is told."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    assert request(connection, f"foo:{THIRD}") == 200
    socket, pid = connection.sock, served.process.pid
    versions = set()
    for check, changed in ((True, True), (False, True), (True, False), (False, False)):
        files, counters = served.files(), served.counters("users")
        result = served.rollback("users", check=check, diff=True)
        assert not result.failed, result
        assert (result["changed"], result["action"]) == (changed, "rolled_back" if changed else "none")
        assert (result["diff"]["before"] != result["diff"]["after"]) is changed
        if check or not changed:
            assert served.files() == files, "left a trace"
            assert served.counters("users") == counters, "pushed"
        for secret in (htpasswd("foo", SECOND), htpasswd("foo", THIRD)):
            assert secret not in result.output
        assert "${secret.users}" in json.dumps(result["diff"]["after"])
        versions.add(result["version"])
    (version,) = versions
    assert result["source_version"].startswith(version.split("-")[0])
    assert (request(connection, f"foo:{THIRD}"), request(connection, f"foo:{SECOND}")) == (401, 200)
    assert connection.sock is socket, "the connection was never closed"
    assert (served.admin.peer().process.pid, accepted(served)) == (pid, [SECOND])


def test_the_next_run_with_the_variables_brings_what_they_say_and_can_be_taken_back_again(served):
    assert served.rollback("users")["changed"]
    again = served.filter("users", **users(THIRD))
    assert (again["action"], accepted(served)) == ("published", [THIRD])
    assert served.rollback("users")["changed"]
    assert accepted(served) == [SECOND]


def test_a_named_generation(served):
    first, second, third = numbers(served)
    for number, expected in ((first, FIRST), (third, THIRD), (second, SECOND)):
        for changed in (True, False):
            assert served.rollback("users", generation=number)["changed"] is changed
            assert accepted(served) == [expected]


def test_a_named_generation_that_goes_as_it_comes_back_is_recognised(served):
    first = numbers(served)[0]
    back = served.rollback("users", generation=first, keep=2)
    assert back["changed"]
    assert first not in numbers(served)
    again = served.rollback("users", generation=first, keep=2)
    assert (again["changed"], again["source_version"]) == (False, back["source_version"])
    by_version = served.rollback("users", version=back["source_version"])
    assert (by_version["changed"], accepted(served)) == (False, [FIRST])


def test_what_ran_at_a_time(served):
    folder = served.directory / "state" / "filters" / "users"
    for hour, number in enumerate(numbers(served), start=1):
        # Noted as if an hour lay between them.
        path = folder / f"{number}.json"
        data = json.loads(path.read_text())
        data["note"]["change"]["at"] = f"2020-01-01T{hour:02}:00:00Z"
        path.write_text(json.dumps(data))
    for at, expected, changed in (
        ("2020-01-01T01:30:00Z", FIRST, True),
        ("2020-01-01T02:30:00+01:00", FIRST, False),
        ("2020-01-01T03:30:00+01:00", SECOND, True),
    ):
        assert served.rollback("users", at=at)["changed"] is changed
        assert accepted(served) == [expected]
    assert served.rollback("users", at="2019-01-01T00:00:00Z").code == "no_generation"
    assert served.rollback("users", at="yesterday").code == "invalid_option"


def test_nothing_to_go_back_to(gateway):
    gateway.serve(NATIVE)
    assert gateway.rollback("users").code == "no_generation"
    gateway.filter("users", **users(FIRST))
    files = gateway.files()
    refused = gateway.rollback("users")
    assert (refused.code, gateway.files()) == ("no_generation", files)
    assert "no other content was kept" in refused["msg"]
    unknown = gateway.rollback("users", generation=99)
    assert "generation 99 is not kept. Kept: " in unknown["msg"]
    assert accepted(gateway) == [FIRST]


def test_a_rollback_out_of_the_deny(served):
    served.filter("users", state="absent")
    assert served.get(f"foo:{THIRD}") == 403
    assert served.rollback("users")["action"] == "rolled_back"
    assert accepted(served) == [THIRD]


def test_a_foreign_edit_is_no_generation(served):
    served.push(served.live("users"), "{}")
    result = served.rollback("users")
    assert (result["action"], accepted(served)) == ("rolled_back", [SECOND])
    assert any("changed by somebody else" in text for text in result["found"])
    served.push(served.live("users"), "{}")
    healed = served.rollback("users")
    assert (healed["action"], accepted(served)) == ("healed", [SECOND])
    assert served.rollback("users")["action"] == "none"


def test_a_failed_probe_takes_the_rollback_back(served):
    probe = [{"url": f"http://127.0.0.1:{served.port}/", "headers": {"host": HOST}, "status": 200}]
    result = served.rollback("users", probe=probe)
    assert (result.code, result["action"], accepted(served)) == ("probe_failed", "restored", [THIRD])
    held = {"basic_auth": "foo:${secret.word}", **probe[0]}
    result = served.rollback("users", probe=[held], secrets={"word": SECOND})
    assert (result["action"], accepted(served)) == ("rolled_back", [SECOND])


def test_what_a_refused_change_left_is_not_the_previous_one(served):
    """A refusal puts the last good content back as a generation of its own, which is no change."""
    refused = served.filter("users", **native_users("bad"), envoy_binary=str(served.blind))
    assert (refused.code, accepted(served)) == ("refused_by_envoy", [THIRD])
    assert served.rollback("users")["changed"]
    assert accepted(served) == [SECOND]


def test_an_unconfirmed_publish_is_taken_back_to_what_was_confirmed(served):
    operations = served.faulty_filter("users", users("fourth-word", keep=1000), "run", 0, "true")[1]
    assert served.get("foo:fourth-word") == 200
    number = operations.index(f"rename {served.live('users')}") + 2
    process, _operations = served.faulty_filter("users", users("fifth-word", keep=1000), "kill", number)
    assert process.returncode < 0
    wait_until(lambda: served.get("foo:fifth-word") == 200, "Envoy did not take it")
    result = served.rollback("users")
    assert result["changed"]
    assert any("did not live to confirm" in text for text in result["found"])
    assert served.get("foo:fourth-word") == 200


def test_an_extension_that_is_gone_is_named(gateway, basic_auth, tmp_path):
    gateway.serve({"name": "basic_auth", "engine": "dynamic_module"})
    other = tmp_path / "basic_auth.so"
    # The same code, with another digest: what follows the sections is no part of it.
    other.write_bytes(basic_auth.read_bytes() + b"\0")
    old, new = (content_addressed(path, gateway.extensions) for path in (basic_auth, other))
    config = {"users": [{"username": "foo", "password": "${secret.foo}"}]}
    options = {"engine": "dynamic_module", "config": config}
    assert not gateway.filter("basic_auth", extension=str(old), secrets={"foo": FIRST}, **options).failed
    assert not gateway.filter("basic_auth", extension=str(new), secrets={"foo": SECOND}, **options).failed
    aside = old.with_suffix(".aside")
    old.rename(aside)
    files = gateway.files()
    refused = gateway.rollback("basic_auth")
    assert (refused.code, gateway.files()) == ("extension_missing", files)
    assert f"needs {old}, which is not there any more" in refused["msg"]
    aside.rename(old)
    back = gateway.rollback("basic_auth", diff=True)
    assert (back["action"], accepted(gateway)) == ("rolled_back", [FIRST])
    assert back["diff"]["after"]["extension"] == str(old)
    assert FIRST not in back.output


def test_reasons_quote_no_secret_of_what_was_kept(served):
    """Another Envoy than the one that took it then may refuse it now, and say why."""
    line = htpasswd("foo", SECOND)
    quoting = served.root / "quoting"
    log = f"[2030-01-31 12:00:00.123][77][critical][main] [server.cc:76] invalid htpasswd format {line}"
    quoting.write_text(f"#!/bin/sh\necho '{log}' >&2\nexit 1\n")
    quoting.chmod(0o755)
    refused = served.rollback("users", envoy_binary=str(quoting))
    assert refused.code == "refused_in_validation"
    assert "invalid htpasswd format" in refused["msg"]
    assert line not in refused.output
    assert accepted(served) == [THIRD]


def test_who_changed_what_is_noted(served):
    origin = {"by": "alice@ops1", "play": "Roll back", "reason": "CHG-1"}
    back = served.rollback("users", origin=origin)
    record = json.loads((served.directory / "state" / "filters" / "users" / "record.json").read_text())
    change = record["change"]
    assert (change["action"], change["origin"]) == ("rolled_back", origin)
    assert (change["previous"], change["source"]) == (back["previous_version"], back["source_version"])


@pytest.fixture(scope="module")
def site(basic_auth: pathlib.Path) -> t.Iterator[Site]:
    site = Site(basic_auth)
    try:
        assert site.site().status == 0
        yield site
    finally:
        site.remove()


def test_the_playbook_is_one_task_and_needs_no_secret(site: Site) -> None:
    assert site.play("playbooks/rotate.yml", envoy_filters_secrets={"foo_password": "other"}).changed == 1
    back = site.play("playbooks/rollback.yml", envoy_filters_secrets={}, envoy_filters_reason="CHG-2")
    assert (back.status, back.ok, back.changed) == (0, 1, 1), back.output
    assert (site.get("foo:bar"), site.get("foo:other")) == (200, 401)
    again = site.play("playbooks/rollback.yml", envoy_filters_secrets={})
    assert (again.status, again.ok, again.changed) == (0, 1, 0), again.output
    record = json.loads((site.root / "config/xds/state/filters/basic_auth/record.json").read_text())
    origin = record["change"]["origin"]
    assert (origin["play"], origin["reason"]) == ("Roll back", "CHG-2")
    assert "@" in origin["by"]


def test_the_playbook_takes_a_name_and_a_number(site: Site) -> None:
    unknown = site.play("playbooks/rollback.yml", rollback_filter="nope")
    assert unknown.status == 2, unknown.output
    refused = site.play("playbooks/rollback.yml", rollback_filter="basic_auth", rollback_generation="99")
    assert "generation 99 is not kept" in refused.output


def test_of_several_filters_somebody_says_which(site: Site) -> None:
    two = [{"name": name, "engine": "dynamic_module", "extension": "basic_auth"} for name in ("one", "two")]
    refused = site.play("playbooks/rollback.yml", envoy_filters=two)
    assert refused.status == 2, refused.output
    assert "expected which to take back of the filters one, two." in refused.output
