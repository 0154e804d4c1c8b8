# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Istio's EnvoyFilter: from one filter's configuration to the object that carries it to gateways, and back. Pure.

Upstream: ``networking.istio.io/v1alpha3`` EnvoyFilter (https://istio.io/latest/docs/reference/config/networking/envoy-filter/).
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _engines
from ansible_collections.moe.gateway.plugins.module_utils._engines import TYPE_PREFIX
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import Mapping, describe
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

VERSION = "networking.istio.io/v1alpha3"
PLURAL = "envoyfilters"
#: Says which filter an object carries: two names can come to one name of an object.
ANNOTATION = "moe.gateway/filter"
_MANAGER = "app.kubernetes.io/managed-by"

_HCM = "envoy.filters.network.http_connection_manager"
_ROUTER = "envoy.filters.http.router"
_PRIORITY = 10
#: A DNS label, what Kubernetes takes in every place.
_OBJECT = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_LABEL = r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"
_LABEL_KEY = r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"

Object = dict[str, t.Any]


class Target(t.NamedTuple):
    """Which object, and which gateways it is for."""

    #: of the filter
    name: str
    namespace: str
    #: those that a gateway has to have; empty for every gateway of the namespace
    labels: dict[str, str]
    #: the filter's configuration stands in the listener instead of coming by itself (ECDS)
    inline: bool

    @property
    def object_name(self) -> str:
        return object_name(self.name)


class Canary(t.NamedTuple):
    """What sets the object of a filter's canary apart, from which some of its gateways get another revision first.

    They have a name of their own for the resource, since Envoy refuses one that comes twice (docs/istio.md).
    """

    #: those that a gateway has to have: of the filter, and more
    labels: dict[str, str]
    #: what the filter may be called in the listeners of other gateways
    instead: list[str]
    #: there was no filter to replace, when it was made: so it stands before the router
    first: bool

    @staticmethod
    def object_name(target: Target) -> str:
        """No object of :func:`object_name` is called so."""
        return f"{target.object_name}.canary"


def object_name(name: str) -> str:
    """What the object of a filter is called: Kubernetes knows neither ``_`` nor ``.`` in a label."""
    return re.sub(r"[_.]", "-", name)


def check(target: Target) -> None:
    """Raise a ``Failure`` for what the API server would refuse with other words."""
    if not re.fullmatch(_OBJECT, target.object_name):
        expected = "lower-case letters, digits and . _ - , beginning and ending with a letter or digit, 63 at most"
        raise invalid("name", describe(target.name), expected)
    if not re.fullmatch(_OBJECT, target.namespace):
        raise invalid("namespace", describe(target.namespace), "the name of a namespace")
    check_labels("workload_selector", target.labels)


def check_labels(option: str, labels: dict[str, t.Any]) -> None:
    for key, value in labels.items():
        if not re.fullmatch(_LABEL_KEY, str(key)):
            raise invalid(option, f"the key {key!r}", "the name of a label")
        if not isinstance(value, str) or not re.fullmatch(_LABEL, value):
            raise invalid(f"{option}.{key}", describe(value), "the value of a label, a string", "Quote it.")


def resource_name(name: str, type_name: str, canary: bool = False) -> str:
    """Under which name Envoy gets the configuration. It has the type in it: under a name, Envoy never takes another."""
    return f"{name}{'~canary' if canary else ''}.{type_name.rpartition('.')[2]}"


def filter_of(resource: str) -> str:
    """The name of the filter: the inverse of :func:`resource_name`."""
    return re.sub(r"(~canary)?[.]\w+$", "", resource)


def version_of(typed: Object) -> Version | None:
    """Of the publish that a configuration came with; ``None`` if it is none of this collection's."""
    match = re.fullmatch(r"moe\.gateway/([^/]+)/[^/]+", str(typed.get("type_url")))
    return Version.parse(match[1]) if match else None


def type_in_listener(typed: Object, type_name: str, inline: bool) -> str:
    """The type that is in the name: a listener that is replaced as a whole minds no other one."""
    return _engines.type_name(typed) if inline else type_name


def manifest(
    target: Target, typed: Object, type_name: str, version: Version | None, canary: Canary | None = None
) -> Object:
    """The object.

    :param typed: the filter's configuration.
    :param type_name: its type; where ``typed`` is what refuses all traffic, the type of the filter that it stands for.
    :param version: of the publish. Without one, the configuration stands there as it is, so that istiod, which does not
        look into a ``TypedStruct``, can judge it.
    :param canary: make the one of the canary.
    """
    wrapped = _engines.wrap(typed, f"moe.gateway/{version}") if version else typed
    name = resource_name(target.name, type_in_listener(typed, type_name, target.inline), canary is not None)
    if target.inline:
        patches = _place({"name": name, "typed_config": wrapped}, canary)
    else:
        discovery = {
            "config_source": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            # Where Envoy has nothing or refuses the first, it refuses all traffic, and does not answer 500.
            "default_config": _engines.DENY,
            "type_urls": sorted({TYPE_PREFIX + type_name, _engines.DENY["@type"]}),
        }
        added = {
            "applyTo": "EXTENSION_CONFIG",
            "match": {"context": "GATEWAY"},
            "patch": {"operation": "ADD", "value": {"name": name, "typed_config": wrapped}},
        }
        patches = [added, *_place({"name": name, "config_discovery": discovery}, canary)]
    labels = canary.labels if canary else target.labels
    return {
        "apiVersion": VERSION,
        "kind": "EnvoyFilter",
        "metadata": {
            "name": canary.object_name(target) if canary else target.object_name,
            "namespace": target.namespace,
            "annotations": {ANNOTATION: target.name},
            "labels": {_MANAGER: "moe.gateway"},
        },
        "spec": {
            **({"workloadSelector": {"labels": labels}} if labels else {}),
            # istiod's default is 0; what has a higher one finds what others have done.
            **({"priority": _PRIORITY} if canary else {}),
            "configPatches": patches,
        },
    }


def _place(value: Object, canary: Canary | None) -> list[Object]:
    """Where the filter comes in a listener."""
    if canary and not canary.first:
        return [_patch("REPLACE", name, value) for name in canary.instead]
    others = [_patch("REMOVE", name) for name in canary.instead] if canary else []
    return [*others, _patch("INSERT_BEFORE", _ROUTER, value)]


def _patch(operation: str, name: str, value: Object | None = None) -> Object:
    """:param name: of the filter in a listener that it is about."""
    filters = {"filter": {"name": _HCM, "subFilter": {"name": name}}}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "GATEWAY", "listener": {"filterChain": filters}},
        "patch": {"operation": operation, **({"value": value} if value else {})},
    }


