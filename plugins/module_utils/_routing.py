# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the short form of clusters and listeners into Envoy's v3 resources. Pure: no file, no socket, no clock.

A resource is a plain mapping without "@type", as it would stand in a bootstrap's ``static_resources``.

Whatever the short form can't say is given raw, under ``envoy`` (or ``http_connection_manager``), and merged over
the result. What would silently drop a filter from a chain is refused.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
import urllib.parse

from ansible_collections.moe.gateway.plugins.module_utils._engines import RBAC, TYPE_PREFIX
from ansible_collections.moe.gateway.plugins.module_utils._failure import invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import Mapping, describe

Resource = dict[str, t.Any]

_CLUSTER = "envoy.config.cluster.v3.Cluster"
_LISTENER = "envoy.config.listener.v3.Listener"
_VIRTUAL_HOST = "envoy.config.route.v3.VirtualHost"
_ROUTE = "envoy.config.route.v3.Route"
_HTTP_CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_HTTP_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_DOWNSTREAM_TLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_UPSTREAM_TLS = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_NAME_EXPECTED = "a name of letters, digits, '.', '_' and '-'"
_HOST = r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?"
_DOMAIN = r"\*|\*?[A-Za-z0-9._-]+|[A-Za-z0-9._-]+\*|\[[0-9A-Fa-f:.]+\]"
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_URL_PATH = r"/[^?#\s]*"

# What a stranger may make the gateway hold in memory per connection; Envoy's own default of 1 MiB is for a mesh.
_BUFFER_LIMIT = 32 * 1024
# HTTP/2 lets the peer choose how much is in flight unless it is told; Envoy's defaults allow 256 MiB a connection.
_HTTP2_WINDOWS = {"initial_stream_window_size": 64 * 1024, "initial_connection_window_size": 1024 * 1024}
# Envoy answers at most this much itself without being told otherwise.
_MAX_BODY = 4096
# Where Debian, Ubuntu and their kin keep the certificate authorities that the machine trusts.
_SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"


