# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short form of clusters and listeners: what it becomes, and how each mistake is named."""

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _routing
from ansible_collections.moe.gateway.plugins.module_utils._engines import DYNAMIC_MODULE, RBAC
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

FILTERS = {"basic_auth": DYNAMIC_MODULE, "limits": RBAC}
CLUSTERS = ("httpbin", "other")
TYPE = "type.googleapis.com/"


def cluster(**keys):
    return {"name": "httpbin", "endpoints": ["127.0.0.1:8080"], **keys}


def route(**keys):
    return {"prefix": "/", "cluster": "httpbin", **keys}


def host(**keys):
    return {"domains": ["httpbin.example.com"], "routes": [route()], **keys}


def listener(**keys):
    return {"name": "web", "port": 8443, "filters": ["basic_auth"], "virtual_hosts": [host()], **keys}


def without(item, key):
    return {name: value for name, value in item.items() if name != key}


def routed(**keys):
    """A listener whose only route is exactly this."""
    return listener(virtual_hosts=[host(routes=[keys])])


def to_clusters(*items):
    return _routing.clusters(list(items))


def to_listeners(*items):
    return _routing.listeners(list(items), FILTERS, "/etc/envoy/xds", CLUSTERS)


def manager(resource):
    return resource["filter_chains"][0]["filters"][0]["typed_config"]


def only_route(resource):
    return manager(resource)["route_config"]["virtual_hosts"][0]["routes"][0]


# What is right


def test_cluster_of_addresses():
    (result,) = to_clusters(cluster(endpoints=["127.0.0.1:8080", "[::1]:80"]))
    assert result["name"] == result["load_assignment"]["cluster_name"] == "httpbin"
    assert result["type"] == "STATIC"
    endpoints = result["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert [entry["endpoint"]["address"]["socket_address"] for entry in endpoints] == [
        {"address": "127.0.0.1", "port_value": 8080},
        {"address": "::1", "port_value": 80},
    ]
    assert "transport_socket" not in result
    assert "@type" not in result


def test_cluster_of_names_is_resolved():
    (result,) = to_clusters(cluster(endpoints=["127.0.0.1:8080", "up.example.com:80"]))
    assert result["type"] == "STRICT_DNS"
    (result,) = to_clusters(cluster(endpoints=["up.example.com:80"], type="LOGICAL_DNS"))
    assert result["type"] == "LOGICAL_DNS"


def test_cluster_with_tls_verifies_name_and_authority():
    (result,) = to_clusters(cluster(endpoints=["up.example.com:443"], tls={}, http2=True))
    context = result["transport_socket"]["typed_config"]
    assert context["auto_host_sni"] is True
    assert context["auto_sni_san_validation"] is True
    assert context["common_tls_context"] == {
        "validation_context": {"trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"}},
        "alpn_protocols": ["h2"],
    }
    (result,) = to_clusters(cluster(tls={"sni": "up.example.com", "ca_file": "/etc/ca.pem"}))
    context = result["transport_socket"]["typed_config"]
    assert context["sni"] == "up.example.com"
    assert "auto_host_sni" not in context
    assert context["common_tls_context"] == {"validation_context": {"trusted_ca": {"filename": "/etc/ca.pem"}}}


@pytest.mark.parametrize(
    ("written", "read"),
    [("15s", "15s"), ("500ms", "0.5s"), ("2m", "120s"), ("1.5s", "1.5s"), ("1h", "3600s"), ("1ms", "0.001s")],
)
def test_durations(written, read):
    (result,) = to_clusters(cluster(connect_timeout=written))
    assert result["connect_timeout"] == read


def test_a_route_without_time_limit():
    (result,) = to_listeners(routed(prefix="/", cluster="httpbin", timeout="0s"))
    assert only_route(result)["route"] == {"cluster": "httpbin", "timeout": "0s"}


def test_raw_is_merged_over_the_result_and_lists_are_replaced():
    raw = {
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"policy": {"overprovisioning_factor": 100}, "endpoints": []},
    }
    (result,) = to_clusters(cluster(envoy=raw))
    assert result["lb_policy"] == "LEAST_REQUEST"
    assert result["load_assignment"] == {
        "cluster_name": "httpbin",
        "policy": {"overprovisioning_factor": 100},
        "endpoints": [],
    }


