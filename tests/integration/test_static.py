# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The config source ``static``: all that a gateway runs is in its bootstrap, and changes by hot restart."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import typing as t

import pytest
from leaks import PAGES
from real import Result, content_addressed, request, run_module, wait_until
from supervised import Supervised, load, only

AUTH = {"name": "basic_auth", "engine": "dynamic_module"}


class Static(Supervised):
    """A gateway with the example extension, and one user of it."""

    def __init__(self, library: pathlib.Path) -> None:
        super().__init__(static=True)
        self.library = content_addressed(library, self.extensions)

    def bring(self, password: str = "bar", check: bool = False, drain: int = 0, **options: t.Any) -> Result:
        users = [{"username": "foo", "password": "${secret.foo}"}]
        auth = {**AUTH, "extension": str(self.library), "config": {"users": users}}
        desired = {"filters": [auth], "listeners": [self.listener(AUTH)], "clusters": []}
        wanted = {**self.wanted(drain=drain), "desired": desired, "secrets": {"foo": password}, **options}
        return self.hot_restart(wanted, check)

    def info(self) -> Result:
        where = {"directory": str(self.directory), "admin_socket": str(self.socket)}
        return run_module("envoy_info", where)


@pytest.fixture
def static(monkeypatch: pytest.MonkeyPatch, basic_auth: pathlib.Path) -> t.Iterator[Static]:
    gateway = Static(basic_auth)
    monkeypatch.setenv("PATH", f"{gateway.root}/bin:{os.environ['PATH']}")
    try:
        gateway.begin(drain=0)
        yield gateway
    finally:
        gateway.remove()


@pytest.fixture
def served(static: Static) -> Static:
    result = static.bring()
    assert not result.failed, result.output
    assert (static.get(), static.get("foo:bar")) == (401, 200)
    return static


def test_first_install(static: Static) -> None:
    assert static.get("foo:bar") == 0
    before = static.status()["serving"]
    assert static.bring(check=True)["changed"]
    assert (static.status()["serving"], static.get()) == (before, 0)
    result = static.bring()
    assert (result.failed, result["changed"], result["restart_epoch"]) == (False, True, 1), result.output
    assert (static.get(), static.get("foo:wrong"), static.get("foo:bar")) == (401, 401, 200)
    for check in (True, False):
        again = static.bring(check=check)
        assert (again["changed"], again["versions"]) == (False, result["versions"]), again.output
    assert static.status()["serving"]["pid"] == result["pid"]


def test_a_rotation_by_hot_restart_without_a_failed_request(served: Static) -> None:
    served.bring(drain=6)
    idle = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
    assert request(idle, "foo:bar") == 200
    with load(served) as answers:
        result = served.bring("baz", drain=6)
        assert (result.failed, result["changed"]) == (False, True), result.output
    # The old Envoy goes by the old credential for the connections that it has.
    assert set(answers["foo:wrong"]) == {401}
    assert set(answers["foo:bar"]) <= {200, 401}
    assert request(idle, "foo:bar") == 200
    assert (served.get("foo:bar"), served.get("foo:baz")) == (401, 200)
    wait_until(lambda: not served.status()["draining"], "the old Envoy does not end")
    assert (served.get("foo:bar"), served.get("foo:baz")) == (401, 200)
    idle.close()


def test_the_old_credential_ends_at_once_where_that_is_wanted(served: Static) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
    assert request(kept, "foo:bar") == 200
    connected = kept.sock
    result = served.bring("baz")
    assert not result.failed, result.output
    assert connected.recv(1) == b""
    assert (served.get("foo:bar"), served.get("foo:baz")) == (401, 200)


def test_what_envoy_refuses_leaves_all_as_it_was(served: Static) -> None:
    before, files = served.status()["serving"], served.files()
    auth = {
        **AUTH,
        "extension": str(served.library),
        "config": {"users": [{"username": "foo", "pass": "${secret.foo}"}]},
    }
    with load(served) as answers:
        result = served.bring("baz-unseen", desired={"filters": [auth]})
    assert result.code == "refused_in_validation", result.output
    assert "baz-unseen" not in result.output
    assert (served.status()["serving"], served.files()) == (before, files)
    assert only(answers) == {"foo:bar": {200}, "foo:wrong": {401}}


def test_a_failed_probe_brings_the_last_good_one_back(served: Static) -> None:
    probe = {"url": f"http://127.0.0.1:{served.port}/", "headers": {"Host": "httpbin.example.com"}, "status": 503}
    result = served.bring("baz", probe=[probe])
    assert result.code == "probe_failed", result.output
    assert "The old Envoy is in service." in result["msg"]
    assert (served.get("foo:baz"), served.get("foo:bar")) == (401, 200)
    assert served.bring()["changed"] is False


def test_only_the_filters_where_only_these_are_named(served: Static) -> None:
    users = [{"username": "foo", "password": "${secret.foo}"}]
    auth = {**AUTH, "extension": str(served.library), "config": {"users": users}}
    result = served.bring("baz", desired={"filters": [auth]})
    assert (result.failed, result["changed"]) == (False, True), result.output
    assert (served.get("foo:bar"), served.get("foo:baz")) == (401, 200)


