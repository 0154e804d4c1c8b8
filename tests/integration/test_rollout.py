# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook rollout on three gateways: batches, a halt at the first that fails, and the way back for all of them."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import pytest
from plays import Site
from several import PASSWORD, Fleet, gateways

BOOK = "playbooks/rollout.yml"
ONE_BY_ONE = {"rollout_serial": [1]}
#: Each gateway costs a rollout seconds, so most are of no more of them than they need.
TWO = ("--limit", "one,two")
NEW = "another-word"


@pytest.fixture(scope="module")
def fleet(basic_auth: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("rollout")
    with gateways(basic_auth, folder, ["one", "two", "three"]) as made:
        output = made.play("playbooks/site.yml")
        assert output.startswith("0\n"), output
        yield made


@pytest.fixture
def host(fleet: Fleet) -> t.Iterator[t.Callable[..., None]]:
    """Gives a host variables of its own, for one test."""
    folder = fleet.folder / "inventory" / "host_vars"
    folder.mkdir(exist_ok=True)
    files = []

    def give(name: str, **variables: t.Any) -> None:
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(variables))

    yield give
    for file in files:
        file.unlink()
    # Many tests end with what they began with.
    if accepted(fleet) != [PASSWORD] * 3:
        output = fleet.play("playbooks/rotate.yml")
        assert output.startswith("0\n"), output
        assert accepted(fleet) == [PASSWORD] * 3


def accepted(fleet: Fleet) -> list[str]:
    """The password that each gateway takes."""
    return [
        next((word for word in (PASSWORD, NEW) if site.get(f"foo:{word}") == 200), "none")
        for site in fleet.sites.values()
    ]


def told(output: str) -> dict[str, str]:
    """What the last play says of each gateway."""
    lines = re.findall(r'^ +"(\w+): (.*?)",?$', output[output.index("Say how it went for each") :], re.MULTILINE)
    return dict(lines)


def filters(key: str = "password") -> dict[str, t.Any]:
    users = [{"username": "foo", key: "${secret.foo_password}"}]
    config = {"realm": "httpbin", "users": users}
    return {
        "envoy_filters": [
            {"name": "basic_auth", "engine": "dynamic_module", "extension": "basic_auth", "config": config}
        ]
    }


def chain(site: Site, *names: str) -> list[dict[str, t.Any]]:
    (listener,) = site.variables["envoy_filters_listeners"]
    return [{**listener, "filters": list(names)}]


def test_a_new_extension_and_a_new_password_reach_all_in_batches(fleet, host, basic_auth, tmp_path):
    other = tmp_path / "basic_auth.so"
    # The same code, with another digest: what follows the sections is no part of it.
    other.write_bytes(basic_auth.read_bytes() + b"\0")
    change = {
        "envoy_extensions": [{"name": "basic_auth", "src": str(other)}],
        "envoy_filters_secrets": {"foo_password": NEW},
    }
    pids = [site.pid() for site in fleet.sites.values()]
    output = fleet.play(BOOK, rollout_serial=[1, "50%", "100%"], **change)
    assert output.startswith("0\n"), output
    assert output.count("PLAY [Roll out, batch by batch]") == 3
    assert accepted(fleet) == [NEW] * 3
    assert [site.pid() for site in fleet.sites.values()] == pids
    assert told(output) == dict.fromkeys(fleet.sites, "done")
    again = fleet.play(BOOK, **change)
    assert again.startswith("0\n"), again
    assert fleet.changed(again) == dict.fromkeys(fleet.sites, 0)
    status, text, picture = fleet.status(**change)
    assert status == 0, text
    for row in picture["hosts"]:
        assert row["filters"][0]["extension"]["loaded"]


def test_the_first_refusal_halts(fleet, host):
    host("two", **filters("pasword"))
    output = fleet.play(BOOK, **ONE_BY_ONE, envoy_filters_secrets={"foo_password": NEW})
    assert output.startswith("2\n"), output
    assert accepted(fleet) == [NEW, PASSWORD, PASSWORD]
    said = told(output)
    assert (said["one"], said["three"]) == ("done", "not begun, since another failed before")
    assert said["two"].startswith("FAILED: filter basic_auth: Envoy refuses it")
    assert "users[0].pasword: unknown key" in said["two"]
    assert NEW not in output


