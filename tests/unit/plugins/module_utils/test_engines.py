# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The typed configuration that Envoy gets for each engine, and how a publish makes its bytes new."""

from __future__ import annotations

import json
import random
import re

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _engines
from ansible_collections.moe.gateway.plugins.module_utils._engines import Extension, filter_type, typed_config
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

TYPE = "type.googleapis.com/"
DIGEST = "0123456789abcdef" * 4
LIBRARY = Extension(f"/var/lib/envoy/extensions/basic_auth-{DIGEST}.so", DIGEST)
BASIC_AUTH = TYPE + "envoy.extensions.filters.http.basic_auth.v3.BasicAuth"


def refused(message, call, *arguments):
    with pytest.raises(Failure, match="^" + re.escape(message)) as caught:
        call(*arguments)
    assert caught.value.code == "invalid_option"


# dynamic_module


def test_a_dynamic_module_gets_its_configuration_as_json():
    config = {"realm": "httpbin ä", "users": [{"username": "foo", "password": "bar"}]}
    assert typed_config("dynamic_module", "auth", config, LIBRARY, None, seal=False) == {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"module": {"local": {"filename": LIBRARY.path}}},
        "filter_name": "auth",
        "filter_config": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": '{"realm":"httpbin ä","users":[{"username":"foo","password":"bar"}]}',
        },
    }


def test_a_sealed_one_gets_it_in_a_message_that_envoy_redacts():
    found = typed_config("dynamic_module", "auth", {"a": 1}, LIBRARY, None, seal=True)
    assert found["filter_config"] == {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.GenericSecret",
        "secret": {"inline_string": '{"a":1}'},
    }


def test_one_library_may_have_several_filters():
    assert typed_config("dynamic_module", "auth", {}, LIBRARY, "other", seal=False)["filter_name"] == "other"


def test_a_dynamic_module_may_need_no_configuration():
    found = typed_config("dynamic_module", "auth", {}, LIBRARY, None, seal=False)
    assert found["filter_config"]["value"] == "{}"


@pytest.mark.parametrize("seal", [True, False])
def test_the_json_of_a_dynamic_module_is_what_was_given(seal):
    config = {
        "n": [0, -1, 2**63, 2**64, 1.5, 1e300, None, True],
        "t": '\u2028"\\\n\x00ключ🔑',
        "": {"@type": "x", "a": []},
    }
    payload = typed_config("dynamic_module", "auth", config, LIBRARY, None, seal)["filter_config"]
    assert json.loads(payload["secret"]["inline_string"] if seal else payload["value"]) == config


# golang


def test_golang_as_in_the_tutorials_with_the_digest_in_the_library_id():
    plugin = {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "value": {"username": "foo", "password": "bar"},
    }
    config = {
        "library_id": "basic-auth",
        "library_path": LIBRARY.path,
        "plugin_name": "basic-auth",
        "plugin_config": plugin,
    }
    assert typed_config("golang", "auth", config, LIBRARY, None, seal=False) == {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.golang.v3alpha.Config",
        "library_id": f"basic-auth-{DIGEST}",
        "library_path": LIBRARY.path,
        "plugin_name": "basic-auth",
        "plugin_config": plugin,
    }


def test_golang_by_its_defaults():
    expected = {
        "@type": TYPE + _engines.GOLANG,
        "library_id": f"auth-{DIGEST}",
        "library_path": LIBRARY.path,
        "plugin_name": "auth",
    }
    assert typed_config("golang", "auth", {}, LIBRARY, None, seal=False) == expected
    assert typed_config("golang", "auth", {"@type": TYPE + _engines.GOLANG}, LIBRARY, None, seal=False) == expected


def test_golang_keeps_what_else_its_message_has():
    found = typed_config("golang", "auth", {"merge_policy": "OVERRIDE", "stat_prefix": "x"}, LIBRARY, None, seal=False)
    assert (found["merge_policy"], found["stat_prefix"]) == ("OVERRIDE", "x")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"@type": BASIC_AUTH},
            f"config.@type: found '{BASIC_AUTH}' (str), expected nothing, or {TYPE}{_engines.GOLANG}",
        ),
        ({"@type": 1}, "config.@type: found 1 (int), expected nothing, or"),
        (
            {"library_path": "/other.so"},
            "config.library_path: found '/other.so' (str), expected nothing, or the value of",
        ),
        ({"library_path": 1}, "config.library_path: found 1 (int), expected a string."),
        ({"library_id": ""}, "config.library_id: found '' (str), expected a string."),
        ({"library_id": ["x"]}, "config.library_id: found a list of 1, expected a string."),
        ({"plugin_name": 7}, "config.plugin_name: found 7 (int), expected a string."),
        ({"plugin_config": "x"}, "config.plugin_config: found 'x' (str), expected a mapping."),
        ({"plugin_config": {"value": {}}}, "config.plugin_config.@type: found nothing, expected a type URL, such as"),
        ({"plugin_config": {"@type": 1}}, "config.plugin_config.@type: found 1 (int), expected a type URL, such as"),
    ],
)
def test_golang_refuses(config, message):
    refused(message, typed_config, "golang", "auth", config, LIBRARY, None, False)