def test_an_item_may_be_all_raw():
    whole = {"name": "a", "envoy": {"@type": TYPE + "envoy.config.cluster.v3.Cluster", "type": "ORIGINAL_DST"}}
    assert to_clusters(whole) == [{"name": "a", "type": "ORIGINAL_DST"}]
    whole = {"name": "a", "envoy": {"name": "a", "address": {"pipe": {"path": "/run/a.sock"}}}}
    assert to_listeners(whole, {**whole, "name": "b", "envoy": {"api_listener": {}}}) == [
        {"name": "a", "address": {"pipe": {"path": "/run/a.sock"}}},
        {"name": "b", "api_listener": {}},
    ]


def test_the_input_is_left_alone():
    item = cluster(envoy={"load_assignment": {"policy": {}}})
    first = to_clusters(item)
    assert item == cluster(envoy={"load_assignment": {"policy": {}}})
    assert to_clusters(item) == first


def test_the_chain_holds_the_named_filters_in_order_and_the_router_last():
    (result,) = to_listeners(listener(filters=["limits", "basic_auth"]))
    chain = manager(result)["http_filters"]
    assert [entry["name"] for entry in chain] == ["limits", "basic_auth", "envoy.filters.http.router"]
    assert chain[1]["config_discovery"] == {
        "config_source": {
            "path_config_source": {"path": "/etc/envoy/xds/filters/basic_auth.json"},
            "initial_fetch_timeout": "0s",
            "resource_api_version": "V3",
        },
        "type_urls": [TYPE + RBAC, TYPE + DYNAMIC_MODULE],
    }
    assert chain[0]["config_discovery"]["type_urls"] == [TYPE + RBAC]


def test_a_listener_may_say_that_nothing_guards_it():
    (result,) = to_listeners(listener(filters=[]))
    assert [entry["name"] for entry in manager(result)["http_filters"]] == ["envoy.filters.http.router"]


def test_a_listener_with_tls():
    (result,) = to_listeners(listener(tls={"certificate_chain": "/etc/c.pem", "private_key": "/etc/k.pem"}))
    context = result["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    assert context == {
        "tls_certificates": [
            {"certificate_chain": {"filename": "/etc/c.pem"}, "private_key": {"filename": "/etc/k.pem"}}
        ],
        "alpn_protocols": ["h2", "http/1.1"],
    }


def test_the_edge_is_the_edge():
    (result,) = to_listeners(listener())
    assert result["address"] == {"socket_address": {"address": "0.0.0.0", "port_value": 8443}}
    for key in ("use_remote_address", "strip_any_host_port", "normalize_path", "merge_slashes"):
        assert manager(result)[key] is True
    assert manager(result)["common_http_protocol_options"]["headers_with_underscores_action"] == "REJECT_REQUEST"
    assert manager(result)["path_with_escaped_slashes_action"] == "UNESCAPE_AND_REDIRECT"


def test_the_connection_manager_has_a_raw_part_too():
    (result,) = to_listeners(
        listener(
            http_connection_manager={"server_name": "edge", "http2_protocol_options": {"max_concurrent_streams": 9}}
        )
    )
    assert manager(result)["server_name"] == "edge"
    assert manager(result)["http2_protocol_options"]["max_concurrent_streams"] == 9
    assert manager(result)["http2_protocol_options"]["initial_stream_window_size"] == 65536


def test_hosts_and_routes_have_a_raw_part_too():
    hosts = [host(envoy={"include_request_attempt_count": True}, routes=[route(envoy={"route": {"timeout": "1s"}})])]
    (result,) = to_listeners(listener(virtual_hosts=hosts))
    assert manager(result)["route_config"]["virtual_hosts"][0]["include_request_attempt_count"] is True
    assert only_route(result)["route"] == {"cluster": "httpbin", "timeout": "1s"}


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"path": "/exact"}, {"path": "/exact"}),
        ({"prefix": "/"}, {"prefix": "/"}),
        ({"regex": r"/user/\d+"}, {"safe_regex": {"regex": r"/user/\d+"}}),
        ({"regex": r"/\p{Greek}+\z"}, {"safe_regex": {"regex": r"/\p{Greek}+\z"}}),
        ({"regex": r"/[(?=*+]\++\\1?"}, {"safe_regex": {"regex": r"/[(?=*+]\++\\1?"}}),
    ],
)
def test_matches(keys, match):
    (result,) = to_listeners(routed(cluster="httpbin", **keys))
    assert only_route(result) == {"match": match, "route": {"cluster": "httpbin"}}


