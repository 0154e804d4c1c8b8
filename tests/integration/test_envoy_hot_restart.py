# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another Envoy, bootstrap or extension by hot restart, of a real supervisor with real Envoys."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import typing as t

import pytest
from real import (
    NATIVE,
    REPOSITORY,
    RealGateway,
    content_addressed,
    htpasswd,
    native_users,
    request,
    run_module,
    wait_until,
)
from supervised import Supervised, load, only

from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._store import Store
from ansible_collections.moe.gateway.plugins.module_utils._twin import Twin

AUTH = {"name": "basic_auth", "engine": "dynamic_module"}


def never_ready(bootstrap: dict[str, t.Any]) -> None:
    """Listeners come from a server that does not answer, and Envoy waits for them as long as it takes."""
    http2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {"@type": f"type.googleapis.com/{http2}", "explicit_http_config": {"http2_protocol_options": {}}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 9}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    cluster = {
        "name": "nowhere",
        "type": "STATIC",
        "typed_extension_protocol_options": {http2: options},
        "load_assignment": {"cluster_name": "nowhere", "endpoints": endpoints},
    }
    source = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "nowhere"}}],
    }
    bootstrap["static_resources"] = {"clusters": [cluster]}
    bootstrap["dynamic_resources"]["lds_config"] = {
        "api_config_source": source,
        "initial_fetch_timeout": "0s",
        "resource_api_version": "V3",
    }


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Supervised]:
    gateway = Supervised()
    monkeypatch.setenv("PATH", f"{gateway.root}/bin:{os.environ['PATH']}")
    try:
        gateway.begin()
        gateway.serve(NATIVE)
        assert gateway.filter("users", **native_users(htpasswd("foo", "bar")))["changed"]
        assert (gateway.get(), gateway.get("foo:bar")) == (401, 200)
        yield gateway
    finally:
        gateway.remove()


RIGHT = {"foo:bar": {200}, "foo:wrong": {401}}


def test_another_bootstrap_without_a_failed_request(supervised: Supervised) -> None:
    wanted = supervised.wanted(lambda bootstrap: bootstrap["node"].update(id="another"))
    before = supervised.status()["serving"]
    checked = supervised.hot_restart(wanted, check=True)
    assert (checked["changed"], supervised.status()["serving"]) == (True, before)
    assert supervised.unit.read_text() != wanted["content"]
    with load(supervised) as answers:
        result = supervised.hot_restart(wanted)
        assert not result.failed, result.output
        wait_until(lambda: supervised.status()["draining"][0]["pid"] == before["pid"], "the old one does not drain")
    assert only(answers) == RIGHT
    assert len(answers["foo:bar"]) > 20
    assert (result["changed"], result["restart_epoch"], result["previous_pid"]) == (True, 1, before["pid"])
    serving = supervised.status()["serving"]
    assert (serving["pid"], serving["start"], serving["epoch"]) == (result["pid"], wanted["start"], 1)
    assert supervised.admin.server().node["id"] == "another"
    assert supervised.unit.read_text() == wanted["content"]
    assert not supervised.previous.exists()
    assert [str(path) for path in supervised.root.glob("bootstrap-*")] == [wanted["bootstrap"]]
    # What follows goes to the new one, and the old one, which reads the same file, follows too.
    assert supervised.filter("users", **native_users(htpasswd("foo", "bar")))["action"] == "none"
    again = supervised.hot_restart({**supervised.wanted(drain=8), "wait": 0.1})
    assert again.code == "still_draining", again.output
    # Another one that waits until it may.
    again = supervised.hot_restart(supervised.wanted(drain=8))
    assert (again.failed, again["restart_epoch"]) == (False, 2)
    assert not pathlib.Path(f"/proc/{before['pid']}").exists()


def test_connections_to_the_old_one_can_be_closed_at_once(supervised: Supervised) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", supervised.port, timeout=5)
    assert request(kept, "foo:bar") == 200
    connected = kept.sock
    result = supervised.hot_restart(supervised.wanted(drain=0))
    assert not result.failed, result.output
    assert connected.recv(1) == b""
    kept.close()
    assert (supervised.get(), supervised.get("foo:bar")) == (401, 200)
    assert supervised.status()["draining"] == []