@pytest.mark.parametrize("engine", ["dynamic_module", "golang"])
def test_what_is_compiled_needs_its_library(engine):
    message = f"extension: found nothing, expected the path of the compiled library, since engine is {engine}."
    refused(message, typed_config, engine, "auth", {}, None, None, False)


# native


def test_a_native_filter_is_given_as_envoy_takes_it():
    config = {"@type": BASIC_AUTH, "users": {"inline_string": "x"}, "more": {"@type": "x"}}
    assert typed_config("native", "auth", config, None, None, seal=False) == config


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({}, "nothing"),
        ({"@type": None}, "nothing"),
        ({"@type": ""}, "'' (str)"),
        ({"@type": 1}, "1 (int)"),
        ({"@type": ["x"]}, "a list of 1"),
        ({"@type": "envoy.extensions.filters.http.rbac.v3.RBAC"}, "'envoy.extensions.filters.http.rbac.v3.RBAC' (str)"),
        ({"@type": TYPE}, f"'{TYPE}' (str)"),
        ({"@type": TYPE + "RBAC"}, f"'{TYPE}RBAC' (str)"),
        ({"@type": TYPE + "a..B"}, f"'{TYPE}a..B' (str)"),
        ({"@type": TYPE + "x/a.B"}, f"'{TYPE}x/a.B' (str)"),
        ({"@type": TYPE + "a.B\n"}, rf"'{TYPE}a.B\n' (str)"),
        ({"@type": "type.example.com/a.B"}, "'type.example.com/a.B' (str)"),
        ({"@type": TYPE + "xds.type.v3.TypedStruct"}, f"'{TYPE}xds.type.v3.TypedStruct' (str)"),
    ],
)
def test_a_native_filter_without_a_proper_type(config, found):
    refused(
        f"config.@type: found {found}, expected the type", typed_config, "native", "auth", config, None, None, False
    )


def test_a_number_that_envoy_would_round_is_refused():
    """A publish hands over a Struct, whose numbers are doubles; the throwaway Envoy was asked with the integer."""
    config = {"@type": BASIC_AUTH, "deeper": [{"limit": 2**53 + 1}]}
    refused("config.deeper[0].limit: found 9007199254740993", typed_config, "native", "auth", config, None, None, False)
    for exact in (2**53, -(2**53), str(2**53 + 1)):
        config = {"@type": BASIC_AUTH, "deeper": [{"limit": exact}]}
        assert typed_config("native", "auth", config, None, None, False) == config


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("engine", ["native", "dynamic_module"])
def test_a_number_that_json_does_not_have_is_refused(engine, number):
    config = {"@type": BASIC_AUTH, "deeper": [{"limit": number}]}
    library = LIBRARY if engine == "dynamic_module" else None
    refused("config.deeper[0].limit: found ", typed_config, engine, "auth", config, library, None, False)


# The library's path


@pytest.mark.parametrize(
    "path",
    [
        f"/x-{DIGEST}.so",
        f"/var/lib/envoy/extensions/basic_auth-{DIGEST}.so",
        f"/with space/ä-{DIGEST}.so",
        f"/{'f' * 64}/x-{DIGEST}.so",
    ],
)
def test_a_path_that_holds_its_digest(path):
    assert Extension.at(path) == Extension(path, DIGEST)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x.so",
        f"x-{DIGEST}.so",
        f"./x-{DIGEST}.so",
        "/x.so",
        f"/x-{DIGEST[:-1]}.so",
        f"/x-{DIGEST}0.so",
        f"/x-{DIGEST.upper()}.so",
        f"/x-{DIGEST}",
        f"/x-{DIGEST}.so.1",
        f"/{DIGEST}/x.so",
        f"/x-{DIGEST}.so\n",
    ],
)
def test_a_path_that_does_not(path):
    refused(f"extension: found {path!r}"[:60], Extension.at, path)