@pytest.mark.parametrize(
    ("keys", "action"),
    [
        ({"cluster": "other", "prefix_rewrite": "/x"}, {"route": {"cluster": "other", "prefix_rewrite": "/x"}}),
        ({"status": 204}, {"direct_response": {"status": 204}}),
        ({"status": "200", "body": "ok"}, {"direct_response": {"status": 200, "body": {"inline_string": "ok"}}}),
        ({"redirect": "https"}, {"redirect": {"https_redirect": True}}),
        ({"redirect": "/login?next=1"}, {"redirect": {"path_redirect": "/login?next=1"}}),
        (
            {"redirect": "https://example.com"},
            {"redirect": {"scheme_redirect": "https", "host_redirect": "example.com"}},
        ),
        (
            {"redirect": "http://[::1]:8080/a?b=c"},
            {
                "redirect": {
                    "scheme_redirect": "http",
                    "host_redirect": "[::1]",
                    "port_redirect": 8080,
                    "path_redirect": "/a?b=c",
                }
            },
        ),
    ],
)
def test_actions(keys, action):
    (result,) = to_listeners(routed(prefix="/", **keys))
    assert only_route(result) == {"match": {"prefix": "/"}, **action}


@pytest.mark.parametrize("domain", ["*", "a.example.com", "*.example.com", "*-a.example.com", "example.*", "[::1]"])
def test_domains(domain):
    (result,) = to_listeners(listener(virtual_hosts=[host(domains=[domain])]))
    (virtual_host,) = manager(result)["route_config"]["virtual_hosts"]
    assert virtual_host["name"] == domain
    assert virtual_host["domains"] == [domain]


def test_two_listeners_may_share_a_port_on_two_addresses():
    both = to_listeners(listener(address="127.0.0.1"), listener(name="b", address="127.0.0.2"))
    assert len(both) == 2


def test_nothing_is_fine():
    assert to_clusters() == []
    assert to_listeners() == []


# What is wrong: (item, key, part of what was found, part of what was expected)

