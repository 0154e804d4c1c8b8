# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of configuration, pure: a filter (ECDS), the listeners (LDS), the clusters (CDS).

A kind says where its file stands, what a file of a given content and version looks like, in which counters Envoy
tells what became of it, and what stands there when there is nothing better.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _engines
from ansible_collections.moe.gateway.plugins.module_utils._engines import TYPE_PREFIX
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import describe
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

#: A filter's name is also a file name and part of a statistic's name.
FILTER_NAME = r"(?!.*\.\Z)[a-z0-9][a-z0-9_.-]{0,62}"

#: What Envoy's statistics of a filter begin with that gets its configuration by itself, before its name.
FILTER_STATS = "extension_config_discovery.http_filter."

_HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"


class Kind:
    """One live file, and everything that depends on what it holds."""

    def __init__(self, name: str, file: str, stats: str) -> None:
        #: how people call it, e.g. ``filter basic_auth``; also keyed into its digests
        self.name = name
        #: the live file, below the gateway's directory
        self.file = file
        #: the folder of its generations, below the gateway's state
        self.folder = file[: -len(".json")]
        #: Envoy's statistics of this subscription begin with it
        self.stats = stats

    #: What is put in place when there is no last good content, and how people call that.
    fallback: t.Any = None
    fallback_name = ""

    #: The name of the filter, where the kind is one.
    filter: str | None = None

    #: Gauges that are above zero while Envoy has accepted an update and not yet put it to use.
    warming: tuple[str, ...] = ()

    def resources(self, content: t.Any, version: Version) -> list[dict[str, t.Any]]:
        raise NotImplementedError

    def content(self, resources: list[t.Any]) -> t.Any:
        """The inverse of :meth:`resources`."""
        raise NotImplementedError

    def scratch(self, content: t.Any, clusters: list[dict[str, t.Any]]) -> dict[str, t.Any]:
        """The static resources of a throwaway Envoy that has to load ``content``, beside the gateway's clusters."""
        raise NotImplementedError

    def document(self, content: t.Any, version: Version) -> dict[str, t.Any]:
        """The ``DiscoveryResponse`` that Envoy reads from the live file."""
        return {"version_info": str(version), "resources": self.resources(content, version)}

    def parse(self, document: t.Any) -> tuple[Version, t.Any]:
        """(version, content) of a document that has the shape of :meth:`document`; ``Failure`` says why it has not."""
        version = Version.parse(document.get("version_info")) if isinstance(document, dict) else None
        if version is None:
            raise Failure("not_ours", "its version_info is not one of this collection")
        try:
            content = self.content(document["resources"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise Failure("not_ours", "it does not have the shape that this collection writes") from None
        return version, content


def pointers(tree: t.Any, name: str = "") -> t.Iterator[tuple[str, str, list[str]]]:
    """Every filter in a chain that takes its configuration from a file: (filter, path, type names that it may have).

    :param tree: listeners, in Envoy's own form (from a file or from the admin interface).
    :param name: only the filter of this name.
    """
    if isinstance(tree, list):
        for child in tree:
            yield from pointers(child, name)
    elif isinstance(tree, dict):
        discovery = tree.get("config_discovery")
        if isinstance(discovery, dict) and name in ("", tree.get("name")):
            path = discovery.get("config_source", {}).get("path_config_source", {}).get("path", "")
            yield tree.get("name", ""), path, [url.rpartition("/")[2] for url in discovery.get("type_urls", [])]
        for child in tree.values():
            yield from pointers(child, name)


def _without_files(tree: t.Any) -> t.Any:
    """Listeners whose filters wait for no file: the throwaway Envoy judges their types, not their content."""
    if isinstance(tree, list):
        return [_without_files(child) for child in tree]
    if not isinstance(tree, dict):
        return tree
    if isinstance(tree.get("config_discovery"), dict):
        # Envoy wants a path that exists; it reads nothing there in validate mode.
        source = {"path_config_source": {"path": "/"}, "resource_api_version": "V3"}
        return {**tree, "config_discovery": {**tree["config_discovery"], "config_source": source}}
    return {key: _without_files(child) for key, child in tree.items()}


def filter_kind(name: str, option: str = "name") -> Kind:
    """The kind for the filter ``name``; a name that can't be a file name or a statistic's is refused.

    :param option: where the name stands in the options, for errors.
    """
    if not re.fullmatch(FILTER_NAME, name):
        expected = (
            "lower-case letters, digits and . _ - , beginning with a letter or digit, 63 at most, without . at the end"
        )
        raise invalid(option, describe(name), expected)
    return _Filter(name)


class _Filter(Kind):
    fallback = _engines.DENY
    fallback_name = "the refusal of all traffic"

    def __init__(self, name: str) -> None:
        super().__init__(f"filter {name}", f"filters/{name}.json", f"{FILTER_STATS}{name}.")
        self.filter = name

    def resources(self, content: t.Any, version: Version) -> list[dict[str, t.Any]]:
        typed = _engines.wrap(content, f"moe.gateway/{version}")
        extension = TYPE_PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
        return [{"@type": extension, "name": self.filter, "typed_config": typed}]

    def content(self, resources: list[t.Any]) -> t.Any:
        (resource,) = resources
        return _engines.unwrap(resource["typed_config"])

    def scratch(self, content: t.Any, clusters: list[dict[str, t.Any]]) -> dict[str, t.Any]:
        manager = {
            "@type": TYPE_PREFIX + _HCM,
            "stat_prefix": "validate",
            "route_config": {},
            "http_filters": [
                {"name": self.filter, "typed_config": content},
                {"name": "router", "typed_config": {"@type": TYPE_PREFIX + _ROUTER}},
            ],
        }
        listener = {
            "name": "validate",
            "address": {"pipe": {"path": "@moe.gateway.validate"}},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }
        return {"listeners": [listener], "clusters": clusters}


class _Resources(Kind):
    """A whole file of resources of one type."""

    fallback: t.Any = []
    fallback_name = "the empty configuration"

    def __init__(self, name: str, stats: str, type_url: str, warming: str) -> None:
        super().__init__(name, f"{name}.json", stats)
        self.type_url = type_url
        self.warming = (warming,)

    def resources(self, content: t.Any, version: Version) -> list[dict[str, t.Any]]:
        return [{"@type": self.type_url, **resource} for resource in content]

    def content(self, resources: list[t.Any]) -> t.Any:
        return [{key: value for key, value in resource.items() if key != "@type"} for resource in resources]


class _Listeners(_Resources):
    def scratch(self, content: t.Any, clusters: list[dict[str, t.Any]]) -> dict[str, t.Any]:
        return {"listeners": _without_files(content), "clusters": clusters}


class _Clusters(_Resources):
    def scratch(self, content: t.Any, clusters: list[dict[str, t.Any]]) -> dict[str, t.Any]:
        return {"clusters": content}


CLUSTERS: Kind = _Clusters(
    "clusters",
    "cluster_manager.cds.",
    TYPE_PREFIX + "envoy.config.cluster.v3.Cluster",
    "cluster_manager.warming_clusters",
)
LISTENERS: Kind = _Listeners(
    "listeners",
    "listener_manager.lds.",
    TYPE_PREFIX + "envoy.config.listener.v3.Listener",
    "listener_manager.total_listeners_warming",
)