def test_the_option_that_holds_the_path_is_named():
    refused(
        "config.library_path: found '/x.so' (str), expected an absolute path",
        Extension.at,
        "/x.so",
        "config.library_path",
    )


# The type that a listener allows


@pytest.mark.parametrize(
    ("engine", "declared", "found"),
    [
        ("dynamic_module", None, "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter"),
        ("golang", None, "envoy.extensions.filters.http.golang.v3alpha.Config"),
        ("native", "a.b.C", "a.b.C"),
        ("native", TYPE + "a.b.C", "a.b.C"),
    ],
)
def test_the_type_of_a_filter(engine, declared, found):
    assert filter_type(engine, declared, "filters[0]") == found


@pytest.mark.parametrize(
    ("engine", "declared", "message"),
    [
        ("lua", None, "filters[0].engine: found 'lua' (str), expected one of dynamic_module, golang, native."),
        ("native", None, "filters[0].type: found nothing, expected the type of a stock filter"),
        ("native", "", "filters[0].type: found '' (str), expected the type of a stock filter"),
        ("native", "BasicAuth", "filters[0].type: found 'BasicAuth' (str), expected the type of a stock filter"),
        ("native", ["a.b.C"], "filters[0].type: found a list of 1, expected the type of a stock filter"),
        ("native", "a.b.C;", "filters[0].type: found 'a.b.C;' (str), expected the type of a stock filter"),
        # It would be ignored, and whoever wrote it believes that it is not.
        ("dynamic_module", "a.b.C", "filters[0].type: found 'a.b.C' (str), expected nothing, since engine is"),
        ("golang", "a.b.C", "filters[0].type: found 'a.b.C' (str), expected nothing, since engine is golang"),
    ],
)
def test_the_type_of_a_filter_is_refused(engine, declared, message):
    refused(message, filter_type, engine, declared, "filters[0]")


# New bytes for the same content


def test_wrapping():
    assert _engines.wrap({"@type": BASIC_AUTH, "users": {"@type": "x"}}, "moe.gateway/v-1") == {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": "moe.gateway/v-1/envoy.extensions.filters.http.basic_auth.v3.BasicAuth",
        "value": {"users": {"@type": "x"}},
    }


def test_every_nonce_gives_other_bytes():
    wrapped = [json.dumps(_engines.wrap(_engines.DENY, nonce)) for nonce in ("moe.gateway/a-1", "moe.gateway/a-2")]
    assert wrapped[0] != wrapped[1]


def structure(source, depth=4):
    leaves = [None, True, False, 0, 1, -1, 1.5, 2**70, "", "x", "ä🔑", "${secret.a}", "\u2028", "a/b"]
    kind = source.randrange(4 if depth else 2)
    if kind == 3:
        keys = ["@type", "value", "type_url", "name", "", "a/b", "ключ"]
        return {source.choice(keys): structure(source, depth - 1) for _item in range(source.randrange(4))}
    if kind == 2:
        return [structure(source, depth - 1) for _item in range(source.randrange(4))]
    return source.choice(leaves)


def test_unwrapping_gives_back_what_was_wrapped():
    source = random.Random(11)
    types = [BASIC_AUTH, TYPE + _engines.GOLANG, TYPE + _engines.RBAC, TYPE + "a.B"]
    for _round in range(1000):
        typed = {"value": structure(source), "k": structure(source), "type_url": structure(source)}
        typed["@type"] = source.choice(types)
        before = json.dumps(typed)
        wrapped = _engines.wrap(typed, "moe.gateway/0123456789abcdef-7")
        assert _engines.unwrap(json.loads(json.dumps(wrapped))) == typed
        assert json.dumps(typed) == before


def test_unwrapping_what_has_no_field_but_its_type():
    assert _engines.unwrap(_engines.wrap({"@type": BASIC_AUTH}, "x/1")) == {"@type": BASIC_AUTH}


@pytest.mark.parametrize(
    "wrapped",
    [
        {},
        {"@type": BASIC_AUTH},
        {"@type": TYPE + "udpa.type.v1.TypedStruct", "type_url": "x/a.B", "value": {}},
        {"@type": TYPE + "xds.type.v3.TypedStruct", "value": {}},
        {"@type": TYPE + "xds.type.v3.TypedStruct", "type_url": 7, "value": {}},
    ],
)
def test_what_is_not_wrapped_is_not_ours(wrapped):
    with pytest.raises(Failure) as caught:
        _engines.unwrap(wrapped)
    assert caught.value.code == "not_ours"


def test_the_deny_allows_nobody():
    assert _engines.DENY == {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {}},
    }
