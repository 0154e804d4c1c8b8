# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blog's story, and what a user of envoy_filter expects of any module: check, run, check, run, with a true diff."""

from __future__ import annotations

import http.client
import json

import pytest
from real import HOST, NATIVE, TYPE, content_addressed, htpasswd, native_users, request

BASIC_AUTH = {"name": "basic_auth", "engine": "dynamic_module"}
RUN_TWICE = ((True, True), (False, True), (True, False), (False, False))


def example(extension, password, **options):
    """Options of envoy_filter for the example extension with one user."""
    return {
        "engine": "dynamic_module",
        "extension": str(extension),
        "config": {"realm": "httpbin", "users": [{"username": "foo", "password": "${secret.foo}"}]},
        "secrets": {"foo": password},
        **options,
    }


@pytest.fixture
def extension(gateway, basic_auth):
    return content_addressed(basic_auth, gateway.extensions)


def test_the_blogs_story(gateway, extension):
    """401 without and 200 with the credential; after a rotation the old one is refused on the open connection."""
    assert gateway.serve(BASIC_AUTH)["denied"] == ["basic_auth"]
    assert gateway.get("foo:bar") == 403, "a filter without a revision refuses"
    gateway.filter("basic_auth", **example(extension, "bar"))
    before = gateway.admin.server()
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    assert request(connection) == 401
    assert request(connection, "foo:wrong") == 401
    assert request(connection, "foo:bar") == 200
    socket = connection.sock

    result = gateway.filter("basic_auth", **example(extension, "baz"))

    assert (result["changed"], result["action"]) == (True, "published")
    assert request(connection, "foo:bar") == 401
    assert request(connection, "foo:baz") == 200
    assert connection.sock is socket, "the connection was never closed"
    after = gateway.admin.server()
    assert after.restart_epoch == before.restart_epoch == result["restart_epoch"] == 0
    assert after.uptime >= before.uptime
    assert gateway.admin.peer().process.pid == gateway.process.pid
    assert gateway.admin.stats("draining") == dict.fromkeys(gateway.admin.stats("draining"), 0)


@pytest.mark.parametrize("engine", ["dynamic_module", "native"])
def test_check_run_check_run(gateway, basic_auth, engine):
    if engine == "native":
        gateway.serve(NATIVE)
        name, first, second = "users", native_users(htpasswd("foo", "bar")), native_users(htpasswd("foo", "baz"))
    else:
        gateway.serve(BASIC_AUTH)
        extension = content_addressed(basic_auth, gateway.extensions)
        name, first, second = "basic_auth", example(extension, "bar"), example(extension, "baz")
    for options, credential in ((first, "foo:bar"), (second, "foo:baz")):
        versions = set()
        for check, changed in RUN_TWICE:
            files, counters = gateway.files(), gateway.counters(name)
            result = gateway.filter(name, check=check, diff=True, **options)
            assert not result.failed, result
            assert (result["changed"], result["action"]) == (changed, "published" if changed else "none")
            assert (result["diff"]["before"] != result["diff"]["after"]) is changed
            if check or not changed:
                assert gateway.files() == files, "left a trace"
                assert gateway.counters(name) == counters, "pushed"
            versions.add(result["version"])
        assert len(versions) == 1, "check mode predicts the version"
        assert gateway.counters(name)["version_text"] == versions.pop() == str(result["version"])
        assert gateway.get(credential) == 200
        assert gateway.get() == 401


def test_nothing_to_do_imports_nothing_that_only_a_change_needs(gateway):
    """Python compiles all that a module imports at every run: most of what a run with nothing to do takes."""
    needed = {"_execution", "_publish", "_log", "_mask", "_validator", "_probe"}
    probe = [{"url": f"http://127.0.0.1:{gateway.port}/", "headers": {"Host": HOST}, "basic_auth": "foo:bar"}]
    options = native_users(htpasswd("foo", "bar"))
    gateway.serve(NATIVE)
    published, imported = gateway.filter_imports("users", **options, probe=probe)
    assert (published["action"], needed - imported) == ("published", set())
    idle, imported = gateway.filter_imports("users", **options)
    assert (idle["action"], needed & imported) == ("none", set())


def test_the_first_check_on_a_fresh_gateway_leaves_no_trace(gateway):
    files = gateway.files()
    result = gateway.serve(NATIVE, check=True)
    assert (result["changed"], result["denied"]) == (True, ["users"])
    assert gateway.files() == files
    assert sorted(path.name for path in gateway.directory.iterdir()) == ["clusters.json", "listeners.json"]


def test_absent_leaves_the_deny_in_place(gateway):
    gateway.serve(NATIVE)
    gateway.filter("users", **native_users(htpasswd("foo", "bar")))
    for check, changed in RUN_TWICE:
        result = gateway.filter("users", check=check, state="absent")
        assert (result["changed"], result["action"]) == (changed, "removed" if changed else "none")
        assert gateway.get("foo:bar") == (200 if check and changed else 403)


