# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an EnvoyFilter of tutorials says of its filter, and what of it is refused."""

from __future__ import annotations

import copy
import pathlib

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.filter.from_envoy_filter import FilterModule

CONFIG = {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.golang.v3alpha.Config",
    "library_id": "basic-auth",
    "plugin_name": "basic-auth",
    "plugin_config": {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "value": {"username": "foo", "password": "bar"},
    },
}
TUTORIAL = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "EnvoyFilter",
    "metadata": {"name": "basic-auth", "namespace": "istio-system"},
    "spec": {
        "workloadSelector": {"labels": {"istio": "ingressgateway"}},
        "configPatches": [
            {
                "applyTo": "HTTP_FILTER",
                "match": {
                    "context": "GATEWAY",
                    "listener": {
                        "filterChain": {
                            "filter": {
                                "name": "envoy.filters.network.http_connection_manager",
                                "subFilter": {"name": "envoy.filters.http.router"},
                            }
                        }
                    },
                },
                "patch": {
                    "operation": "INSERT_BEFORE",
                    "value": {
                        "name": "envoy.filters.http.golang",
                        "typed_config": {**CONFIG, "library_path": "/etc/envoy/basic-auth.so"},
                    },
                },
            }
        ],
    },
}


BLOG = pathlib.Path(__file__).parents[3] / "inputs" / "blog.yaml"


def read(value, **options):
    return FilterModule().filters()["from_envoy_filter"](value, "basic_auth", **options)


@pytest.mark.parametrize("options", [{}, {"workload_selector": {"istio": "ingressgateway", "app": "x"}}])
def test_it_becomes_a_filter(options):
    assert read(TUTORIAL, **options) == {
        "name": "basic-auth",
        "engine": "golang",
        "extension": "basic_auth",
        "config": CONFIG,
    }


def test_the_one_of_the_blog():
    """It selects no gateways, names a type that is none, and has its password in it."""
    found = read(yaml.safe_load(BLOG.read_text(encoding="utf-8")))
    assert (found["name"], found["engine"], found["extension"]) == ("golang-filter", "golang", "basic_auth")
    assert found["config"]["plugin_name"] == "basic-auth"
    assert found["config"]["plugin_config"] == {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": "typexx",
        "value": {"username": "foo", "password": "bar"},
    }


def test_a_name_of_its_own_and_no_match():
    value = copy.deepcopy(TUTORIAL)
    del value["spec"]["workloadSelector"], value["spec"]["configPatches"][0]["match"]
    found = read(value, workload_selector={}, name="auth")
    assert (found["name"], found["config"]) == ("auth", CONFIG)


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        (["kind"], "Gateway", "kind: found 'Gateway'"),
        (["spec", "priority"], 5, "spec.priority: found an unknown key"),
        (["spec", "configPatches"], [], "spec.configPatches: found a list of 0"),
        (["spec", "configPatches"], TUTORIAL["spec"]["configPatches"] * 2, "spec.configPatches: found 2 patches"),
        (["spec", "configPatches", 0, "applyTo"], "LISTENER", "spec.configPatches[0].applyTo: found 'LISTENER'"),
        (["spec", "configPatches", 0, "match", "context"], "SIDECAR_INBOUND", "match.context: found 'SIDECAR_INBOUND'"),
        (["spec", "configPatches", 0, "match", "listener", "portNumber"], 80, "listener.portNumber: found an unknown"),
        (
            ["spec", "configPatches", 0, "match", "listener", "filterChain", "filter", "subFilter", "name"],
            "envoy.filters.http.cors",
            "subFilter.name: found 'envoy.filters.http.cors'",
        ),
        (["spec", "configPatches", 0, "patch", "operation"], "REMOVE", "patch.operation: found 'REMOVE'"),
        (["spec", "configPatches", 0, "patch", "value", "typed_config", "@type"], "x/y.Z", "@type: found 'x/y.Z'"),
        (["spec", "workloadSelector", "labels", "istio"], "other", "workloadSelector.labels.istio: found 'other'"),
    ],
)
def test_what_would_be_lost_is_refused(path, value, error):
    changed = copy.deepcopy(TUTORIAL)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(AnsibleFilterError) as raised:
        read(changed)
    assert str(raised.value).startswith("EnvoyFilter.")
    assert error in str(raised.value)
