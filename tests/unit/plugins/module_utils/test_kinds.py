# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three kinds of live file: where they stand, what Envoy reads there, and what a throwaway Envoy is asked."""

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _routing
from ansible_collections.moe.gateway.plugins.module_utils._engines import DENY, DYNAMIC_MODULE, RBAC
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._kinds import CLUSTERS, LISTENERS, filter_kind, pointers
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

TYPE = "type.googleapis.com/"
VERSION = Version("0123456789abcdef", 7)
FILTER = filter_kind("basic_auth")
KINDS = [FILTER, CLUSTERS, LISTENERS]
CLUSTER = {"name": "httpbin", "type": "STATIC"}


def listeners():
    """As the short form makes them."""
    item = {
        "name": "ingress",
        "port": 10000,
        "filters": ["basic_auth", "limits"],
        "virtual_hosts": [{"domains": ["*"], "routes": [{"prefix": "/", "status": 200}]}],
    }
    return _routing.listeners([item], {"basic_auth": DYNAMIC_MODULE, "limits": RBAC}, "/etc/envoy/xds", [])


CONTENTS = {FILTER.name: DENY, CLUSTERS.name: [CLUSTER], LISTENERS.name: listeners()}


@pytest.mark.parametrize(
    ("kind", "name", "file", "folder", "stats"),
    [
        (
            FILTER,
            "filter basic_auth",
            "filters/basic_auth.json",
            "filters/basic_auth",
            "extension_config_discovery.http_filter.basic_auth.",
        ),
        (CLUSTERS, "clusters", "clusters.json", "clusters", "cluster_manager.cds."),
        (LISTENERS, "listeners", "listeners.json", "listeners", "listener_manager.lds."),
    ],
)
def test_where_they_stand(kind, name, file, folder, stats):
    assert (kind.name, kind.file, kind.folder, kind.stats) == (name, file, folder, stats)


def test_what_envoy_reads_for_a_filter():
    assert FILTER.document(DENY, VERSION) == {
        "version_info": "0123456789abcdef-7",
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
                "name": "basic_auth",
                "typed_config": {
                    "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
                    "type_url": "moe.gateway/0123456789abcdef-7/envoy.extensions.filters.http.rbac.v3.RBAC",
                    "value": {"rules": {"action": "ALLOW", "policies": {}}},
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("kind", "message"),
    [(CLUSTERS, "envoy.config.cluster.v3.Cluster"), (LISTENERS, "envoy.config.listener.v3.Listener")],
)
def test_what_envoy_reads_for_clusters_and_listeners(kind, message):
    assert kind.document([{"name": "a"}, {"name": "b", "x": [1]}], VERSION) == {
        "version_info": "0123456789abcdef-7",
        "resources": [{"@type": TYPE + message, "name": "a"}, {"@type": TYPE + message, "name": "b", "x": [1]}],
    }
    assert kind.document([], VERSION) == {"version_info": "0123456789abcdef-7", "resources": []}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_document_is_read_back(kind):
    for content in (CONTENTS[kind.name], kind.fallback):
        assert kind.parse(json.loads(json.dumps(kind.document(content, VERSION)))) == (VERSION, content)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "x",
        {},
        {"version_info": "1", "resources": []},
        {"version_info": str(VERSION)},
        {"version_info": str(VERSION), "resources": None},
        {"version_info": str(VERSION), "resources": 7},
        {"version_info": str(VERSION), "resources": [None]},
        {"version_info": str(VERSION), "resources": ["x"]},
        {"version_info": str(VERSION), "resources": [[]]},
    ],
)
def test_what_is_not_ours(kind, document):
    with pytest.raises(Failure) as caught:
        kind.parse(document)
    assert caught.value.code == "not_ours"


@pytest.mark.parametrize("name", ["a", "7", "basic_auth", "a.b-c_d", "a" * 63])
def test_names_of_filters(name):
    assert filter_kind(name).filter == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "-a", "_a", ".a", "A", "ä", "a b", "a\n", "a\0", "a" * 64, "a:b", "a*"]
)
def test_names_that_no_filter_may_have(name):
    with pytest.raises(Failure, match="^" + re.escape(f"name: found {name!r} (str), expected lower-case letters")):
        filter_kind(name)


def test_a_throwaway_envoy_gets_the_filter_inlined_before_the_router():
    scratch = FILTER.scratch(DENY, [CLUSTER])
    (listener,) = scratch["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert [item["name"] for item in manager["http_filters"]] == ["basic_auth", "router"]
    assert manager["http_filters"][0]["typed_config"] == DENY
    assert scratch["clusters"] == [CLUSTER]
    # It takes no port, so nothing can be in its way.
    assert set(listener["address"]) == {"pipe"}


def test_a_throwaway_envoy_waits_for_no_file():
    before = listeners()
    scratch = LISTENERS.scratch(before, [CLUSTER])
    assert scratch["clusters"] == [CLUSTER]
    assert {path for _name, path, _types in pointers(scratch["listeners"])} == {"/"}
    # The types that a filter may have are judged all the same.
    assert [types for *_rest, types in pointers(scratch["listeners"])] == [types for *_rest, types in pointers(before)]
    assert before == listeners()


def test_clusters_are_asked_for_alone():
    assert CLUSTERS.scratch([CLUSTER], [{"name": "other"}]) == {"clusters": [CLUSTER]}


def test_the_filters_that_take_their_configuration_from_a_file():
    file = "/etc/envoy/xds/filters/{}.json"
    expected = [
        ("basic_auth", file.format("basic_auth"), [RBAC, DYNAMIC_MODULE]),
        ("limits", file.format("limits"), [RBAC]),
    ]
    assert list(pointers(listeners())) == expected
    assert list(pointers(listeners(), "limits")) == expected[1:]
    assert list(pointers(listeners(), "basic")) == []
    assert list(pointers([])) == []


@pytest.mark.parametrize(
    "discovery",
    [
        {},
        {"config_source": {"ads": {}}},
        {"config_source": {"path_config_source": {}}},
    ],
)
def test_a_filter_that_takes_it_from_elsewhere_has_no_path(discovery):
    assert [path for _name, path, _types in pointers({"name": "x", "config_discovery": discovery})] == [""]