def merge(base: t.Any, over: t.Any) -> t.Any:
    """``over`` laid on ``base``: mappings merge key by key, everything else is replaced."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{key: merge(base[key], value) if key in base else value for key, value in over.items()}}


def clusters(items: object) -> list[Resource]:
    """The CDS resources for the option ``clusters``."""
    result: list[Resource] = []
    for item in _mappings(items, "clusters"):
        resource = _cluster(item)
        _once(item.at("name"), resource["name"], [other["name"] for other in result], "cluster")
        result.append(resource)
    return result


def listeners(
    items: object, filters: t.Mapping[str, str], directory: str, known_clusters: t.Collection[str]
) -> list[Resource]:
    """The LDS resources for the option ``listeners``.

    :param filters: the filters that a listener may name, each with the full name of its configuration's message.
    :param directory: where the gateway reads configuration; a filter's is in ``filters/NAME.json`` below it.
    :param known_clusters: the clusters that a route may name.
    """
    result: list[Resource] = []
    sockets: dict[tuple[str, int], str] = {}
    for item in _mappings(items, "listeners"):
        resource = _listener(item, filters, directory, known_clusters)
        _once(item.at("name"), resource["name"], [other["name"] for other in result], "listener")
        socket = _socket(resource)
        if socket in sockets:
            # The kernel would share the port between the two, and each would see some of the requests.
            raise invalid(
                item.at("port"), f"the address and port of listener {sockets[socket]!r}", "one that no other uses"
            )
        if socket is not None:
            sockets[socket] = resource["name"]
        result.append(resource)
    return result


# Clusters


def _cluster(item: Mapping) -> Resource:
    raw = _raw(item, _CLUSTER)
    if raw is not None:
        return raw
    item.only("name", "endpoints", "type", "connect_timeout", "http2", "tls", "envoy")
    name = item.text("name", pattern=_NAME, expected=_NAME_EXPECTED)
    endpoints: list[tuple[str, int]] = []
    for path, value in item.items("endpoints", at_least=1):
        endpoint = _endpoint(path, value)
        if endpoint in endpoints:
            raise invalid(path, f"{value!r} twice", "each endpoint once")
        endpoints.append(endpoint)
    hosts = [host for host, unused in endpoints]
    result: Resource = {
        "name": name,
        "type": _discovery(item, hosts),
        "per_connection_buffer_limit_bytes": _BUFFER_LIMIT,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(host, port)}} for host, port in endpoints]}
            ],
        },
    }
    _duration(item, "connect_timeout", result, zero=False)
    http2 = item.boolean("http2", False)
    if http2:
        options = {"explicit_http_config": {"http2_protocol_options": dict(_HTTP2_WINDOWS)}}
        result["typed_extension_protocol_options"] = {_HTTP_PROTOCOL_OPTIONS: _typed(_HTTP_PROTOCOL_OPTIONS, options)}
    tls = item.mapping("tls", None)
    if tls is not None:
        result["transport_socket"] = _upstream_tls(tls, hosts, http2)
    return _with_raw(item, result, _CLUSTER)


def _discovery(item: Mapping, hosts: list[str]) -> str:
    names = [index for index, host in enumerate(hosts) if not _is_ip(host)]
    kinds = ("STATIC", "STRICT_DNS", "LOGICAL_DNS")
    kind = item.text("type", "STRICT_DNS" if names else "STATIC", "|".join(kinds), "one of " + ", ".join(kinds))
    if kind == "STATIC" and names:
        path = f"{item.at('endpoints')}[{names[0]}]"
        raise invalid(path, f"the host name {hosts[names[0]]!r}", "an IP address, since type is STATIC")
    if kind == "LOGICAL_DNS" and len(hosts) > 1:
        raise invalid(item.at("endpoints"), f"a list of {len(hosts)}", "one endpoint, since type is LOGICAL_DNS")
    return kind


def _upstream_tls(tls: Mapping, hosts: list[str], http2: bool) -> Resource:
    tls.only("sni", "ca_file")
    sni = tls.text("sni", None, _HOST, "a host name")
    if sni is None and any(_is_ip(host) for host in hosts):
        raise invalid(
            tls.at("sni"), "nothing", "the host name in the server's certificate, since an endpoint is an IP address"
        )
    common: Resource = {"validation_context": {"trusted_ca": {"filename": _file(tls, "ca_file", _SYSTEM_CA)}}}
    if http2:
        common["alpn_protocols"] = ["h2"]
    # Without the last key, any certificate of the authority would do, whoever it was made for.
    context: Resource = {"sni": sni} if sni else {"auto_host_sni": True}
    return _tls_socket(_UPSTREAM_TLS, {**context, "auto_sni_san_validation": True, "common_tls_context": common})


def _endpoint(path: str, value: object) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,5})", value) if isinstance(value, str) else None
    expected = '"host:port", "IPv4:port" or "[IPv6]:port", with a port from 1 to 65535'
    if match is None or not 1 <= int(match.group(3)) <= 65535:
        raise invalid(path, describe(value), expected)
    bracketed, host = match.group(1), match.group(2)
    if bracketed is not None:
        if not _is_ip(bracketed, 6):
            raise invalid(path, describe(value), expected)
        return bracketed, int(match.group(3))
    # A name of digits and dots alone is a mistyped address: no such top-level domain exists.
    if not re.fullmatch(_HOST, host) or (re.fullmatch(r"[0-9.]+", host) and not _is_ip(host, 4)):
        raise invalid(path, describe(value), expected)
    return host, int(match.group(3))


# Listeners


def _listener(
    item: Mapping, filters: t.Mapping[str, str], directory: str, known_clusters: t.Collection[str]
) -> Resource:
    raw = _raw(item, _LISTENER)
    if raw is not None:
        return raw
    item.only("name", "address", "port", "tls", "filters", "virtual_hosts", "http_connection_manager", "envoy")
    name = item.text("name", pattern=_NAME, expected=_NAME_EXPECTED)
    address = item.text("address", "0.0.0.0")
    if not _is_ip(address):
        raise invalid(item.at("address"), describe(address), "an IPv4 or IPv6 address")
    port = item.integer("port", 1, 65535)
    manager = _http_connection_manager(item, name, _chain(item, filters, directory), known_clusters)
    chain: Resource = {
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": _typed(_HTTP_CONNECTION_MANAGER, manager),
            }
        ]
    }
    tls = item.mapping("tls", None)
    if tls is not None:
        chain["transport_socket"] = _downstream_tls(tls)
    result = {
        "name": name,
        "address": _address(address, port),
        "per_connection_buffer_limit_bytes": _BUFFER_LIMIT,
        "filter_chains": [chain],
    }
    for key in ("filter_chains", "default_filter_chain", "filterChains", "defaultFilterChain"):
        _not_beside_filters(item, "envoy", key)
    return _with_raw(item, result, _LISTENER)


def _http_connection_manager(
    item: Mapping, name: str, chain: list[Resource], known_clusters: t.Collection[str]
) -> Resource:
    for key in ("http_filters", "httpFilters"):
        _not_beside_filters(item, "http_connection_manager", key)
    raw = item.mapping("http_connection_manager", None)
    for key in ("upgrade_configs", "upgradeConfigs"):
        upgrades = raw.value.get(key) if raw is not None else None
        for index, upgrade in enumerate(upgrades if isinstance(upgrades, list) else []):
            if isinstance(upgrade, dict) and "filters" in upgrade:
                raise invalid(
                    f"{item.at('http_connection_manager')}.{key}[{index}].filters",
                    "a chain that requests for this upgrade would take instead of the filters of the listener",
                    "none beside `filters`",
                )
    manager: Resource = {
        "stat_prefix": name,
        # The client is whoever connects: headers in which it calls itself someone else are not believed.
        "use_remote_address": True,
        # Virtual hosts are found by name alone, whichever port the client wrote into Host.
        "strip_any_host_port": True,
        # Filters, routes and upstream must all see one and the same path, or /a/../b slips past a rule for /b.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
        # Clients that open a connection or a request and then stay silent don't hold it forever.
        "request_headers_timeout": "10s",
        "request_timeout": "300s",
        "stream_idle_timeout": "300s",
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            # Some upstreams take x_user for x-user: a client must not reach them by the name no filter looks at.
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        # How much one HTTP/2 connection may ask for at once.
        "http2_protocol_options": {"max_concurrent_streams": 100, **_HTTP2_WINDOWS},
        "route_config": {"name": name, "virtual_hosts": _virtual_hosts(item, known_clusters)},
        # The router answers, so it is last.
        "http_filters": [*chain, {"name": "envoy.filters.http.router", "typed_config": _typed(_ROUTER, {})}],
    }
    return _with_raw(item, manager, _HTTP_CONNECTION_MANAGER, "http_connection_manager")


def _chain(item: Mapping, filters: t.Mapping[str, str], directory: str) -> list[Resource]:
    if item.value.get("filters") is None:
        raise invalid(
            item.at("filters"),
            "nothing",
            "the names of the filters that guard this listener, in order",
            "A listener that nothing guards has to say so: filters: [].",
        )
    chain: list[Resource] = []
    for path, name in item.items("filters"):
        if not isinstance(name, str) or name not in filters:
            known = "one of " + ", ".join(sorted(filters)) if filters else "none, since no filter is defined"
            raise invalid(path, describe(name), known)
        _once(path, name, [entry["name"] for entry in chain], "filter of this listener")
        chain.append(discovered_filter(name, filters[name], directory))
    return chain


def discovered_filter(name: str, type_name: str, directory: str) -> Resource:
    """A filter's place in the chain: what it does is read from its own file, so it changes without the listener."""
    return {
        "name": name,
        "config_discovery": {
            "config_source": {
                "path_config_source": {"path": f"{directory}/filters/{name}.json"},
                # Wait for the file's verdict however long: the alternative is a listener up without its filter.
                "initial_fetch_timeout": "0s",
                "resource_api_version": "V3",
            },
            # RBAC is the type of what stands in for a filter without a revision: a rule that allows nobody.
            "type_urls": [TYPE_PREFIX + kind for kind in dict.fromkeys((RBAC, type_name))],
        },
    }


