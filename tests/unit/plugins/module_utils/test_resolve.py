# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of envoy_filter to the content that should run, and to what people may see of it."""

from __future__ import annotations

import re

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _engines
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._resolve import (
    extension_of,
    kept_extension,
    kept_secrets,
    revision,
)

DIGEST = "0123456789abcdef" * 4
LIBRARY = f"/var/lib/envoy/extensions/basic_auth-{DIGEST}.so"
BASIC_AUTH = "type.googleapis.com/envoy.extensions.filters.http.basic_auth.v3.BasicAuth"
KEY = b"k" * 32
SECRETS = {"pw": "HIDDEN", "unused": "UNUSED"}


def options(**given):
    defaults = {
        "name": "auth",
        "state": "present",
        "engine": "dynamic_module",
        "extension": LIBRARY,
        "filter_name": None,
        "config": {"users": [{"username": "foo", "password": "${secret.pw}"}]},
        "redact": True,
    }
    return {**defaults, **given}


NATIVE = {
    "engine": "native",
    "extension": None,
    "config": {"@type": BASIC_AUTH, "users": {"inline_string": "${secret.pw}"}},
}
GOLANG = {"engine": "golang", "config": {"plugin_name": "${secret.pw}"}}


def test_a_dynamic_module_that_refers_to_secrets_is_sealed():
    found = revision(options(), SECRETS, KEY)
    text = '{"users":[{"username":"foo","password":"HIDDEN"}]}'
    assert found.content["filter_config"] == {
        "@type": "type.googleapis.com/" + _engines.SEAL,
        "secret": {"inline_string": text},
    }
    assert found.extension == (LIBRARY, DIGEST)


@pytest.mark.parametrize(
    "given", [{"redact": False}, {"config": {"users": []}}, {"config": {"users": "$${secret.pw}"}}], ids=str
)
def test_a_dynamic_module_that_need_not_be_sealed_is_not(given):
    found = revision(options(**given), SECRETS, KEY)
    assert found.content["filter_config"]["@type"] == "type.googleapis.com/google.protobuf.StringValue"
    assert not found.view["redacted"]


def test_a_native_filter():
    found = revision(options(**NATIVE), SECRETS, KEY)
    assert found.content == {"@type": BASIC_AUTH, "users": {"inline_string": "HIDDEN"}}
    assert found.extension is None
    assert not found.view["redacted"]


def test_golang_takes_its_library_from_either_place():
    for given in ({}, {"extension": None, "config": {"library_path": LIBRARY}}, {"config": {"library_path": LIBRARY}}):
        found = revision(options(**{**GOLANG, "config": {}, **given}), SECRETS, KEY)
        assert found.extension == (LIBRARY, DIGEST)
        assert found.content["library_id"] == f"auth-{DIGEST}"


def test_absent_is_a_deny_whatever_else_is_given():
    for given in ({}, {"engine": None, "extension": None, "config": {}}, {"config": {"p": "${secret.unknown}"}}):
        found = revision(options(state="absent", **given), SECRETS, KEY)
        assert found == (_engines.DENY, {"state": "absent"}, None)


@pytest.mark.parametrize("given", [{}, NATIVE, GOLANG], ids=["dynamic_module", "native", "golang"])
def test_the_view_shows_references_and_never_a_secret(given):
    found = revision(options(**given), SECRETS, KEY)
    assert found.view["config"] == options(**given)["config"]
    assert "HIDDEN" not in str(found.view)
    assert "HIDDEN" in str(found.content)
    assert list(found.view["secrets"]) == ["pw"]
    assert re.fullmatch("digest [0-9a-f]{16}", found.view["secrets"]["pw"])


def test_the_view_tells_that_a_secret_changed_to_those_alone_who_hold_the_key():
    def shown(secret, key=KEY):
        return revision(options(), {"pw": secret}, key).view["secrets"]["pw"]

    assert shown("one") == shown("one")
    assert shown("one") != shown("two")
    assert shown("one") != shown("one", b"l" * 32)


