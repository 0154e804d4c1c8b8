# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bootstrap of the config source ``ads``: an Envoy that gets all else from an istiod.

Pure: a table of cases tests it.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

#: Of the cluster of istiods in the bootstrap.
CLUSTER = "istiod"
PORT = 15012
DOMAIN = "svc.cluster.local"
#: The secrets that Envoy looks for, each in a file of that name (roles/envoy/vars): Envoy takes no other with it.
IDENTITY, AUTHORITY = "identity", "ca"

_TYPE = "type.googleapis.com/envoy.extensions."
#: The key of a cluster's options for HTTP.
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*[.]?"
)
#: A part of a node's id, which ``~`` and ``.`` divide.
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_VERSION = re.compile(r"\d+[.]\d+([.]\d+)?([-+].*)?")


def endpoint(text: object) -> tuple[str, int]:
    """Host and port of ``HOST``, ``HOST:PORT``, ``[IPV6]`` or ``[IPV6]:PORT``; a ``ValueError`` for anything else."""
    match = re.fullmatch(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d{1,5}))?", str(text))
    if not isinstance(text, str) or match is None:
        raise ValueError(text)
    host, port = match["six"] or match["host"], int(match["port"] or PORT)
    if not 0 < port < 65536:
        raise ValueError(text)
    if match["six"]:
        ipaddress.IPv6Address(host)
    elif not _is_address(host) and (not _HOST.fullmatch(host) or re.fullmatch(r"[0-9.]+", host)):
        raise ValueError(text)
    return host, port


def _is_address(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def problems(ads: dict[str, t.Any]) -> list[str]:
    """One line for each variable that won't do.

    :param ads: the variables, without ``envoy_ads_``, and ``directory``.
    """
    found: list[str] = []

    def wrong(key: str, what: object, expected: str) -> None:
        found.append(f"envoy_ads_{key}: found {what}, expected {expected}.")

    if not ads["istiods"]:
        wrong("istiods", "nothing", "one istiod or more, as HOST:PORT, since envoy_filters_config_source is ads")
    seen = set()
    for index, text in enumerate(ads["istiods"]):
        try:
            where = endpoint(text)
        except ValueError:
            wrong(f"istiods[{index}]", _shown(text), f"HOST:PORT ({PORT} where left out), with an IPv6 address in []")
            continue
        if where in seen:
            wrong(f"istiods[{index}]", f"{text} twice", "each istiod once")
        seen.add(where)
    for key, pattern, expected in (
        ("namespace", _NAMESPACE, "a namespace of Kubernetes: lower case letters, digits and -"),
        ("name", _NAME, "letters, digits and ._-"),
        ("cluster_id", _NAME, "letters, digits and ._-"),
        ("istio_version", _VERSION, "a version of Istio, such as 1.31.0"),
    ):
        if not isinstance(ads[key], str) or not pattern.fullmatch(ads[key]):
            wrong(key, _shown(ads[key]), expected)
    if not _is_address(ads["address"]):
        wrong(
            "address",
            _shown(ads["address"]),
            "this host's IP address, by which istiod knows the gateway. Its default is ansible_host, which does only "
            "where that is an address",
        )
    if not isinstance(ads["labels"], dict) or not ads["labels"]:
        wrong("labels", _shown(ads["labels"]), "the labels that a Gateway selects, such as istio: ingressgateway")
    else:
        for name, value in ads["labels"].items():
            if not isinstance(value, str):
                wrong(f"labels.{name}", _shown(value), "a string: put it in quotes")
    given = [key for key in ("ca_certificate", "certificate", "private_key") if ads[key]]
    if ads["plaintext"]:
        for key in given:
            wrong(key, _shown(ads[key]), "nothing, since envoy_ads_plaintext is true, which uses no certificate")
    else:
        for key in ("ca_certificate", "certificate", "private_key"):
            if not ads[key]:
                wrong(
                    key,
                    "nothing",
                    "a file on the controller, since istiod is reached by TLS (envoy_ads_plaintext is false)",
                )
        name = ads["server_name"]
        if not isinstance(name, str) or not _HOST.fullmatch(name) or _is_address(name):
            wrong("server_name", _shown(name), "the DNS name that istiod's certificate has")
    return found


def _shown(value: object) -> str:
    if value is None or value == "":
        return "nothing"
    # Ansible has types of its own, under these.
    kinds = ((str, ""), (bool, "a boolean"), ((int, float), "a number"), (list, "a list"), (dict, "a mapping"))
    kind = next((kind for types, kind in kinds if isinstance(value, types)), type(value).__name__)  # type: ignore[arg-type]
    return f"{value} ({kind})" if kind else str(value)


def compose(base: dict[str, t.Any], ads: dict[str, t.Any]) -> dict[str, t.Any]:
    """The bootstrap.

    :param base: all that it has besides, such as the admin interface. What it says of the node's metadata counts.
    :param ads: as for :func:`problems`, and without any.
    """
    node = base.get("node", {})
    metadata = {
        "ISTIO_VERSION": ads["istio_version"],
        "NAMESPACE": ads["namespace"],
        "NAME": ads["name"],
        "CLUSTER_ID": ads["cluster_id"],
        "LABELS": ads["labels"],
        "INSTANCE_IPS": ads["address"],
        **node.get("metadata", {}),
    }
    name, namespace = ads["name"], ads["namespace"]
    # Without a limit, so that a new Envoy takes over from the old one only with what istiod says, and one that istiod
    # has told nothing yet does not pass for one that has nothing to serve.
    from_istiod = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    static = base.get("static_resources", {})
    return {
        **base,
        "node": {
            **node,
            "id": f"router~{ads['address']}~{name}.{namespace}~{namespace}.{DOMAIN}",
            "metadata": metadata,
        },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": CLUSTER}}],
            },
            "cds_config": from_istiod,
            "lds_config": from_istiod,
        },
        "static_resources": {**static, "clusters": [_cluster(ads), *static.get("clusters", [])]},
    }


def _cluster(ads: dict[str, t.Any]) -> dict[str, t.Any]:
    where = [endpoint(text) for text in ads["istiods"]]
    options = {
        "@type": _TYPE + "upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            # An istiod that is gone without a word is noticed, and another one asked. istiod counts more than one ping
            # in 15 seconds as an attack.
            "http2_protocol_options": {"connection_keepalive": {"interval": "20s", "timeout": "10s"}}
        },
    }
    cluster: dict[str, t.Any] = {
        "name": CLUSTER,
        "type": "STATIC" if all(_is_address(host) for host, _port in where) else "STRICT_DNS",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {_OPTIONS: options},
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 5}
        },
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
                        for host, port in where
                    ]
                }
            ],
        },
    }
    if cluster["type"] == "STRICT_DNS":
        cluster["respect_dns_ttl"] = True
    if not ads["plaintext"]:
        cluster["transport_socket"] = _transport_socket(ads)
    return cluster


def _transport_socket(ads: dict[str, t.Any]) -> dict[str, t.Any]:
    def secret(name: str) -> dict[str, t.Any]:
        path = {"path": f"{ads['directory']}/{name}.json"}
        return {"name": name, "sds_config": {"resource_api_version": "V3", "path_config_source": path}}

    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": _TYPE + "transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": ads["server_name"],
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [secret(IDENTITY)],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": ads["server_name"]}}]
                    },
                    "validation_context_sds_secret_config": secret(AUTHORITY),
                },
            },
        },
    }