def _downstream_tls(tls: Mapping) -> Resource:
    tls.only("certificate_chain", "private_key")
    certificate = {key: {"filename": _file(tls, key)} for key in ("certificate_chain", "private_key")}
    common = {"tls_certificates": [certificate], "alpn_protocols": ["h2", "http/1.1"]}
    return _tls_socket(_DOWNSTREAM_TLS, {"common_tls_context": common})


def _virtual_hosts(listener: Mapping, known_clusters: t.Collection[str]) -> list[Resource]:
    hosts: list[Resource] = []
    domains_seen: list[str] = []
    for path, value in listener.items("virtual_hosts", at_least=1):
        item = Mapping(value, path).only("name", "domains", "routes", "envoy")
        domains = []
        for domain_path, domain in item.items("domains", at_least=1):
            if not isinstance(domain, str) or not re.fullmatch(_DOMAIN, domain):
                raise invalid(
                    domain_path,
                    describe(domain),
                    '"*", a host name without a port, "*.example.com" or "example.*"',
                    "A port in Host is ignored, so a domain holds none.",
                )
            _once(domain_path, domain.lower(), domains_seen, "domain of this listener")
            domains_seen.append(domain.lower())
            domains.append(domain)
        name = item.text("name", domains[0])
        _once(item.at("name"), name, [host["name"] for host in hosts], "virtual host of this listener")
        result = {"name": name, "domains": domains, "routes": _routes(item, known_clusters)}
        hosts.append(_with_raw(item, result, _VIRTUAL_HOST))
    return hosts