class Found(t.NamedTuple):
    """An object as it is there."""

    target: Target
    version: Version
    #: the filter's configuration
    typed: Object
    #: see :func:`manifest`
    type_name: str
    canary: Canary | None


def read(value: Object) -> Found | str:
    """The inverse of :func:`manifest`; or why the object is not one, for people."""
    try:
        spec, metadata = value["spec"], value["metadata"]
        patches = spec["configPatches"]
        last = patches[-1]["patch"]["value"]
        inline = patches[0]["applyTo"] == "HTTP_FILTER"
        wrapped = (last if inline else patches[0]["patch"]["value"])["typed_config"]
        typed = _engines.unwrap(wrapped)
        version = version_of(wrapped)
        name = metadata["annotations"][ANNOTATION]
        labels = spec.get("workloadSelector", {}).get("labels", {})
        target = Target(name, metadata["namespace"], labels, inline)
        types = [] if inline else [url.rpartition("/")[2] for url in last["config_discovery"]["type_urls"]]
        (type_name,) = [found for found in types if found != _engines.RBAC] or [_engines.type_name(typed)]
        canary = None
        if metadata["name"] == Canary.object_name(target):
            placed = [patch for patch in patches if patch["applyTo"] == "HTTP_FILTER"]
            named = [patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"] for patch in placed]
            canary = Canary(labels, [text for text in named if text != _ROUTER], _ROUTER in named)
    except (Failure, AttributeError, IndexError, KeyError, TypeError, ValueError):
        return "it does not have the shape that this collection writes"
    if version is None:
        return "it has no version of this collection"
    if manifest(target, typed, type_name, version, canary)["spec"] != spec:
        return "it does not have the shape that this collection writes"
    return Found(target, version, typed, type_name, canary)


def carries(value: Object) -> str | None:
    """The name of the filter, where this collection made the object, whatever became of it since."""
    return (value["metadata"].get("annotations") or {}).get(ANNOTATION)


def is_ours(value: Object) -> bool:
    return carries(value) is not None


def is_judged(warnings: t.Iterable[str]) -> bool:
    """Whether istiod's webhook was asked: it says this of each, and nobody else does."""
    return any("EnvoyFilter exposes internal implementation details" in text for text in warnings)


def objections(warnings: t.Iterable[str]) -> list[str]:
    """The warnings of istiod that tell of a field which it does not know, and would leave out.

    Of every EnvoyFilter it says that this is an API for experts.
    """
    return [text for text in warnings if re.search(r"unknown field", text, re.IGNORECASE)]


def holds(dump: t.Any, version: Version) -> bool:
    """Whether a tree, such as what istiod would tell a gateway, has the filter in this version."""
    nonce = f"moe.gateway/{version}/"
    if isinstance(dump, dict):
        # Protobuf's JSON has either.
        url = dump.get("type_url", dump.get("typeUrl"))
        return isinstance(url, str) and url.startswith(nonce) or any(holds(item, version) for item in dump.values())
    return isinstance(dump, list) and any(holds(item, version) for item in dump)


def handwritten(value: object, path: str, selector: dict[str, str]) -> tuple[str, Object]:
    """The name and the configuration of the Go filter in an EnvoyFilter of the shape that tutorials have.

    What would be lost is refused: where it goes, and to which gateways, is not taken from there.

    :param path: where the object stands, for errors.
    :param selector: the labels that its gateways have.
    """
    whole = Mapping(value, path).only("apiVersion", "kind", "metadata", "spec")
    whole.text("kind", pattern="EnvoyFilter", expected="EnvoyFilter")
    spec = whole.mapping("spec").only("workloadSelector", "configPatches")
    patches = spec.items("configPatches", at_least=1)
    if len(patches) > 1:
        raise invalid(spec.at("configPatches"), f"{len(patches)} patches", "one, which inserts the filter")
    where, only = patches[0]
    patch = Mapping(only, where).only("applyTo", "match", "patch")
    patch.text("applyTo", pattern="HTTP_FILTER", expected="HTTP_FILTER")
    match = patch.mapping("match", Mapping({}, patch.at("match"))).only("context", "listener")
    match.text("context", "GATEWAY", "GATEWAY|ANY", "GATEWAY")
    listener = match.mapping("listener", Mapping({}, match.at("listener"))).only("filterChain")
    chain = listener.mapping("filterChain", Mapping({}, listener.at("filterChain"))).only("filter")
    hcm = chain.mapping("filter", Mapping({}, chain.at("filter"))).only("name", "subFilter")
    hcm.text("name", _HCM, re.escape(_HCM), _HCM)
    router = hcm.mapping("subFilter", Mapping({}, hcm.at("subFilter"))).only("name")
    router.text("name", _ROUTER, re.escape(_ROUTER), _ROUTER)
    change = patch.mapping("patch").only("operation", "value")
    change.text("operation", pattern="INSERT_BEFORE|INSERT_FIRST", expected="INSERT_BEFORE")
    typed = change.mapping("value").only("name", "typed_config").mapping("typed_config")
    golang = TYPE_PREFIX + _engines.GOLANG
    typed.text("@type", pattern=re.escape(golang), expected=golang)
    labels = spec.mapping("workloadSelector", Mapping({}, spec.at("workloadSelector"))).only("labels")
    for key, text in labels.mapping("labels", Mapping({}, labels.at("labels"))).value.items():
        if selector.get(key) != text:
            raise invalid(labels.at(f"labels.{key}"), describe(text), f"a label of the gateway: {selector}")
    name = whole.mapping("metadata").text("name")
    return name, {key: item for key, item in typed.value.items() if key != "library_path"}