def test_secrets_that_are_not_referred_to_change_nothing():
    assert revision(options(), SECRETS, KEY) == revision(options(), {"pw": "HIDDEN", "more": "x"}, KEY)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"extension": None}, "extension: found nothing, expected the path of the compiled library, since engine is"),
        (
            {"extension": "/x.so"},
            "extension: found '/x.so' (str), expected an absolute path whose file name holds the SHA-256",
        ),
        ({**NATIVE, "extension": LIBRARY}, f"extension: found '{LIBRARY}'"[:70]),
        ({**NATIVE, "filter_name": "x"}, "filter_name: found 'x' (str), expected nothing, since engine is native."),
        ({**GOLANG, "filter_name": "x"}, "filter_name: found 'x' (str), expected nothing, since engine is golang."),
        ({"filter_name": ""}, "filter_name: found '' (str), expected"),
        (
            {**GOLANG, "extension": None},
            "extension: found nothing, expected the path of the compiled library, since engine is golang",
        ),
        (
            {**GOLANG, "extension": None, "config": {"library_path": ["x"]}},
            "config.library_path: found a list of 1, expected",
        ),
        (
            {**GOLANG, "extension": None, "config": {"library_path": "/x.so"}},
            "config.library_path: found '/x.so' (str), expected",
        ),
        (
            {"config": {"users": [{"password": "${secret.nope}"}]}},
            "config.users[0].password: found a reference to the secret 'nope'",
        ),
        ({**NATIVE, "config": {"users": "x"}}, "config.@type: found nothing, expected the type URL of a stock filter"),
    ],
)
def test_refuses(given, message):
    with pytest.raises(Failure, match="^" + re.escape(message)) as caught:
        revision(options(**given), SECRETS, KEY)
    assert caught.value.code == "invalid_option"


SECRET = "HIDDEN" * 30


@pytest.mark.parametrize(
    "given",
    [
        {**NATIVE, "config": {"@type": "${secret.pw}"}},
        {**GOLANG, "config": {"@type": "${secret.pw}"}},
        {**GOLANG, "config": {"library_path": "${secret.pw}"}},
        {**GOLANG, "config": {"library_id": {"x": "${secret.pw}"}}},
        {**GOLANG, "config": {"plugin_config": "${secret.pw}"}},
        {**GOLANG, "config": {"plugin_config": {"@type": ["${secret.pw}"]}}},
    ],
)
@pytest.mark.parametrize("secret", [SECRET, 'HID"DEN'], ids=["long", "quoted"])
def test_a_secret_in_the_wrong_place_is_refused_without_being_shown(given, secret):
    """Ansible cuts a secret out of its output only where it stands whole, and an error shows a value cut and quoted."""
    with pytest.raises(Failure) as caught:
        revision(options(**given), {"pw": secret}, KEY)
    assert "HID" not in str(caught.value.as_dict())


def test_the_library_is_known_before_the_secrets():
    assert extension_of(options()) == (LIBRARY, DIGEST)
    assert extension_of(options(**NATIVE)) is None


@pytest.mark.parametrize(
    ("given", "extension"),
    [({}, LIBRARY), ({"redact": False}, LIBRARY), (NATIVE, None), (GOLANG, LIBRARY), ({"state": "absent"}, None)],
    ids=str,
)
def test_a_kept_content_tells_its_extension_and_its_secrets(given, extension):
    kept = revision(options(**given), SECRETS, KEY)
    found = kept_extension(kept.content)
    assert (found and found.path) == extension
    assert ("HIDDEN" in kept_secrets(kept.content, kept.view)) is ("state" not in given)


def test_of_a_kept_content_only_what_its_view_shows_is_no_secret():
    config = {"realm": "httpbin", "users": [{"username": "foo", "password": "x-${secret.pw}"}, "plain"]}
    kept = revision(options(config=config), SECRETS, KEY)
    assert kept_secrets(kept.content, kept.view) == ["x-HIDDEN"]
    assert kept_secrets(kept.content, {}) == ["httpbin", "foo", "x-HIDDEN", "plain"]


@pytest.mark.parametrize("text", ["", "not JSON"])
def test_a_kept_content_of_another_shape_is_all_secret(text):
    kept = revision(options(), SECRETS, KEY)
    kept.content["filter_config"]["secret"]["inline_string"] = text + "HIDDEN"
    assert text + "HIDDEN" in kept_secrets(kept.content, kept.view)