def _routes(host: Mapping, known_clusters: t.Collection[str]) -> list[Resource]:
    routes = []
    matches: list[Resource] = []
    for path, value in host.items("routes", at_least=1):
        item = Mapping(value, path).only(
            "path", "prefix", "regex", "cluster", "redirect", "status", "body", "timeout", "prefix_rewrite", "envoy"
        )
        match = _match(item)
        if match in matches:
            raise invalid(path, f"the same match as in routes[{matches.index(match)}]", "one that can be reached")
        matches.append(match)
        routes.append(_with_raw(item, {"match": match, **_action(item, known_clusters)}, _ROUTE))
    return routes


def _match(item: Mapping) -> Resource:
    key = _one_of(item, "path", "prefix", "regex")
    if key == "regex":
        return {"safe_regex": {"regex": _regex(item)}}
    return {key: item.text(key, pattern=_URL_PATH, expected='a path that begins with "/", without "?" and "#"')}


def _action(item: Mapping, known_clusters: t.Collection[str]) -> Resource:
    key = _one_of(item, "cluster", "redirect", "status")
    for extra, needed in (("body", "status"), ("timeout", "cluster"), ("prefix_rewrite", "cluster")):
        if item.value.get(extra) is not None and key != needed:
            raise invalid(item.at(extra), f"{extra} beside {key}", f"{extra} only beside {needed}")
    if key == "redirect":
        return {"redirect": _redirect(item)}
    if key == "status":
        response: Resource = {"status": item.integer("status", 200, 599)}
        body = item.text("body", None)
        if body is not None:
            if len(body.encode()) > _MAX_BODY:
                raise invalid(item.at("body"), f"{len(body.encode())} bytes", f"at most {_MAX_BODY} bytes")
            response["body"] = {"inline_string": body}
        return {"direct_response": response}
    cluster = item.text("cluster")
    if cluster not in known_clusters:
        known = "one of " + ", ".join(sorted(known_clusters)) if known_clusters else "none, since no cluster is defined"
        raise invalid(item.at("cluster"), f"the unknown cluster {cluster!r}", known)
    action: Resource = {"cluster": cluster}
    _duration(item, "timeout", action, zero=True)
    rewrite = item.text("prefix_rewrite", None, _URL_PATH, 'a path that begins with "/", without "?" and "#"')
    if rewrite is not None:
        if item.value.get("regex") is not None:
            raise invalid(item.at("prefix_rewrite"), "prefix_rewrite beside regex", "it beside path or prefix")
        action["prefix_rewrite"] = rewrite
    return {"route": action}


def _redirect(item: Mapping) -> Resource:
    expected = '"https" (the same URL by HTTPS), a path that begins with "/", or a URL of scheme http or https'
    target = item.text("redirect", expected=expected)
    if target == "https":
        return {"https_redirect": True}
    if re.fullmatch(r"/\S*", target):
        return {"path_redirect": target}
    try:
        url = urllib.parse.urlsplit(target)
        port = url.port
    except ValueError:
        raise invalid(item.at("redirect"), describe(target), expected) from None
    host = url.hostname or ""
    plain = url.scheme in ("http", "https") and not url.username and not re.search(r"\s", target)
    if not plain or not (_is_ip(host, 6) or re.fullmatch(_HOST, host)):
        raise invalid(item.at("redirect"), describe(target), expected)
    result: Resource = {"scheme_redirect": url.scheme, "host_redirect": f"[{host}]" if ":" in host else host}
    if port is not None:
        result["port_redirect"] = port
    path = urllib.parse.urlunsplit(("", "", url.path, url.query, url.fragment))
    if path:
        result["path_redirect"] = path
    return result


def _regex(item: Mapping) -> str:
    """A pattern that both this Python and Envoy's RE2 are likely to take; Envoy has the last word."""
    pattern = item.text("regex", expected="a regular expression for the whole path")
    # Escapes and classes are consumed first, so that what stands inside them is not taken for syntax.
    syntax = re.compile(
        r"\\[1-9]|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?(?:<?[=!]|P=|\(|>)|[*+?]\+|\{[0-9,]+\}\+", re.DOTALL
    )
    for found in syntax.finditer(pattern):
        token = found.group()
        if token[0] in "(*+?{" or re.fullmatch(r"\\[1-9]", token):
            raise invalid(
                item.at("regex"),
                f"{token!r} at character {found.start()} of {pattern!r}",
                "what RE2 knows: no look-around, no back-reference, no possessive repetition",
            )
    # Two things that RE2 knows and Python doesn't: classes of Unicode, and \z.
    readable = re.sub(r"\\[pP](?:\{\^?\w+\}|[A-Z])", r"\\w", pattern).replace(r"\z", r"\Z")
    try:
        re.compile(readable)
    except re.error as error:
        raise invalid(item.at("regex"), f"{pattern!r}, in which there is {error}", "a regular expression") from None
    return pattern