BAD_CLUSTERS = [
    ("a", "clusters[0]", "'a'", "a mapping"),
    (None, "clusters[0]", "nothing", "a mapping"),
    ({}, "clusters[0].name", "nothing", "a name"),
    (cluster(name=7), "clusters[0].name", "7 (int)", "a name"),
    (cluster(name="a b"), "clusters[0].name", "'a b'", "a name"),
    (cluster(name="../x"), "clusters[0].name", "'../x'", "a name"),
    (cluster(hosts=[]), "clusters[0].hosts", "an unknown key", "endpoints"),
    (without(cluster(), "endpoints"), "clusters[0].endpoints", "nothing", "a list"),
    (cluster(endpoints=[]), "clusters[0].endpoints", "a list of 0", "at least 1"),
    (cluster(endpoints="127.0.0.1:80"), "clusters[0].endpoints", "'127.0.0.1:80'", "a list"),
    (cluster(endpoints=["127.0.0.1"]), "clusters[0].endpoints[0]", "'127.0.0.1'", "host:port"),
    (cluster(endpoints=["127.0.0.1:80", 81]), "clusters[0].endpoints[1]", "81 (int)", "host:port"),
    (cluster(endpoints=["127.0.0.1:0"]), "clusters[0].endpoints[0]", ":0'", "1 to 65535"),
    (cluster(endpoints=["127.0.0.1:65536"]), "clusters[0].endpoints[0]", ":65536'", "1 to 65535"),
    (cluster(endpoints=["127.0.0.1:x"]), "clusters[0].endpoints[0]", ":x'", "1 to 65535"),
    (cluster(endpoints=["::1:80"]), "clusters[0].endpoints[0]", "'::1:80'", "[IPv6]:port"),
    (cluster(endpoints=["[::g]:80"]), "clusters[0].endpoints[0]", "'[::g]:80'", "[IPv6]:port"),
    (cluster(endpoints=["[127.0.0.1]:80"]), "clusters[0].endpoints[0]", "'[127.0.0.1]:80'", "[IPv6]:port"),
    (cluster(endpoints=["1.2.3:80"]), "clusters[0].endpoints[0]", "'1.2.3:80'", "IPv4:port"),
    (cluster(endpoints=["http://a:80"]), "clusters[0].endpoints[0]", "'http://a:80'", "host:port"),
    (cluster(endpoints=["a:80", "a:80"]), "clusters[0].endpoints[1]", "'a:80' twice", "once"),
    (cluster(type="EDS"), "clusters[0].type", "'EDS'", "STRICT_DNS"),
    (cluster(type="STATIC", endpoints=["a:1"]), "clusters[0].endpoints[0]", "host name 'a'", "an IP address"),
    (cluster(type="LOGICAL_DNS", endpoints=["a:1", "b:1"]), "clusters[0].endpoints", "a list of 2", "one endpoint"),
    (cluster(connect_timeout=5), "clusters[0].connect_timeout", "5 (int)", '"15s"'),
    (cluster(connect_timeout="5"), "clusters[0].connect_timeout", "'5'", '"15s"'),
    (cluster(connect_timeout="-1s"), "clusters[0].connect_timeout", "'-1s'", '"15s"'),
    (cluster(connect_timeout="0s"), "clusters[0].connect_timeout", "'0s'", '"15s"'),
    (cluster(connect_timeout="999999h"), "clusters[0].connect_timeout", "'999999h'", '"15s"'),
    (cluster(http2="yes"), "clusters[0].http2", "'yes'", "true or false"),
    (cluster(tls=True), "clusters[0].tls", "True", "a mapping"),
    (cluster(tls={}), "clusters[0].tls.sni", "nothing", "host name"),
    (cluster(tls={"sni": "a b"}), "clusters[0].tls.sni", "'a b'", "host name"),
    (cluster(tls={"sni": "a", "ca_file": "ca.pem"}), "clusters[0].tls.ca_file", "'ca.pem'", "an absolute path"),
    (cluster(tls={"sni": "a", "verify": False}), "clusters[0].tls.verify", "an unknown key", "ca_file"),
    (cluster(envoy=[]), "clusters[0].envoy", "a list of 0", "a mapping"),
    (cluster(envoy={"name": "b"}), "clusters[0].envoy.name", "'b'", "'httpbin'"),
    ({"name": "a", "envoy": {"@type": "x/y.Z"}}, "clusters[0].envoy.@type", "'x/y.Z'", "v3.Cluster"),
    ({"name": "a", "envoy": "x"}, "clusters[0].envoy", "'x'", "a mapping"),
]

HOST = "listeners[0].virtual_hosts[0]"
ROUTE = HOST + ".routes[0]"

