# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook status: what it tells, of which it fails, and that it changes nothing."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import typing as t

import pytest
from several import PASSWORD, Fleet, gateways


@pytest.fixture(scope="module")
def fleet(basic_auth: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Fleet]:
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_timeout": 5}
    with gateways(basic_auth, tmp_path_factory.mktemp("fleet"), ["one", "two", "three"], away=away) as made:
        output = made.play("playbooks/site.yml", "--limit", "!away")
        assert output.startswith("0\n"), output
        yield made


def test_a_fleet_that_is_fine(fleet: Fleet) -> None:
    page = fleet.folder / "status.html"
    before = everything(fleet)
    status, output, picture = fleet.status("--limit", "!away", envoy_status_html=str(page))
    assert status == 0, output
    assert picture["summary"] == "3 of 3 gateways are fine."
    assert picture["summary"] in output
    assert everything(fleet) == before, "changed something"
    assert "changed=0" in output
    assert "changed=1" not in output
    (tasks,) = re.findall(r"^one +: ok=(\d+)", output, re.MULTILINE)
    assert output.count("TASK [moe.gateway.envoy_filters : Look at the gateway]") == 1, tasks
    for name, row in zip(("one", "two", "three"), picture["hosts"], strict=True):
        (filter_,) = row["filters"]
        assert (row["name"], row["envoy"]["version"], row["listeners"][0]["filters"]) == (
            name,
            "1.40.0",
            ["basic_auth"],
        )
        assert (filter_["as_desired"], filter_["running"], filter_["extension"]["loaded"]) == (
            True,
            filter_["disk"],
            True,
        )
        assert filter_["change"]["origin"]["play"] == "Set gateways up"
        assert [item["as_desired"] for item in row["resources"]] == [True, True]
        assert row["name"] in page.read_text()
    for text in (output, page.read_text(), json.dumps(picture)):
        assert PASSWORD not in text


def everything(fleet: Fleet) -> dict[str, bytes]:
    """What is on the disks of the gateways, but logs."""
    return {
        str(path): path.read_bytes()
        for site in fleet.sites.values()
        for path in sorted(site.root.rglob("*"))
        if path.is_file() and path.suffix not in (".log", ".so") and "envoy-" not in path.name
    }


def test_a_host_that_is_away_is_a_row_and_a_failure(fleet: Fleet) -> None:
    status, output, picture = fleet.status()
    assert (status, picture["summary"]) == (2, "3 of 4 gateways are fine; 1 unreachable."), output
    row = picture["hosts"][-1]
    assert (row["name"], row["state"], list(picture["failures"])) == ("away", "unreachable", ["away"])
    assert re.search(r"^away +: .*failed=1", output, re.MULTILINE), output
    assert len(re.findall(r"failed=0", output)) == 3
    told = fleet.status(envoy_status_fail=False)
    assert (told[0], told[2]["ok"]) == (0, False), told[1]


def test_each_thing_that_is_wrong(fleet: Fleet) -> None:
    one, three = fleet.sites["one"], fleet.sites["three"]
    live = one.root / "config/xds/filters/basic_auth.json"
    ours = live.read_bytes()
    os.kill(three.pid(), signal.SIGKILL)
    live.write_text("{}")
    try:
        status, output, picture = fleet.status("--limit", "!away")
        assert status == 2, output
        assert {row["name"]: row["state"] for row in picture["hosts"]} == {
            "one": "drifted",
            "two": "ok",
            "three": "down",
        }
        assert "had been changed by somebody else" in picture["failures"]["one"]
        assert "no Envoy answers" in picture["failures"]["three"]
    finally:
        live.write_bytes(ours)
    assert fleet.play("playbooks/site.yml", "--limit", "one,three").startswith("0\n")
    other = fleet.status("--limit", "!away", envoy_filters_secrets={"foo_password": "other"})
    assert list(other[2]["failures"].values()) == ["basic_auth: not what the variables say"] * 3
    wrong = fleet.status("--limit", "two", envoy_version="1.39.3")
    assert wrong[2]["failures"] == {"two": "Envoy 1.40.0 runs, envoy_version is 1.39.3"}
    assert fleet.status("--limit", "!away")[0] == 0


def test_credentials_that_end(fleet: Fleet) -> None:
    users = [{"username": "foo", "password": "${secret.foo_password}", "not_after": "2020-01-31T12:00:00+01:00"}]
    config = {"realm": "httpbin", "users": [*users, {"username": "bar", "password": "${secret.foo_password}"}]}
    filters = [{"name": "basic_auth", "engine": "dynamic_module", "extension": "basic_auth", "config": config}]
    options = ("--limit", "two")
    assert fleet.play("playbooks/rotate.yml", *options, envoy_filters=filters).startswith("0\n")
    status, output, picture = fleet.status(*options, envoy_filters=filters)
    assert status == 2, output
    assert picture["failures"] == {"two": "basic_auth: config.users[0].not_after (foo) expired at 2020-01-31T11:00:00Z"}
    assert fleet.play("playbooks/rollback.yml", *options).startswith("0\n")
    assert fleet.status(*options)[0] == 0
    after = fleet.status(*options, envoy_filters=filters)
    assert "not what the variables say: it was rolled back at" in after[2]["failures"]["two"]


def test_a_filter_without_a_revision_is_closed(fleet: Fleet) -> None:
    two = fleet.sites["two"]
    shutil.rmtree(two.root / "config/xds/state/filters")
    (listener,) = two.variables["envoy_filters_listeners"]
    cors = {
        "name": "cors",
        "engine": "native",
        "config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"},
    }
    basic_auth = {"name": "basic_auth", "engine": "dynamic_module", "extension": "basic_auth"}
    both = {
        "envoy_filters": [basic_auth, cors],
        "envoy_filters_listeners": [{**listener, "filters": ["cors", "basic_auth"]}],
    }
    book = fleet.folder / "listeners.json"
    role = {"ansible.builtin.import_role": {"name": "moe.gateway.envoy_filters", "tasks_from": "configure"}}
    book.write_text(json.dumps([{"hosts": "two", "gather_facts": False, "tasks": [role]}]))
    output = fleet.play(str(book), **both)
    assert output.startswith("0\n"), output
    status, output, picture = fleet.status("--limit", "two", **both)
    assert (status, picture["hosts"][0]["state"]) == (2, "closed"), output
    assert "cors: refuses all traffic, since it has no revision" in picture["failures"]["two"]
    assert fleet.play("playbooks/site.yml", "--limit", "two").startswith("0\n")
