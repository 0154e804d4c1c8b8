# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The EnvoyFilter that carries a filter, there and back."""

from __future__ import annotations

import copy
import json

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _engines, _envoy_filter
from ansible_collections.moe.gateway.plugins.module_utils._envoy_filter import Canary, Found, Target
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

VERSION = Version("0123456789abcdef", 7)
TYPED = {"@type": "type.googleapis.com/x.y.Filter", "key": [1, 2.5, {"a": None}]}
TARGET = Target("basic_auth", "istio-system", {"istio": "ingressgateway"}, False)


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("labels", [{}, {"istio": "ingressgateway"}])
@pytest.mark.parametrize("typed", [TYPED, _engines.DENY])
def test_there_and_back(inline, labels, typed):
    target = TARGET._replace(inline=inline, labels=labels)
    made = json.loads(json.dumps(_envoy_filter.manifest(target, typed, "x.y.Filter", VERSION)))
    assert made["metadata"]["name"] == "basic-auth"
    found = _envoy_filter.read(made)
    assert isinstance(found, Found)
    assert found[:3] == (target, VERSION, typed)
    assert found.type_name == ("x.y.Filter" if not inline else _engines.type_name(typed))
    assert _envoy_filter.holds(made, VERSION)
    assert _envoy_filter.is_ours(made)


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(
    ("first", "operations"), [(False, ["REPLACE", "REPLACE"]), (True, ["REMOVE", "REMOVE", "INSERT_BEFORE"])]
)
def test_the_object_of_a_canary(inline, first, operations):
    target = TARGET._replace(inline=inline)
    canary = Canary({"istio": "ingressgateway", "canary": "true"}, ["basic_auth.Filter", "basic_auth.Old"], first)
    made = json.loads(json.dumps(_envoy_filter.manifest(target, TYPED, "x.y.Filter", VERSION, canary)))
    whole = _envoy_filter.manifest(target, TYPED, "x.y.Filter", VERSION)
    assert made["metadata"] == {**whole["metadata"], "name": "basic-auth.canary"}
    patches = [patch["patch"] for patch in made["spec"]["configPatches"] if patch["applyTo"] == "HTTP_FILTER"]
    assert [patch["operation"] for patch in patches] == operations
    # Under one name Envoy would refuse the two.
    assert {patch["value"]["name"] for patch in patches if "value" in patch} == {"basic_auth~canary.Filter"}
    assert _envoy_filter.read(made) == Found(
        target._replace(labels=canary.labels), VERSION, TYPED, "x.y.Filter", canary
    )
    made["spec"]["priority"] = 0
    assert isinstance(_envoy_filter.read(made), str)


def test_nothing_serves_open_where_envoy_has_nothing():
    patches = _envoy_filter.manifest(TARGET, TYPED, "x.y.Filter", VERSION)["spec"]["configPatches"]
    discovery = patches[1]["patch"]["value"]["config_discovery"]
    assert discovery["default_config"] == _engines.DENY
    assert set(discovery["type_urls"]) == {TYPED["@type"], _engines.DENY["@type"]}
    assert patches[0]["patch"]["value"]["name"] == patches[1]["patch"]["value"]["name"] == "basic_auth.Filter"


def test_without_a_version_it_can_be_judged():
    patches = _envoy_filter.manifest(TARGET, TYPED, "x.y.Filter", None)["spec"]["configPatches"]
    assert patches[0]["patch"]["value"]["typed_config"] == TYPED


def changed(path, value):
    made = copy.deepcopy(_envoy_filter.manifest(TARGET, TYPED, "x.y.Filter", VERSION))
    item = made
    for key in path[:-1]:
        item = item[key]
    if value is None:
        del item[path[-1]]
    else:
        item[path[-1]] = value
    return made


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec"], None),
        (["spec", "configPatches"], []),
        (["spec", "configPatches", 1], None),
        (["spec", "configPatches", 0, "match", "context"], "ANY"),
        (["spec", "configPatches", 0, "patch", "value", "typed_config"], TYPED),
        (["spec", "configPatches", 0, "patch", "value", "typed_config", "type_url"], "x.y.Filter"),
        (["spec", "configPatches", 1, "patch", "value", "config_discovery", "default_config"], None),
        (["spec", "priority"], 1),
        (["metadata", "annotations"], None),
    ],
)
def test_what_somebody_else_changed(path, value):
    assert isinstance(_envoy_filter.read(changed(path, value)), str)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": "x" * 64}, "name"),
        ({"name": "a."}, "name"),
        ({"namespace": ""}, "namespace"),
        ({"labels": {"a": True}}, "workload_selector.a"),
        ({"labels": {"a": "x" * 64}}, "workload_selector.a"),
        ({"labels": {"": "x"}}, "workload_selector"),
    ],
)
def test_bad_options(changes, key):
    with pytest.raises(Failure) as caught:
        _envoy_filter.check(TARGET._replace(**changes))
    assert caught.value.details["key"] == key


def test_which_warnings_are_objections():
    always = "EnvoyFilter exposes internal implementation details that may change at any time."
    unknown = 'unknown field "uesrs" in envoy.extensions.filters.http.basic_auth.v3.BasicAuth'
    assert _envoy_filter.objections([always, unknown]) == [unknown]