BAD_LISTENERS = [
    ([], "listeners[0]", "a list of 0", "a mapping"),
    (without(listener(), "name"), "listeners[0].name", "nothing", "a name"),
    (without(listener(), "port"), "listeners[0].port", "nothing", "1 to 65535"),
    (listener(port=0), "listeners[0].port", "0 (int)", "1 to 65535"),
    (listener(port=65536), "listeners[0].port", "65536 (int)", "1 to 65535"),
    (listener(port="http"), "listeners[0].port", "'http'", "1 to 65535"),
    (listener(port=True), "listeners[0].port", "True", "1 to 65535"),
    (listener(port=80.5), "listeners[0].port", "80.5", "1 to 65535"),
    (listener(address="localhost"), "listeners[0].address", "'localhost'", "IPv4 or IPv6"),
    (listener(address="[::]"), "listeners[0].address", "'[::]'", "IPv4 or IPv6"),
    (listener(routes=[]), "listeners[0].routes", "an unknown key", "virtual_hosts"),
    (without(listener(), "filters"), "listeners[0].filters", "nothing", "guard"),
    (listener(filters=None), "listeners[0].filters", "nothing", "guard"),
    (listener(filters="basic_auth"), "listeners[0].filters", "'basic_auth'", "a list"),
    (listener(filters=["basic"]), "listeners[0].filters[0]", "'basic'", "basic_auth, limits"),
    (listener(filters=["limits", 1]), "listeners[0].filters[1]", "1 (int)", "basic_auth, limits"),
    (listener(filters=["limits", "limits"]), "listeners[0].filters[1]", "'limits' twice", "once"),
    (listener(tls="cert.pem"), "listeners[0].tls", "'cert.pem'", "a mapping"),
    (listener(tls={"certificate_chain": "/c"}), "listeners[0].tls.private_key", "nothing", "an absolute path"),
    (listener(tls={"certificate_chain": "c"}), "listeners[0].tls.certificate_chain", "'c'", "an absolute path"),
    (listener(tls={"cert": "/c"}), "listeners[0].tls.cert", "an unknown key", "certificate_chain"),
    (listener(envoy={"name": "x"}), "listeners[0].envoy.name", "'x'", "'web'"),
    (listener(envoy={"filter_chains": []}), "listeners[0].envoy.filter_chains", "replace the filters", "beside"),
    (
        listener(envoy={"default_filter_chain": {}}),
        "listeners[0].envoy.default_filter_chain",
        "replace the filters",
        "beside",
    ),
    (
        listener(http_connection_manager={"http_filters": []}),
        "listeners[0].http_connection_manager.http_filters",
        "replace the filters",
        "beside",
    ),
    (without(listener(), "virtual_hosts"), "listeners[0].virtual_hosts", "nothing", "at least 1"),
    (listener(virtual_hosts=[]), "listeners[0].virtual_hosts", "a list of 0", "at least 1"),
    (listener(virtual_hosts=["*"]), HOST, "'*'", "a mapping"),
    (listener(virtual_hosts=[host(hosts=[])]), HOST + ".hosts", "an unknown key", "domains"),
    (listener(virtual_hosts=[host(domains=[])]), HOST + ".domains", "a list of 0", "at least 1"),
    (listener(virtual_hosts=[host(domains="*")]), HOST + ".domains", "'*'", "a list"),
    (listener(virtual_hosts=[host(domains=["a:80"])]), HOST + ".domains[0]", "'a:80'", "without a port"),
    (listener(virtual_hosts=[host(domains=["a.*.b"])]), HOST + ".domains[0]", "'a.*.b'", "without a port"),
    (listener(virtual_hosts=[host(domains=[""])]), HOST + ".domains[0]", "''", "without a port"),
    (listener(virtual_hosts=[host(domains=["a", "A"])]), HOST + ".domains[1]", "'a' twice", "once"),
    (listener(virtual_hosts=[host(), host()]), "listeners[0].virtual_hosts[1].domains[0]", "twice", "once"),
    (
        listener(virtual_hosts=[host(name="v"), host(name="v", domains=["b"])]),
        "listeners[0].virtual_hosts[1].name",
        "'v' twice",
        "once",
    ),
    (listener(virtual_hosts=[host(routes=[])]), HOST + ".routes", "a list of 0", "at least 1"),
    (routed(cluster="httpbin"), ROUTE, "none of them", "path, prefix, regex"),
    (routed(path="/", prefix="/", cluster="httpbin"), ROUTE, "path and prefix", "exactly one"),
    (routed(prefix="/"), ROUTE, "none of them", "cluster, redirect, status"),
    (routed(prefix="/", cluster="httpbin", status=200), ROUTE, "cluster and status", "exactly one"),
    (routed(prefix="/", host="a"), ROUTE + ".host", "an unknown key", "prefix"),
    (routed(prefix="status", cluster="httpbin"), ROUTE + ".prefix", "'status'", 'begins with "/"'),
    (routed(path="/a?b", cluster="httpbin"), ROUTE + ".path", "'/a?b'", 'without "?"'),
    (routed(prefix=7, cluster="httpbin"), ROUTE + ".prefix", "7 (int)", 'begins with "/"'),
    (routed(regex="/(", cluster="httpbin"), ROUTE + ".regex", "missing )", "a regular expression"),
    (routed(regex="/[", cluster="httpbin"), ROUTE + ".regex", "unterminated", "a regular expression"),
    (routed(regex="/(?=a)", cluster="httpbin"), ROUTE + ".regex", "'(?='", "RE2"),
    (routed(regex="/(?<!a)b", cluster="httpbin"), ROUTE + ".regex", "'(?<!'", "RE2"),
    (routed(regex=r"/(a)\1", cluster="httpbin"), ROUTE + ".regex", "at character 4", "RE2"),
    (routed(regex="/a*+", cluster="httpbin"), ROUTE + ".regex", "'*+'", "RE2"),
    (routed(regex="/a{2,}+", cluster="httpbin"), ROUTE + ".regex", "'{2,}+'", "RE2"),
    (routed(regex="", cluster="httpbin"), ROUTE + ".regex", "''", "a regular expression"),
    (routed(prefix="/", cluster="nope"), ROUTE + ".cluster", "unknown cluster 'nope'", "httpbin, other"),
    (routed(prefix="/", cluster="httpbin", timeout=15), ROUTE + ".timeout", "15 (int)", '"15s"'),
    (routed(prefix="/", cluster="httpbin", timeout="soon"), ROUTE + ".timeout", "'soon'", '"15s"'),
    (routed(prefix="/", status=200, timeout="1s"), ROUTE + ".timeout", "beside status", "only beside cluster"),
    (routed(prefix="/", cluster="httpbin", body="x"), ROUTE + ".body", "beside cluster", "only beside status"),
    (routed(prefix="/", status=99), ROUTE + ".status", "99 (int)", "200 to 599"),
    (routed(prefix="/", status=600), ROUTE + ".status", "600 (int)", "200 to 599"),
    (routed(prefix="/", status=200, body="x" * 4097), ROUTE + ".body", "4097 bytes", "at most 4096"),
    (routed(prefix="/", status=200, body={"a": 1}), ROUTE + ".body", "a mapping", "a string"),
    (routed(prefix="/", cluster="httpbin", prefix_rewrite="x"), ROUTE + ".prefix_rewrite", "'x'", "begins with"),
    (routed(regex="/a", cluster="httpbin", prefix_rewrite="/"), ROUTE + ".prefix_rewrite", "regex", "path or prefix"),
    (routed(prefix="/", redirect="ftp://a/"), ROUTE + ".redirect", "'ftp://a/'", "http or https"),
    (routed(prefix="/", redirect="https://"), ROUTE + ".redirect", "'https://'", "http or https"),
    (routed(prefix="/", redirect="https://a:99999/"), ROUTE + ".redirect", "a:99999", "http or https"),
    (routed(prefix="/", redirect="https://u:p@a/"), ROUTE + ".redirect", "u:p@a", "http or https"),
    (routed(prefix="/", redirect="https://a/ b"), ROUTE + ".redirect", "a/ b", "http or https"),
    (
        listener(virtual_hosts=[host(routes=[route(), route(cluster="other")])]),
        HOST + ".routes[1]",
        "the same match as in routes[0]",
        "reached",
    ),
]


