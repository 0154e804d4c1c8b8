# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bootstrap of a gateway of istiod, and what is said of variables that won't do."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _ads
from ansible_collections.moe.gateway.plugins.module_utils._control_plane import Way, ways

ADS: dict[str, t.Any] = {
    "istiods": ["istiod1.example.com", "192.0.2.7:15013"],
    "ca_certificate": "ca.pem",
    "certificate": "gateway.pem",
    "private_key": "gateway.key",
    "server_name": "istiod.istio-system.svc",
    "plaintext": False,
    "namespace": "istio-system",
    "name": "gateway1",
    "labels": {"istio": "ingressgateway"},
    "cluster_id": "Kubernetes",
    "address": "192.0.2.1",
    "istio_version": "1.31.0",
    "directory": "/etc/envoy/ads",
}
PLAIN = {**ADS, "plaintext": True, "ca_certificate": "", "certificate": "", "private_key": ""}
BASE = {"node": {"id": "x", "cluster": "gateways"}, "admin": {"address": {"pipe": {"path": "/run/envoy/admin.sock"}}}}


def cluster(**changes: t.Any) -> dict[str, t.Any]:
    return _ads.compose(BASE, {**ADS, **changes})["static_resources"]["clusters"][0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("istiod", ("istiod", 15012)),
        ("istiod.example.com:1", ("istiod.example.com", 1)),
        ("192.0.2.7", ("192.0.2.7", 15012)),
        ("192.0.2.7:15010", ("192.0.2.7", 15010)),
        ("[2001:db8::7]", ("2001:db8::7", 15012)),
        ("[2001:db8::7]:15010", ("2001:db8::7", 15010)),
        ("", None),
        ("2001:db8::7", None),
        ("[istiod]:15010", None),
        ("[12:34]", None),
        ("istiod:", None),
        ("istiod:0", None),
        ("istiod:65536", None),
        ("istiod:http", None),
        ("https://istiod:15012", None),
        ("192.0.2.256", None),
        ("-istiod", None),
        ("is tiod", None),
        ("a" * 64 + "." + "b" * 250, None),
        (15012, None),
        (None, None),
    ],
)
def test_endpoint(text: object, expected: tuple[str, int] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError):  # noqa: PT011
            _ads.endpoint(text)
    else:
        assert _ads.endpoint(text) == expected


@pytest.mark.parametrize("ads", [ADS, PLAIN, {**PLAIN, "labels": {"a": ""}}])
def test_nothing_is_wrong(ads: dict[str, t.Any]) -> None:
    assert _ads.problems(ads) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"istiods": []}, ["envoy_ads_istiods: found nothing, expected one istiod or more"]),
        (
            {"istiods": ["a", 7]},
            ["envoy_ads_istiods[1]: found 7 (a number), expected HOST:PORT (15012 where left out)"],
        ),
        ({"istiods": ["a", "a:15012"]}, ["envoy_ads_istiods[1]: found a:15012 twice, expected each istiod once"]),
        ({"namespace": "a~b"}, ["envoy_ads_namespace: found a~b, expected a namespace of Kubernetes"]),
        ({"name": ""}, ["envoy_ads_name: found nothing, expected letters"]),
        ({"name": "a~b"}, ["envoy_ads_name: found a~b, expected letters"]),
        ({"istio_version": 1.31}, ["envoy_ads_istio_version: found 1.31 (a number), expected a version of Istio"]),
        ({"address": "gateway1"}, ["envoy_ads_address: found gateway1, expected this host's IP address"]),
        ({"address": ""}, ["envoy_ads_address: found nothing, expected this host's IP address"]),
        ({"labels": {}}, ["envoy_ads_labels: found {} (a mapping), expected the labels that a Gateway selects"]),
        ({"labels": {"a": True}}, ["envoy_ads_labels.a: found True (a boolean), expected a string: put it in quotes."]),
        ({"labels": {"a": 1, "b": "c"}}, ["envoy_ads_labels.a: found 1 (a number), expected a string"]),
        ({"labels": {"a": None}}, ["envoy_ads_labels.a: found nothing, expected a string"]),
        ({"certificate": ""}, ["envoy_ads_certificate: found nothing, expected a file on the controller"]),
        ({"server_name": "192.0.2.7"}, ["envoy_ads_server_name: found 192.0.2.7, expected the DNS name"]),
        ({"server_name": ""}, ["envoy_ads_server_name: found nothing, expected the DNS name"]),
        (
            {"plaintext": True, "private_key": ""},
            [
                "envoy_ads_ca_certificate: found ca.pem, expected nothing, since envoy_ads_plaintext is true",
                "envoy_ads_certificate: found gateway.pem, expected nothing",
            ],
        ),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, t.Any], expected: list[str]) -> None:
    found = _ads.problems({**ADS, **changes})
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected):
        assert line.startswith(beginning)


