# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""envoy_info tells what runs, what is on disk, and whether the two are one, and changes nothing."""

from __future__ import annotations

import json

import pytest
from real import NATIVE, TYPE, content_addressed, htpasswd, native_users, run_module, wait_until


@pytest.fixture
def served(gateway):
    gateway.serve(NATIVE)
    assert not gateway.filter("users", **native_users(htpasswd("foo", "bar"))).failed
    return gateway


def info(gateway, **options):
    files = gateway.files()
    result = run_module("envoy_info", {**gateway.where(), **options})
    assert gateway.files() == files
    return result


def test_tells_what_runs(served):
    result = info(served)
    assert result["changed"] is False
    assert result["envoy"] == {
        "version": "1.40.0",
        "state": "LIVE",
        "restart_epoch": 0,
        "uptime_s": result["envoy"]["uptime_s"],
        "pid": served.process.pid,
        "node_id": "gateway",
    }
    assert result["listeners"] == [{"name": "ingress", "address": f"127.0.0.1:{served.port}", "filters": ["users"]}]
    (users,) = result["filters"]
    assert users["path"] == str(served.live("users"))
    assert users["in_service"] is True
    assert users["disk_problem"] is None
    assert users["running_version"] == users["disk_version"] == users["confirmed_version"]
    assert users["counters"] == {"attempts": 2, "rejected": 0, "failed": 0}
    assert result["counters"]["listener_manager.total_listeners_draining"] == 0


def test_tells_drift(served):
    served.live("users").write_text("{}")
    (users,) = info(served)["filters"]
    assert users["in_service"] is False
    assert "had been changed by somebody else" in users["disk_problem"]
    assert users["running_version"] == users["confirmed_version"]


def test_tells_what_runs_where_our_file_is_not(served):
    """Somebody else's push runs, and our own file is on disk again by an edit in place, which Envoy ignores."""
    ours = served.live("users").read_text()
    typed = {"@type": TYPE + NATIVE["type"], "users": {"inline_string": htpasswd("mallory", "in")}}
    resource = {"@type": TYPE + "envoy.config.core.v3.TypedExtensionConfig", "name": "users", "typed_config": typed}
    served.push(served.live("users"), json.dumps({"version_info": "foreign", "resources": [resource]}))
    wait_until(lambda: served.counters("users")["version_text"] == "foreign", "Envoy did not see the push")
    served.live("users").write_text(ours)
    served.live("users").chmod(0o600)
    (users,) = info(served)["filters"]
    assert users["disk_problem"] is None
    assert users["running_version"] == "foreign"
    assert users["in_service"] is False


def test_without_a_directory_it_tells_only_what_runs(served):
    (users,) = info(served, directory=None)["filters"]
    assert set(users) == {"name", "path", "running_version", "counters"}


def test_tells_the_libraries(gateway, basic_auth):
    extension = content_addressed(basic_auth, gateway.extensions)
    gateway.serve({"name": "basic_auth", "engine": "dynamic_module"})
    assert info(gateway)["libraries"] == []
    config = {"users": [{"username": "foo", "password": "${secret.foo}"}]}
    options = {"engine": "dynamic_module", "extension": str(extension), "config": config, "secrets": {"foo": "a-word"}}
    assert not gateway.filter("basic_auth", **options).failed
    assert [gateway.get(), gateway.get("foo:a-word")] == [401, 200]
    result = info(gateway)
    assert result["libraries"] == [{"path": str(extension), "deleted": False}]
    assert result["counters"]["dynamicmodulescustom.basic_auth.allowed"] == 1
    assert result["counters"]["dynamicmodulescustom.basic_auth.denied"] == 1
    assert "a-word" not in result.output
    assert result["filters"][0]["extension"]["loaded"]
    extension.unlink()
    result = info(gateway)
    assert result["libraries"] == [{"path": str(extension), "deleted": True}]
    assert not result["filters"][0]["extension"]["loaded"]


def test_failures_are_told_by_code(served):
    assert info(served, directory="/nonexistent/xds").code == "invalid_option"
    served.stop()
    assert info(served).code == "envoy_down"