def test_all_go_back_to_what_they_ran_if_so_asked(fleet, host):
    """Also a listener that got a filter more, and a gateway that failed in its second step."""
    cors = {
        "name": "cors",
        "engine": "native",
        "config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"},
    }
    for name, chosen in (("one", filters()), ("two", filters("pasword"))):
        listeners = chain(fleet.sites[name], "cors", "basic_auth")
        host(name, envoy_filters=[cors, *chosen["envoy_filters"]], envoy_filters_listeners=listeners)
    before = fleet.status(*TWO)[2]
    output = fleet.play(BOOK, *TWO, **ONE_BY_ONE, rollout_restore=True, envoy_filters_secrets={"foo_password": NEW})
    assert output.startswith("2\n"), output
    assert accepted(fleet) == [PASSWORD] * 3
    said = told(output)
    assert said["one"] == "done; restored to what it ran before"
    assert re.fullmatch(r"FAILED: filter basic_auth: .*; restored to what it ran before", said["two"])
    after = fleet.status(*TWO)[2]
    for old, new in zip(before["hosts"], after["hosts"], strict=True):
        assert digests(old) == digests(new)
        assert new["listeners"][0]["filters"] == ["basic_auth"]


def digests(row: dict[str, t.Any]) -> list[str]:
    return [item["disk"].split("-")[0] for item in row["filters"] + row["resources"]]


def test_a_probe_from_here_that_fails_halts(fleet, host):
    ports = {name: site.port for name, site in fleet.sites.items()}
    probe = [{"url": "http://127.0.0.1:{{ ports[inventory_hostname] }}/status/200", "status": 401}]
    probe[0]["headers"] = {"host": "httpbin.example.com"}
    good = fleet.play(BOOK, "--limit", "one", rollout_probe=probe, ports=ports)
    assert good.startswith("0\n"), good
    bad = fleet.play(
        BOOK,
        *TWO,
        **ONE_BY_ONE,
        rollout_restore=True,
        rollout_probe=[{**probe[0], "status": 200}],
        ports=ports,
        envoy_filters_secrets={"foo_password": NEW},
    )
    assert bad.startswith("2\n"), bad
    assert accepted(fleet) == [PASSWORD] * 3
    assert told(bad)["one"].startswith("FAILED: Status code was 401")
    assert told(bad)["two"] == "not begun, since another failed before"


def fragile(fleet: Fleet, name: str) -> tuple[dict[str, str], pathlib.Path]:
    fuse = fleet.folder / f"{name}.fuse"
    return {"ansible_connection": "fragile", "fragile_fuse": str(fuse)}, fuse


@pytest.fixture
def plugin(fleet: Fleet) -> t.Iterator[None]:
    runner = fleet.sites["one"]
    runner.environment["ANSIBLE_CONNECTION_PLUGINS"] = str(pathlib.Path(__file__).parent)
    yield
    del runner.environment["ANSIBLE_CONNECTION_PLUGINS"]


def test_a_host_that_is_away_is_passed_over_and_named_and_converges_on_the_next_run(fleet, host, plugin):
    variables, fuse = fragile(fleet, "two")
    host("two", **variables)
    fuse.write_text("0")
    change = {"envoy_filters_secrets": {"foo_password": NEW}}
    output = fleet.play(BOOK, *TWO, **change)
    assert output.startswith("2\n"), output
    assert accepted(fleet) == [NEW, PASSWORD, PASSWORD]
    assert told(output)["two"] == "could not be reached: nothing has changed there, the next run brings it"
    fuse.unlink()
    output = fleet.play(BOOK, "--limit", "two", **change)
    assert output.startswith("0\n"), output
    assert accepted(fleet) == [NEW, NEW, PASSWORD]


def test_a_host_that_is_lost_in_the_middle_halts(fleet, host, plugin):
    """It is the only one of its batch, which for Ansible would end the run, without a way back for the others."""
    variables, fuse = fragile(fleet, "two")
    host("two", **variables)
    fuse.write_text("4")
    output = fleet.play(BOOK, **ONE_BY_ONE, rollout_restore=True, envoy_filters_secrets={"foo_password": NEW})
    assert output.startswith("2\n"), output
    said = told(output)
    assert said["one"] == "done; restored to what it ran before"
    assert said["two"].startswith("FAILED: ")
    assert "NOT restored" in said["two"]
    assert said["three"] == "not begun, since another failed before"
    assert accepted(fleet)[0] == accepted(fleet)[2] == PASSWORD
    fuse.unlink()


def test_check_mode_changes_nothing(fleet, host):
    output = fleet.play(BOOK, *TWO, "--check", envoy_filters_secrets={"foo_password": NEW})
    assert output.startswith("0\n"), output
    assert fleet.changed(output) == {"one": 1, "two": 1}
    assert accepted(fleet) == [PASSWORD] * 3