def test_the_node_is_a_gateway_of_istio() -> None:
    node = _ads.compose({**BASE, "node": {**BASE["node"], "metadata": {"ISTIO_VERSION": "1", "X": "y"}}}, ADS)["node"]
    assert node == {
        "id": "router~192.0.2.1~gateway1.istio-system~istio-system.svc.cluster.local",
        "cluster": "gateways",
        "metadata": {
            "ISTIO_VERSION": "1",
            "NAMESPACE": "istio-system",
            "NAME": "gateway1",
            "CLUSTER_ID": "Kubernetes",
            "LABELS": {"istio": "ingressgateway"},
            "INSTANCE_IPS": "192.0.2.1",
            "X": "y",
        },
    }


def test_all_else_comes_from_istiod_and_what_was_there_stays() -> None:
    other = {"name": "other"}
    found = _ads.compose({**BASE, "static_resources": {"clusters": [other], "secrets": []}}, ADS)
    assert found["admin"] == BASE["admin"]
    assert found["static_resources"]["secrets"] == []
    assert found["static_resources"]["clusters"][1:] == [other]
    sources = found["dynamic_resources"]
    assert sources["ads_config"]["grpc_services"] == [{"envoy_grpc": {"cluster_name": "istiod"}}]
    for name in ("cds_config", "lds_config"):
        # With a limit, an Envoy without istiod would take over and serve nothing.
        assert sources[name] == {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    assert {"node": {"id": "x", "cluster": "gateways"}, "admin": BASE["admin"]} == BASE, "it was changed"


@pytest.mark.parametrize(
    ("istiods", "kind"), [(["192.0.2.7", "[::1]"], "STATIC"), (["192.0.2.7", "istiod"], "STRICT_DNS")]
)
def test_names_are_resolved_where_there_are_some(istiods: list[str], kind: str) -> None:
    found = cluster(istiods=istiods)
    assert found["type"] == kind
    (group,) = found["load_assignment"]["endpoints"]
    assert len(group["lb_endpoints"]) == 2


def test_tls_unless_plaintext_was_asked_for() -> None:
    tls = cluster()["transport_socket"]["typed_config"]
    common = tls["common_tls_context"]
    assert tls["sni"] == ADS["server_name"]
    assert common["tls_params"] == {"tls_minimum_protocol_version": "TLSv1_2"}
    combined = common["combined_validation_context"]
    names = combined["default_validation_context"]["match_typed_subject_alt_names"]
    assert names == [{"san_type": "DNS", "matcher": {"exact": ADS["server_name"]}}]
    text = json.dumps(tls)
    assert '"/etc/envoy/ads/identity.json"' in text
    assert '"/etc/envoy/ads/ca.json"' in text
    assert "transport_socket" not in cluster(**PLAIN)


def test_the_ways_to_istiod_are_read_back() -> None:
    assert ways(_ads.compose(BASE, ADS)) == [
        Way("istiod1.example.com", 15012, "istiod.istio-system.svc", "/etc/envoy/ads"),
        Way("192.0.2.7", 15013, "istiod.istio-system.svc", "/etc/envoy/ads"),
    ]
    assert ways(_ads.compose(BASE, PLAIN))[1] == Way("192.0.2.7", 15013)
