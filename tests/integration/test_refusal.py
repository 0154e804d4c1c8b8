# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Envoy refuses although the throwaway Envoy let it pass, and what that leaves behind."""

from __future__ import annotations

import json
import os

import pytest
from real import NATIVE, TYPE, content_addressed, htpasswd, native_users, wait_until

GOOD = native_users(htpasswd("foo", "bar"))
NEXT = native_users(htpasswd("foo", "baz"))
BAD = "foo-without-a-password"
REASON = "basic auth: invalid htpasswd format, username:password is expected"


@pytest.fixture
def served(gateway):
    gateway.serve(NATIVE)
    assert not gateway.filter("users", **GOOD).failed
    return gateway


def push_bad(gateway):
    """Publish what only the running Envoy may refuse."""
    return gateway.filter("users", **native_users(BAD, envoy_binary=str(gateway.blind)))


def in_service(gateway, credential):
    """The gateway serves this credential, and what can be read of it is not poisoned."""
    assert gateway.get(credential) == 200
    assert gateway.get() == 401
    text = gateway.counters("users")["version_text"]
    live = json.loads(gateway.live("users").read_text())
    dump = json.loads(gateway.admin.get("/config_dump?resource=ecds_filters"))
    assert live["version_info"] == text == dump["configs"][0]["version_info"]


def test_refused_by_envoy_is_restored_and_told(served):
    before = served.filter("users", check=True, **GOOD)["version"]
    for _retry in range(3):
        result = push_bad(served)
        assert (result.failed, result.code, result["action"]) == (True, "refused_by_envoy", "restored")
        assert REASON in result["msg"]
        assert result["failure"]["details"]["reason"] == REASON
        restored = result["failure"]["details"]["restored"]
        assert restored.partition("-")[0] == before.partition("-")[0], "the content of the last good version"
        in_service(served, "foo:bar")
    assert served.filter("users", **GOOD)["action"] == "none"
    assert served.filter("users", **NEXT)["action"] == "published"
    in_service(served, "foo:baz")


@pytest.mark.parametrize("how", ["removed", "damaged"])
def test_the_way_back_does_not_need_what_is_kept(served, how):
    """The last good content is in service, so it is on the disk, whatever somebody did to the generations."""
    kept = list((served.directory / "state" / "filters" / "users").glob("[0-9]*"))
    assert kept
    for path in kept:
        path.unlink()
        if how == "damaged":
            path.write_text("garbled")
    result = push_bad(served)
    assert (result.code, result["action"]) == ("refused_by_envoy", "restored")
    in_service(served, "foo:bar")
    assert served.filter("users", **GOOD)["action"] == "none"


def test_the_refused_content_is_nowhere_left(served):
    push_bad(served)
    assert not [name for name, data in served.files().items() if BAD.encode() in data]
    assert not [name for name in served.files() if "staged" in name]


def test_a_first_revision_that_is_refused_leaves_the_deny(gateway):
    gateway.serve(NATIVE)
    result = push_bad(gateway)
    assert (result.code, result["action"]) == ("refused_by_envoy", "restored")
    assert "the refusal of all traffic is in service again" in result["msg"]
    assert gateway.get("foo:bar") == 403
    gateway.restart()
    assert gateway.get("foo:bar") == 403


def test_unrelated_listener_updates_go_through_after_a_refusal(served):
    """With a refused filter in place Envoy refuses every listener that names it; restored, it does not."""
    push_bad(served)
    listener = served.listener(NATIVE)
    listener["virtual_hosts"][0]["routes"][0]["body"] = "served anew"
    assert served.config(filters=[NATIVE], listeners=[listener])["listeners"]["action"] == "published"


def foreign(gateway, line, version):
    """What somebody else would push who does not know of this collection."""
    typed = {"@type": TYPE + NATIVE["type"], "users": {"inline_string": line}}
    resource = {"@type": TYPE + "envoy.config.core.v3.TypedExtensionConfig", "name": "users", "typed_config": typed}
    attempts = gateway.counters("users")["update_attempt"]
    gateway.push(gateway.live("users"), json.dumps({"version_info": version, "resources": [resource]}))
    wait_until(lambda: gateway.counters("users")["update_attempt"] > attempts, "Envoy did not see the push")


def test_a_rejected_update_that_reads_as_applied(served):
    """The same bad content twice: Envoy counts a success and shows the new version, and runs the old configuration."""
    foreign(served, "bad", "foreign-1")
    foreign(served, "bad", "foreign-2")
    counters = served.counters("users")
    assert (counters["update_rejected"], counters["version_text"]) == (1, "foreign-2"), "the trap is there"
    result = served.filter("users", **GOOD)
    assert (result["changed"], result["action"]) == (True, "healed")
    assert any("changed by somebody else" in text for text in result["found"])
    assert any("refused 1 update" in text for text in result["found"])
    in_service(served, "foo:bar")
    assert served.filter("users", **GOOD)["action"] == "none"


def test_our_own_file_put_back_after_a_refused_foreign_push(served):
    """Nothing on disk tells that anything happened; Envoy's counters do."""
    ours = served.live("users").read_text()
    foreign(served, "bad", "foreign-1")
    served.live("users").chmod(0o600)
    attempts = served.counters("users")["update_attempt"]
    served.push(served.live("users"), ours)
    served.live("users").chmod(0o600)
    wait_until(lambda: served.counters("users")["update_attempt"] > attempts, "Envoy did not see the push")
    result = served.filter("users", **GOOD)
    assert (result["action"], result["found"]) == (
        "healed",
        ["Envoy had refused 1 update(s) that no run here had pushed and mended"],
    )
    in_service(served, "foo:bar")


