# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each of these was once a success, or a message, that was not what it said."""

import json
import subprocess
import sys

import pytest
from real import NATIVE, REPOSITORY, TYPE, RealGateway, htpasswd, native_users


@pytest.fixture
def own():
    gateway = RealGateway()
    gateway.start()
    yield gateway
    gateway.remove()


ONE = native_users(htpasswd("foo", "one"))
CORS = {**NATIVE, "type": "envoy.extensions.filters.http.cors.v3.Cors"}


def test_a_secret_of_several_lines_is_cut_out_of_a_reason(own):
    kind = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
    own.serve({"name": "m", "engine": "native", "type": kind})
    config = {"@type": TYPE + kind, "stat_prefix": "x", "status": {"code": "${secret.s}"}}
    for secret in ("alpha:zebra\nbravo:quagga\n", "two  spaces\tand a tab"):
        result = own.filter("m", engine="native", config=config, secrets={"s": secret})
        assert result.failed
        assert not any(part in result.output for part in ("zebra", "quagga", "two spaces"))


@pytest.mark.parametrize("leave_first", [False, True])
def test_a_type_that_changes_in_a_chain_is_refused(own, leave_first):
    own.serve(NATIVE)
    own.filter("users", **ONE)
    if leave_first:
        own.config(listeners=[own.listener()])
    before = own.get("foo:one")
    assert own.serve(CORS).code == "type_changed"
    assert own.get("foo:one") == before == 200
    assert not own.serve(NATIVE).failed
    assert not own.filter("users", **native_users(htpasswd("foo", "two"))).failed


def test_a_run_that_was_ended_in_its_probe_is_not_taken_for_a_success(own):
    import socket

    own.serve(NATIVE)
    own.filter("users", **ONE)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        probe = [{"url": f"http://127.0.0.1:{silent.getsockname()[1]}/"}]
        options = native_users(htpasswd("foo", "two"), probe=probe, timeout=20)
        program = [sys.executable, "-m", "ansible_collections.moe.gateway.plugins.modules.envoy_filter"]
        run = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={"PYTHONPATH": f"{REPOSITORY}/build/collections"},
        )
        run.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {**own.where(), "name": "users", **options}}).encode())
        run.stdin.close()
        silent.accept()
        run.kill()
        run.wait()
    assert own.filter("users", **options).code == "probe_failed"
    assert (own.get("foo:one"), own.get("foo:two")) == (200, 401)


def test_without_its_record_what_serves_comes_back(own):
    own.serve(NATIVE)
    own.filter("users", **ONE)
    (own.directory / "state/filters/users/record.json").unlink()
    result = own.filter("users", **native_users(htpasswd("foo", "two"), probe=[{"url": "http://127.0.0.1:1/"}]))
    assert result.code == "probe_failed"
    assert own.get("foo:one") == 200


def test_clusters_that_somebody_changed_come_back_when_listeners_are_refused(own):
    clusters = [{"name": "up", "endpoints": [f"127.0.0.1:{own.port}"]}]
    own.config(clusters=clusters, listeners=[own.listener()])
    live = own.directory / "clusters.json"
    document = json.loads(live.read_text())
    document["resources"][0]["connect_timeout"] = "3s"
    own.push(live, json.dumps(document))
    log = {"@type": TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "/nonexistent/x"}
    bad = {**own.listener(), "http_connection_manager": {"access_log": [{"name": "x", "typed_config": log}]}}
    more = [*clusters, {"name": "more", "endpoints": ["127.0.0.1:1"]}]
    assert own.config(clusters=more, listeners=[bad], envoy_binary=str(own.blind)).code == "refused_by_envoy"
    assert [item["name"] for item in json.loads(live.read_text())["resources"]] == ["up"]


def test_an_upgrade_may_not_have_a_chain_of_its_own_beside_filters(own):
    upgrade = {"upgrade_configs": [{"upgrade_type": "websocket", "filters": []}]}
    result = own.config(filters=[NATIVE], listeners=[{**own.listener(NATIVE), "http_connection_manager": upgrade}])
    assert result.code == "invalid_option"