def test_a_rotation_reaches_connections_to_the_old_one(supervised: Supervised) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", supervised.port, timeout=5)
    assert request(kept, "foo:bar") == 200
    connected = kept.sock
    result = supervised.hot_restart(supervised.wanted(drain=20))
    assert not result.failed, result.output
    assert supervised.filter("users", **native_users(htpasswd("foo", "baz")))["action"] == "published"
    assert (request(kept, "foo:bar"), kept.sock in (None, connected)) == (401, True)
    assert supervised.status()["draining"]
    kept.close()


@pytest.fixture
def extended(supervised: Supervised, basic_auth: pathlib.Path) -> Supervised:
    """With the example extension in the chain, instead of Envoy's own filter."""
    supervised.serve(AUTH)
    assert supervised.extend(basic_auth)["changed"]
    assert (supervised.get(), supervised.get("foo:bar")) == (401, 200)
    return supervised


def another(gateway: Supervised) -> pathlib.Path:
    """The same code in another file: what follows the ELF sections means nothing."""
    source = next(gateway.extensions.iterdir())
    target = gateway.root / "basic_auth.so"
    target.write_bytes(source.read_bytes() + b"another")
    return content_addressed(target, gateway.extensions)


def for_older_envoys() -> pathlib.Path:
    target = REPOSITORY / "build" / "extensions" / "v0.1.0" / "basic_auth.so"
    builder, source = REPOSITORY / "tools" / "build_extension.py", REPOSITORY / "examples" / "basic_auth"
    command = [sys.executable, str(builder), str(source), "--define", "ABI_V0_1_0", "-o", str(target)]
    subprocess.run(command, check=True)
    return target


def mapped(pid: int) -> set[str]:
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    return {line.split()[-1] for line in maps.splitlines() if "/extensions/" in line}


def test_each_of_the_two_runs_the_extension_that_it_is_to_have(extended: Supervised) -> None:
    other = another(extended)
    before, (old,) = extended.status()["serving"], mapped(extended.status()["serving"]["pid"])
    wanted = {**extended.wanted(), "extensions": {"basic_auth": str(other), "unknown": "/nowhere"}}
    with load(extended) as answers:
        result = extended.hot_restart(wanted)
    assert not result.failed, result.output
    assert only(answers) == RIGHT
    assert (mapped(before["pid"]), mapped(result["pid"])) == ({old}, {str(other)})
    assert old != str(other)
    assert not pathlib.Path(f"{extended.directory}.next").exists()
    assert not (extended.directory / "state" / "twin").exists()
    # It is confirmed, and nothing is left to do for who wants just that.
    assert extended.extend(other)["action"] == "none"
    assert extended.extend(other, "baz")["action"] == "published"
    assert extended.get("foo:baz") == 200


def test_what_was_built_for_another_envoy_is_refused(extended: Supervised) -> None:
    old = content_addressed(for_older_envoys(), extended.extensions)
    files, before = extended.files(), extended.status()["serving"]
    result = extended.hot_restart({**extended.wanted(), "extensions": {"basic_auth": str(old)}})
    assert result.code == "wrong_abi", result.output
    assert "v0.1.0" in result["msg"]
    assert (extended.files(), extended.status()["serving"]) == (files, before)


def test_the_directory_comes_back_with_the_old_one(extended: Supervised) -> None:
    other = another(extended)
    files = extended.files()
    result = extended.hot_restart({**extended.wanted(never_ready), "extensions": {"basic_auth": str(other)}})
    assert result.code == "refused_by_envoy", result.output
    assert extended.files() == files
    assert not pathlib.Path(f"{extended.directory}.next").exists()
    assert extended.extend(next(iter(mapped(extended.status()["serving"]["pid"]))), "baz")["action"] == "published"
    assert extended.get("foo:baz") == 200


def test_a_run_that_was_killed_after_the_exchange_is_undone_by_the_next(extended: Supervised) -> None:
    files, admin = extended.files(), extended.admin
    process = admin.peer().process
    status = os.stat(extended.directory)
    twin = Twin(Store(str(extended.directory), Files(status.st_uid, status.st_gid)))
    twin.make(process)
    (extended.root / "xds.next" / "filters" / "basic_auth.json").write_text("{}")
    twin.exchange()
    assert extended.files() != files
    assert not extended.hot_restart(extended.wanted()).failed
    assert extended.files() == files
    assert not (extended.root / "xds.next").exists()