def test_purge_needs_the_filter_out_of_the_chain(gateway):
    gateway.serve(NATIVE)
    gateway.filter("users", **native_users(htpasswd("foo", "bar")))
    refused = gateway.filter("users", state="absent", purge=True)
    assert refused.code == "still_in_chain"
    assert gateway.get("foo:bar") == 200
    gateway.config()
    for check, changed in RUN_TWICE:
        result = gateway.filter("users", check=check, state="absent", purge=True)
        assert (result["changed"], result["action"]) == (changed, "removed" if changed else "none")
    assert not [name for name in gateway.files() if "users" in name]


def test_absent_of_what_never_was_changes_nothing(gateway):
    assert gateway.filter("users", state="absent")["action"] == "none"


def test_two_credentials_overlap_and_one_ends(gateway, extension):
    """A fleet rotates while both work; not_after ends the old one without another push."""
    gateway.serve(BASIC_AUTH)
    users = [
        {"username": "foo", "password": "${secret.old}", "not_after": "2020-01-01T00:00:00Z"},
        {"username": "foo", "password": "${secret.new}", "not_after": "2999-01-01T00:00:00Z"},
        {"username": "foo", "password": "${secret.foo}"},
    ]
    options = example(extension, "third", config={"users": users})
    options["secrets"] = {"old": "first", "new": "second", "foo": "third"}
    assert not gateway.filter("basic_auth", **options).failed
    assert [gateway.get(f"foo:{word}") for word in ("first", "second", "third")] == [401, 200, 200]


def test_secrets_stay_out_of_the_admin_interface(gateway, extension):
    gateway.serve(BASIC_AUTH)
    for redact, hidden in ((True, True), (False, False)):
        gateway.filter("basic_auth", **example(extension, "a-secret-word", redact=redact))
        assert gateway.get("foo:a-secret-word") == 200
        assert (b"a-secret-word" not in gateway.admin.get("/config_dump")) is hidden


def test_a_config_without_secrets_reaches_the_library_as_json(gateway, extension):
    gateway.serve(BASIC_AUTH)
    digest = "$2b$04$XHKkTyWmhqhVyNAXRqdpIe7AaQPVDvSLRWWAE7p5PrYJaGnhbaPVe"
    config = {"users": [{"username": "foo", "password_hash": digest}]}
    result = gateway.filter("basic_auth", **example(extension, "x", config=config))
    assert not result.failed, result
    dump = json.loads(gateway.admin.get("/config_dump?resource=ecds_filters"))
    filter_config = dump["configs"][0]["ecds_filter"]["typed_config"]["filter_config"]
    assert filter_config["@type"] == TYPE + "google.protobuf.StringValue"
    assert json.loads(filter_config["value"]) == config


def test_probes_decide(gateway):
    gateway.serve(NATIVE)
    url = f"http://127.0.0.1:{gateway.port}/"
    asks = [
        {"url": url, "headers": {"host": HOST}, "basic_auth": "foo:${secret.foo}"},
        {"url": url, "headers": {"host": HOST}, "status": 401},
    ]
    options = native_users(htpasswd("foo", "bar"), probe=asks)
    options["secrets"]["foo"] = "bar"
    assert gateway.filter("users", **options)["action"] == "published"
    # The credential that the probe sends is not the one that the filter was given.
    options = native_users(htpasswd("foo", "baz"), probe=asks)
    options["secrets"]["foo"] = "bar"
    result = gateway.filter("users", **options)
    assert (result.code, result["action"]) == ("probe_failed", "restored")
    assert "probe[0]" in result["msg"]
    assert "answered 401, expected 200" in result["msg"]
    assert gateway.get("foo:bar") == 200
    assert gateway.get("foo:baz") == 401


def test_keeps_the_generations_that_it_is_told_to(gateway):
    gateway.serve(NATIVE)
    for number in range(5):
        assert not gateway.filter("users", **native_users(htpasswd("foo", str(number)), keep=3)).failed
    kept = [name for name in gateway.files() if name.startswith("state/filters/users/")]
    assert kept == [f"state/filters/users/{number}.json" for number in (4, 5, 6)] + ["state/filters/users/record.json"]


def test_every_file_is_private(gateway):
    gateway.serve(NATIVE)
    gateway.filter("users", **native_users(htpasswd("foo", "bar")))
    for path in [gateway.directory, *gateway.directory.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_engine_golang_on_a_stock_envoy(gateway):
    """Refused in validation, with the very reason; the blog's form of the configuration."""
    result = gateway.serve({"name": "basic_auth", "engine": "golang"})
    assert result.code == "engine_missing"
    assert "Envoy's contrib build" in result["msg"]
    assert "Istio's proxy" in result["msg"]
    gateway.serve(BASIC_AUTH)
    library = gateway.extensions / f"auth-{EMPTY}.so"
    library.write_bytes(b"")
    blog = {
        "library_id": "example",
        "library_path": str(library),
        "plugin_name": "basic-auth",
        "plugin_config": {
            "@type": TYPE + "xds.type.v3.TypedStruct",
            "value": {"username": "foo", "password": "${secret.foo}"},
        },
    }
    result = gateway.filter("basic_auth", engine="golang", config=blog, secrets={"foo": "a-secret-word"})
    assert result.code == "engine_missing"
    assert "Envoy's contrib build" in result["msg"]
    assert "a-secret-word" not in result.output


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # the SHA-256 of nothing