def test_a_foreign_push_that_opens_the_gateway_is_taken_back(served):
    foreign(served, htpasswd("mallory", "in"), "foreign-1")
    assert served.get("mallory:in") == 200
    assert served.filter("users", **GOOD)["action"] == "healed"
    assert served.get("mallory:in") == 401
    in_service(served, "foo:bar")


def example(extension, password, **options):
    config = {"users": [{"username": "foo", "password": "${secret.foo}"}]}
    return {
        "engine": "dynamic_module",
        "extension": str(extension),
        "config": config,
        "secrets": {"foo": password},
        **options,
    }


@pytest.fixture
def extended(gateway, basic_auth):
    """A gateway that serves the example extension, and the extension's file."""
    gateway.serve({"name": "basic_auth", "engine": "dynamic_module"})
    extension = content_addressed(basic_auth, gateway.extensions)
    assert not gateway.filter("basic_auth", **example(extension, "bar")).failed
    return gateway, extension


def test_identical_content_after_a_mended_library(extended):
    """Envoy never evaluates the same bytes again: without new ones the mended library would stay out of service."""
    gateway, extension = extended
    content = extension.read_bytes()
    gateway.stop()
    extension.unlink()
    gateway.start()
    assert gateway.get("foo:bar") == 500, "closed, not open"
    missing = gateway.filter("basic_auth", **example(extension, "bar"))
    assert missing.code == "extension_missing"
    assert str(extension) in missing["msg"]
    extension.write_bytes(content)
    result = gateway.filter("basic_auth", **example(extension, "bar"))
    assert (result["changed"], result["action"]) == (True, "healed")
    assert gateway.get("foo:bar") == 200
    assert gateway.get() == 401


def test_a_damaged_library_is_refused_before_envoy_sees_it(extended):
    gateway, extension = extended
    damaged = extension.with_name(f"basic_auth-{'a' * 64}.so")
    damaged.write_bytes(extension.read_bytes()[:-100_000])
    counters, files = gateway.counters("basic_auth"), gateway.files()
    result = gateway.filter("basic_auth", **example(damaged, "baz"))
    assert result.code == "extension_damaged"
    assert "a" * 64 in result["msg"]
    assert (gateway.counters("basic_auth"), gateway.files()) == (counters, files)
    assert gateway.get("foo:bar") == 200


@pytest.mark.parametrize("content", [b"not a library", b"", None], ids=["text", "empty", "half"])
def test_what_is_no_library_is_refused_in_validation(extended, content, tmp_path):
    """Its digest is right, so only Envoy can tell."""
    gateway, extension = extended
    source = tmp_path / "basic_auth.so"
    source.write_bytes(extension.read_bytes()[:500_000] if content is None else content)
    broken = content_addressed(source, gateway.extensions)
    counters, files = gateway.counters("basic_auth"), gateway.files()
    result = gateway.filter("basic_auth", **example(broken, "baz"))
    assert result.code == "refused_in_validation"
    assert "Failed to load dynamic module" in result["msg"] or "SIGBUS" in result["msg"]
    assert (gateway.counters("basic_auth"), gateway.files()) == (counters, files)
    assert gateway.get("foo:bar") == 200


def replace(extension, content):
    """Rename another file into the place of a library that Envoy may have loaded."""
    new = extension.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, extension)


def test_a_library_replaced_under_its_path(extended):
    """Envoy would run the old code with the new configuration, and say success."""
    gateway, extension = extended
    content = extension.read_bytes()
    gateway.stop()
    replace(extension, content + b"somebody else's build")
    gateway.start()
    assert gateway.get("foo:bar") == 200, "it was loaded"
    replace(extension, content)
    result = gateway.filter("basic_auth", **example(extension, "baz"))
    assert result.code == "extension_replaced"
    assert f"PID {gateway.process.pid}" in result["msg"]
    assert gateway.get("foo:bar") == 200


def may_read_what_runs():
    """As the kernel lets root."""
    try:
        return all(os.stat(entry.path) for entry in os.scandir("/proc/self/map_files"))
    except PermissionError:
        return False


def test_a_library_that_was_removed_and_copied_again(extended):
    """What Envoy runs is the right code, although not of the file that is there by now."""
    gateway, extension = extended
    replace(extension, extension.read_bytes())
    result = gateway.filter("basic_auth", **example(extension, "baz"))
    if not may_read_what_runs():
        assert result.code == "extension_replaced"
        assert "(root, who may read what that was" in result["msg"]
        assert gateway.get("foo:bar") == 200
        return
    assert (result.failed, result["action"]) == (False, "published")
    assert result["loaded"]["inode"] != extension.stat().st_ino
    assert (gateway.get("foo:bar"), gateway.get("foo:baz")) == (401, 200)
    assert gateway.filter("basic_auth", **example(extension, "baz"))["action"] == "none"


def test_a_filter_does_not_change_its_type_under_its_name(extended):
    gateway, _extension = extended
    result = gateway.filter("basic_auth", **native_users(htpasswd("foo", "baz")))
    assert result.code == "type_changed"
    assert "gets a new name" in result["msg"]
    assert gateway.get("foo:bar") == 200
