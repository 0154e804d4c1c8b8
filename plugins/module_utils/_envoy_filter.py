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
from ansible_collections.moe.gateway.plugins.module_utils._keys import describe
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

VERSION = "networking.istio.io/v1alpha3"
PLURAL = "envoyfilters"
#: Says which filter an object carries: two names can come to one name of an object.
ANNOTATION = "moe.gateway/filter"
_MANAGER = "app.kubernetes.io/managed-by"

_HCM = "envoy.filters.network.http_connection_manager"
_ROUTER = "envoy.filters.http.router"
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
    for key, value in target.labels.items():
        if not re.fullmatch(_LABEL_KEY, str(key)):
            raise invalid("workload_selector", f"the key {key!r}", "the name of a label")
        if not isinstance(value, str) or not re.fullmatch(_LABEL, value):
            raise invalid(f"workload_selector.{key}", describe(value), "the value of a label, a string", "Quote it.")


def resource_name(name: str, type_name: str) -> str:
    """Under which name Envoy gets the configuration. It has the type in it: under a name, Envoy never takes another."""
    return f"{name}.{type_name.rpartition('.')[2]}"


def manifest(target: Target, typed: Object, type_name: str, version: Version | None) -> Object:
    """The object.

    :param typed: the filter's configuration.
    :param type_name: its type; where ``typed`` is what refuses all traffic, the type of the filter that it stands for.
    :param version: of the publish. Without one, the configuration stands there as it is, so that istiod, which does not
        look into a ``TypedStruct``, can judge it.
    """
    wrapped = _engines.wrap(typed, f"moe.gateway/{version}") if version else typed
    # A listener that is replaced as a whole minds no other type.
    name = resource_name(target.name, _engines.type_name(typed) if target.inline else type_name)
    if target.inline:
        patches = [_insert({"name": name, "typed_config": wrapped})]
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
        patches = [added, _insert({"name": name, "config_discovery": discovery})]
    return {
        "apiVersion": VERSION,
        "kind": "EnvoyFilter",
        "metadata": {
            "name": target.object_name,
            "namespace": target.namespace,
            "annotations": {ANNOTATION: target.name},
            "labels": {_MANAGER: "moe.gateway"},
        },
        "spec": {
            **({"workloadSelector": {"labels": target.labels}} if target.labels else {}),
            "configPatches": patches,
        },
    }


def _insert(value: Object) -> Object:
    filters = {"filter": {"name": _HCM, "subFilter": {"name": _ROUTER}}}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "GATEWAY", "listener": {"filterChain": filters}},
        "patch": {"operation": "INSERT_BEFORE", "value": value},
    }


class Found(t.NamedTuple):
    """An object as it is there."""

    target: Target
    version: Version
    #: the filter's configuration
    typed: Object
    #: see :func:`manifest`
    type_name: str


def read(value: Object) -> Found | str:
    """The inverse of :func:`manifest`; or why the object is not one, for people."""
    try:
        spec, metadata = value["spec"], value["metadata"]
        patches = spec["configPatches"]
        last = patches[-1]["patch"]["value"]
        inline = len(patches) == 1
        wrapped = (last if inline else patches[0]["patch"]["value"])["typed_config"]
        typed = _engines.unwrap(wrapped)
        version = Version.parse(wrapped["type_url"].split("/")[-2])
        name = metadata["annotations"][ANNOTATION]
        target = Target(name, metadata["namespace"], spec.get("workloadSelector", {}).get("labels", {}), inline)
        types = [] if inline else [url.rpartition("/")[2] for url in last["config_discovery"]["type_urls"]]
        (type_name,) = [found for found in types if found != _engines.RBAC] or [_engines.type_name(typed)]
    except (Failure, AttributeError, IndexError, KeyError, TypeError, ValueError):
        return "it does not have the shape that this collection writes"
    if version is None:
        return "it has no version of this collection"
    if manifest(target, typed, type_name, version)["spec"] != spec:
        return "it does not have the shape that this collection writes"
    return Found(target, version, typed, type_name)


def is_ours(value: Object) -> bool:
    """Whether this collection made the object, whatever became of it since."""
    return ANNOTATION in (value["metadata"].get("annotations") or {})


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