@pytest.mark.parametrize(
    "operation",
    [
        r"create .*/xds\.next/state/twin",
        r"create .*/xds\.next/state/staged-.*",
        r"exchange .*/xds",
        r"rename .*/envoy\.service\.previous",
        r"rename .*/envoy\.service",
        r"rename .*/state/filters/basic_auth/record\.json",
        r"unlink .*/bootstrap-.*\.json",
        r"unlink .*/xds/state/twin",
        r"rmdir .*/xds\.next",
    ],
)
def test_a_run_that_is_killed_can_be_repeated(extended: Supervised, operation: str) -> None:
    """A kill before the first such operation leaves what serves right, and what the next run finishes."""
    other = another(extended)
    wanted = {**extended.wanted(drain=1), "extensions": {"basic_auth": str(other)}}
    faulty = pathlib.Path(__file__).with_name("faulty.py")
    process = subprocess.run(
        [sys.executable, str(faulty), "envoy_hot_restart", str(extended.root / "operations"), "kill", operation],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": wanted}),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "build" / "collections")},
    )
    assert process.returncode == -signal.SIGKILL, process.stdout + process.stderr
    assert (extended.get(), extended.get("foo:wrong"), extended.get("foo:bar")) == (401, 401, 200)
    result = extended.hot_restart(wanted)
    assert not result.failed, result.output
    assert (extended.get("foo:wrong"), extended.get("foo:bar")) == (401, 200)
    assert mapped(result["pid"]) == {str(other)}
    assert extended.unit.read_text() == wanted["content"]
    assert not extended.previous.exists()
    assert not (extended.root / "xds.next").exists()
    assert not (extended.directory / "state" / "twin").exists()
    assert extended.extend(other)["action"] in ("none", "healed")


def test_one_that_never_becomes_ready_leaves_the_old_one(supervised: Supervised) -> None:
    old, before = supervised.unit.read_text(), supervised.status()["serving"]
    with load(supervised) as answers:
        bootstraps = set(supervised.root.glob("bootstrap-*"))
        result = supervised.hot_restart(supervised.wanted(never_ready))
    assert result.code == "refused_by_envoy", result.output
    assert set(supervised.root.glob("bootstrap-*")) == bootstraps
    assert "epoch 1 was not ready in time; epoch 0 serves on" in result["msg"]
    assert "The old Envoy is in service. A reboot starts the old one too." in result["msg"]
    assert only(answers) == RIGHT
    assert supervised.unit.read_text() == old
    assert (supervised.root / "loaded").read_text() == old
    serving = supervised.status()["serving"]
    assert (serving["command"], serving["start"]) == (before["command"], before["start"])
    # Its admin interface is back too, so all else works.
    assert supervised.filter("users", **native_users(htpasswd("foo", "baz")))["action"] == "published"
    assert (supervised.get("foo:bar"), supervised.get("foo:baz")) == (401, 200)
    # And the next hot restart.
    assert not supervised.hot_restart(supervised.wanted(drain=8)).failed


def test_one_that_crashes_tells_why(supervised: Supervised) -> None:
    crashing = supervised.root / "crashing"
    crashing.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--restart-epoch*)\n'
        f'echo "[2026-01-01 00:00:00.000][1][critical][main] [x:1] out of luck" >>{supervised.log}\n'
        f'exit 3;; esac\nexec {supervised.binary} "$@"\n'
    )
    crashing.chmod(0o755)
    before = supervised.status()["serving"]
    result = supervised.hot_restart(supervised.wanted(binary=str(crashing)))
    assert result.code == "refused_by_envoy", result.output
    assert "epoch 1 ended with status 3 before it was ready; epoch 0 serves on: out of luck." in result["msg"]
    assert supervised.status()["serving"] == before
    assert supervised.get("foo:bar") == 200