def refused(call, *args):
    with pytest.raises(Failure) as caught:
        call(*args)
    failure = caught.value
    assert failure.code == "invalid_option"
    return failure


def assert_names(failure, key, found, expected):
    assert failure.details["key"] == key
    assert found in failure.details["found"]
    assert expected in failure.details["expected"]
    assert key in failure.message
    assert failure.details["found"] in failure.message


@pytest.mark.parametrize(("item", "key", "found", "expected"), BAD_CLUSTERS)
def test_bad_cluster(item, key, found, expected):
    assert_names(refused(to_clusters, item), key, found, expected)


@pytest.mark.parametrize(("item", "key", "found", "expected"), BAD_LISTENERS)
def test_bad_listener(item, key, found, expected):
    assert_names(refused(to_listeners, item), key, found, expected)


def test_bad_lists():
    assert_names(refused(_routing.clusters, {}), "clusters", "a mapping of 0", "a list")
    assert_names(refused(_routing.listeners, "x", FILTERS, "/d", CLUSTERS), "listeners", "'x'", "a list")


def test_names_are_unique():
    assert_names(refused(to_clusters, cluster(), cluster()), "clusters[1].name", "'httpbin' twice", "once")
    assert_names(refused(to_listeners, listener(), listener(port=1)), "listeners[1].name", "'web' twice", "once")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"address": "::1"}, {"address": "0:0:0:0:0:0:0:1"}),
        ({}, {"port": 1, "envoy": {"address": {"socket_address": {"port_value": 8443}}}}),
    ],
)
def test_an_address_and_port_is_taken_once(one, other):
    failure = refused(to_listeners, listener(**one), listener(name="b", **other))
    assert_names(failure, "listeners[1].port", "of listener 'web'", "no other")


def test_without_filters_and_clusters_the_error_says_so():
    failure = refused(_routing.listeners, [listener()], {}, "/d", CLUSTERS)
    assert_names(failure, "listeners[0].filters[0]", "'basic_auth'", "no filter is defined")
    failure = refused(_routing.listeners, [listener(filters=[])], {}, "/d", ())
    assert_names(failure, ROUTE + ".cluster", "'httpbin'", "no cluster is defined")