def test_modules_that_publish_say_that_it_takes_a_hot_restart(served: Static) -> None:
    assert served.extend(served.library, "baz").code == "hot_restart_needed"
    assert served.extend(served.library)["action"] == "none"
    assert served.get("foo:bar") == 200


def test_rollback(served: Static) -> None:
    first = served.bring()["versions"]
    assert served.bring("baz")["changed"]
    refused = served.rollback("basic_auth")
    assert refused.code == "hot_restart_needed", refused.output
    version = refused["failure"]["details"]["version"]
    assert version == first["filter basic_auth"]
    back = served.hot_restart({**served.wanted(drain=0), "versions": {"filter basic_auth": version}})
    assert (back.failed, back["changed"]) == (False, True), back.output
    assert (served.get("foo:baz"), served.get("foo:bar")) == (401, 200)
    again = served.rollback("basic_auth")
    assert (again.failed, again["changed"]) == (False, False), again.output


def test_a_crash_comes_back_with_what_ran(served: Static) -> None:
    served.crash()
    assert served.get("foo:bar") == 0
    served.begin(drain=0)
    assert (served.get(), served.get("foo:bar")) == (401, 200)
    assert served.bring()["changed"] is False


@pytest.mark.parametrize("damage", ["{", '{"resources": [{}]}', None])
def test_without_its_filter_it_does_not_start(served: Static, damage: str | None) -> None:
    if damage is None:
        served.live("basic_auth").unlink()
    else:
        served.live("basic_auth").write_text(damage)
    served.crash()
    with pytest.raises(AssertionError):
        served.begin(drain=0)
    assert served.get("foo:bar") == 0


def test_a_foreign_edit_is_mended_before_any_envoy_reads_it(served: Static) -> None:
    live = served.live("basic_auth")
    live.write_text(live.read_text().replace("bar", "open"))
    result = served.bring()
    assert (result.failed, result["changed"]) == (False, True), result.output
    assert (served.get("foo:open"), served.get("foo:bar")) == (401, 200)
    assert served.bring()["changed"] is False


def test_a_filter_that_was_removed_from_the_disk_comes_back_before_the_next_envoy_starts(served: Static) -> None:
    served.live("basic_auth").unlink()
    result = served.hot_restart(served.wanted(drain=1))
    assert (result.failed, result["changed"]) == (False, True), result.output
    assert served.live("basic_auth").exists()
    assert (served.get(), served.get("foo:bar")) == (401, 200)


def test_info_tells_what_the_bootstrap_holds(served: Static) -> None:
    info = served.info()
    (auth,) = info["filters"]
    assert (auth["name"], auth["path"], auth["in_service"]) == ("basic_auth", str(served.live("basic_auth")), True)
    assert auth["extension"]["loaded"]
    assert [(item["name"], item["in_service"]) for item in info["resources"]] == [
        ("clusters", True),
        ("listeners", True),
    ]
    assert info["listeners"][0]["filters"] == ["basic_auth"]


def test_no_secret_in_the_admin_dump(static: Static) -> None:
    result = static.bring("never-in-a-dump")
    assert static.get("foo:never-in-a-dump") == 200
    assert "never-in-a-dump" not in result.output
    for page in PAGES:
        assert b"never-in-a-dump" not in static.admin.get(f"/{page}"), page
    composed = static.root / "composed.json"
    assert "never-in-a-dump" in composed.read_text()
    assert composed.stat().st_mode & 0o077 == 0


def test_from_files_that_envoy_watches_and_back(monkeypatch: pytest.MonkeyPatch, basic_auth: pathlib.Path) -> None:
    gateway = Static(basic_auth)
    monkeypatch.setenv("PATH", f"{gateway.root}/bin:{os.environ['PATH']}")
    try:
        files = [
            (key, f"{gateway.directory}/{name}.json")
            for key, name in (("cds_config", "clusters"), ("lds_config", "listeners"))
        ]
        sources = {key: {"path_config_source": {"path": path}, "resource_api_version": "V3"} for key, path in files}
        gateway.bootstrap["dynamic_resources"], gateway.static = sources, False
        gateway.begin(drain=0)
        gateway.serve(AUTH)
        assert gateway.extend(gateway.library)["changed"]
        versions = {"filter basic_auth": json.loads(gateway.live("basic_auth").read_text())["version_info"]}
        del gateway.bootstrap["dynamic_resources"]
        gateway.static = True
        with load(gateway) as answers:
            result = gateway.hot_restart(gateway.wanted(drain=1))
        assert (result.failed, result["changed"]) == (False, True), result.output
        assert only(answers) == {"foo:bar": {200}, "foo:wrong": {401}}
        assert result["versions"].items() >= versions.items()
        assert gateway.bring(drain=1)["changed"] is False
        gateway.bootstrap["dynamic_resources"], gateway.static = sources, False
        result = gateway.hot_restart(gateway.wanted(drain=2))
        assert (result.failed, result["changed"]) == (False, True), result.output
        assert gateway.extend(gateway.library, "baz")["action"] == "published"
        assert (gateway.get("foo:bar"), gateway.get("foo:baz")) == (401, 200)
    finally:
        gateway.remove()