# Parts of both


def _mappings(items: object, option: str) -> list[Mapping]:
    if not isinstance(items, list):
        raise invalid(option, describe(items), "a list")
    return [Mapping(value, f"{option}[{index}]") for index, value in enumerate(items)]


def _raw(item: Mapping, kind: str) -> Resource | None:
    """The resource of an item that holds nothing but ``name`` and a whole ``envoy``."""
    if set(item.value) != {"name", "envoy"}:
        return None
    name = item.text("name", pattern=_NAME, expected=_NAME_EXPECTED)
    return _with_raw(item, {"name": name}, kind=kind)


def _with_raw(item: Mapping, result: Resource, kind: str, key: str = "envoy") -> Resource:
    """``result`` with the raw part of ``item`` merged over it.

    :param kind: the message that ``result`` is; an "@type" in the raw part may say so too.
    """
    raw = item.mapping(key, None)
    if raw is None:
        return result
    merged = merge(result, raw.value)
    for fixed, expected in (("@type", TYPE_PREFIX + kind), ("name", result.get("name"))):
        if expected is not None and raw.value.get(fixed, expected) != expected:
            raise invalid(raw.at(fixed), describe(raw.value[fixed]), f"{expected!r}, or nothing")
    merged.pop("@type", None)
    return merged


def _not_beside_filters(item: Mapping, key: str, part: str) -> None:
    """Lists are replaced, so this part would throw out the filters that the listener names."""
    raw = item.mapping(key, None)
    if raw is not None and part in raw.value:
        raise invalid(
            raw.at(part),
            "a list that would replace the filters of the chain",
            "none beside `filters`",
            "Name them in `filters`, or give the listener as a whole: `name` and `envoy`, nothing else.",
        )


def _one_of(item: Mapping, *keys: str) -> str:
    given = [key for key in keys if item.value.get(key) is not None]
    if len(given) != 1:
        raise invalid(item.path, " and ".join(given) or "none of them", "exactly one of " + ", ".join(keys))
    return given[0]


def _once(path: str, name: str, others: t.Collection[str], kind: str) -> None:
    if name in others:
        raise invalid(path, f"{name!r} twice", f"each {kind} once")


def _duration(item: Mapping, key: str, result: Resource, zero: bool) -> None:
    """Puts the duration at ``key``, if any, into ``result`` the way Envoy reads it: seconds, with an "s"."""
    value = item.value.get(key)
    if value is None:
        return
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = round(float(match.group(1)) * _SECONDS[match.group(2)], 6) if match else -1.0
    # Envoy takes no more than fits into a count of milliseconds of some hundred thousand years; a year is plenty.
    if not (0 if zero else 0.001) <= seconds <= 366 * 86400:
        least = '"0s" for none, or ' if zero else ""
        raise invalid(item.at(key), describe(value), f'{least}a duration such as "15s", "500ms" or "2m"')
    result[key] = f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def _file(item: Mapping, key: str, default: str | None = None) -> str:
    expected = "an absolute path on the gateway"
    if default is None:
        return item.text(key, pattern=r"/[^\0]*", expected=expected)
    return item.text(key, default, r"/[^\0]*", expected)


def _address(host: str, port: int) -> Resource:
    return {"socket_address": {"address": host, "port_value": port}}


def _socket(resource: Resource) -> tuple[str, int] | None:
    """Where a finished listener listens, if that is an address and a port; one address written two ways is one."""
    address = resource.get("address")
    socket = address.get("socket_address") if isinstance(address, dict) else None
    if not isinstance(socket, dict):
        return None
    host, port = str(socket.get("address")), socket.get("port_value")
    if not isinstance(port, int):
        return None
    return (str(ipaddress.ip_address(host)) if _is_ip(host) else host), port


def _typed(name: str, value: Resource) -> Resource:
    return {"@type": TYPE_PREFIX + name, **value}


def _tls_socket(name: str, context: Resource) -> Resource:
    return {"name": "envoy.transport_sockets.tls", "typed_config": _typed(name, context)}


def _is_ip(host: str, version: int = 0) -> bool:
    try:
        return ipaddress.ip_address(host).version == (version or ipaddress.ip_address(host).version)
    except ValueError:
        return False