def test_what_the_new_one_refuses_in_validation_changes_nothing(supervised: Supervised) -> None:
    picky = supervised.root / "picky"
    picky.write_text(
        "#!/bin/sh\n"
        'case "$*" in *validate*) echo "[2026-01-01 00:00:00.000][1][critical][main] [x:1] no such filter" >&2\n'
        f'exit 1;; esac\nexec {supervised.binary} "$@"\n'
    )
    picky.chmod(0o755)
    old, before = supervised.unit.read_text(), supervised.status()["serving"]
    result = supervised.hot_restart(supervised.wanted(binary=str(picky)))
    assert result.code == "refused_in_validation", result.output
    assert "no such filter" in result["msg"]
    assert (supervised.unit.read_text(), supervised.status()["serving"]) == (old, before)


def test_one_that_serves_and_is_not_what_was_meant_makes_room_again(supervised: Supervised) -> None:
    old, before = supervised.unit.read_text(), supervised.status()["serving"]
    with load(supervised) as answers:
        result = supervised.hot_restart({**supervised.wanted(drain=8), "version": "9.9.9"})
    assert result.code == "not_confirmed", result.output
    assert "expected 9.9.9" in result["msg"]
    assert "The old Envoy is in service." in result["msg"]
    assert answers["foo:wrong"]
    assert set(answers["foo:wrong"]) <= {401, "RemoteDisconnected", "ConnectionResetError"}
    assert supervised.unit.read_text() == old
    assert supervised.status()["serving"]["start"] == before["start"]
    assert supervised.get("foo:bar") == 200


def test_an_edit_that_only_the_new_one_would_see_is_healed_before(supervised: Supervised) -> None:
    live = supervised.live("users")
    live.write_text(live.read_text().replace(htpasswd("foo", "bar"), htpasswd("foo", "open")))
    assert supervised.get("foo:open") == 401
    with load(supervised) as answers:
        assert not supervised.hot_restart(supervised.wanted(drain=8)).failed
    assert only(answers) == RIGHT
    assert (supervised.get("foo:open"), supervised.get("foo:bar")) == (401, 200)


def test_a_filter_that_was_removed_is_back_before(supervised: Supervised) -> None:
    supervised.live("users").unlink()
    with load(supervised) as answers:
        assert not supervised.hot_restart(supervised.wanted(drain=8)).failed
    assert only(answers) == RIGHT
    assert (supervised.get(), supervised.get("foo:bar")) == (401, 200)


def test_a_run_that_was_killed_is_undone_by_the_next(supervised: Supervised) -> None:
    old = supervised.unit.read_text()
    wanted = supervised.wanted(never_ready)
    supervised.previous.write_text(old)
    supervised.unit.write_text(wanted["content"])
    assert supervised.hot_restart(wanted).code == "refused_by_envoy"
    assert supervised.unit.read_text() == old


def test_without_a_supervisor_nothing_changes(gateway: RealGateway) -> None:
    unit = gateway.root / "envoy.service"
    unit.write_text("old")
    where = {"unit": str(unit), "run_dir": str(gateway.root), **gateway.where(), "bootstrap": "/x", "start": "1"}
    result = run_module("envoy_hot_restart", {**where, "content": "new", "envoy_binary": "/x", "version": "1"})
    assert result.code == "no_supervisor"
    assert unit.read_text() == "old"


def test_the_supervisor_ends_when_nothing_serves_any_more(supervised: Supervised) -> None:
    assert supervised.supervisor
    base_id = int((supervised.root / "base-id").read_text())
    memory = pathlib.Path(f"/dev/shm/envoy_shared_memory_{base_id * 10 % 2**32}")
    assert memory.exists()
    os.kill(supervised.status()["serving"]["pid"], signal.SIGKILL)
    assert supervised.supervisor.wait(10) == 1
    assert supervised.get("foo:bar") == 0
    assert not memory.exists()


def test_with_the_supervisor_all_its_envoys_end(supervised: Supervised) -> None:
    assert not supervised.hot_restart(supervised.wanted(drain=8)).failed
    state = supervised.status()
    pids = [state["serving"]["pid"], state["draining"][0]["pid"]]
    assert supervised.supervisor
    supervised.supervisor.kill()
    supervised.supervisor.wait()
    wait_until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids), "an Envoy lives on")
