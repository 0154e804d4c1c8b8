# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters and listeners together: two transactions, in an order in which no request meets a gap."""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._decision import Process
from ansible_collections.moe.gateway.plugins.module_utils._engines import type_name
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._history import Kept
from ansible_collections.moe.gateway.plugins.module_utils._kinds import (
    CLUSTERS,
    FILTER_NAME,
    LISTENERS,
    filter_kind,
    pointers,
)
from ansible_collections.moe.gateway.plugins.module_utils._publish import install
from ansible_collections.moe.gateway.plugins.module_utils._transaction import Desired, Gateway, Outcome

Resources = list[dict[str, t.Any]]


def bring(
    gateway: Gateway,
    clusters: Resources,
    listeners: Resources,
    filters: t.Collection[str],
    sources: tuple[Kept | None, Kept | None] = (None, None),
) -> dict[str, t.Any]:
    """Bring both to what they should be; the result of a module.

    :param filters: names of the filters that listeners may name. Those without a revision get one that refuses all.
    :param sources: the generations that the two were taken from, if they were.
    """
    names = [cluster["name"] for cluster in clusters]
    shelf = gateway.shelf(CLUSTERS)
    # Of a file that somebody else changed, what was last seen in service: the listeners there still need it.
    before = shelf.content() if shelf.disk().version else shelf.last_good(shelf.record())
    # What the listeners in service still use goes last.
    leaving = [cluster for cluster in before if cluster["name"] not in names] if gateway.write else []
    upstreams = gateway.prepare(CLUSTERS, _desired(CLUSTERS.name, clusters + leaving, None if leaving else sources[0]))
    conflicts = _conflicts(gateway)

    def check_conflicts(_process: Process) -> None:
        # A chain that is still draining may hold the old type where no dump shows it.
        for name, count in _conflicts(gateway).items():
            if count > conflicts.get(name, 0):
                raise Failure(
                    "type_changed",
                    "a filter has another type in a chain that Envoy is still letting go of; try again when it has "
                    f"drained, or give the filter a new name ({name})",
                )

    desired = _desired(LISTENERS.name, listeners, sources[1])
    entrances = gateway.prepare(LISTENERS, desired._replace(clusters=clusters, check_after=check_conflicts))
    _check_types(gateway, listeners)

    denied = [name for name in filters if _install(gateway, name)]
    first = gateway.execute(upstreams)
    try:
        second = gateway.execute(entrances)
    except Failure:
        if first.plan.action == "published":
            with contextlib.suppress(Failure):
                gateway.execute(gateway.prepare(CLUSTERS, _desired(CLUSTERS.name, before)))
        raise
    if leaving:
        last = gateway.execute(gateway.prepare(CLUSTERS, _desired(CLUSTERS.name, clusters, sources[0])))
        first = last._replace(previous=first.previous, before=first.before)
    return {
        "changed": bool(denied) or any(outcome.plan.action != "none" for outcome in (first, second)),
        "denied": denied,
        "clusters": _result(first),
        "listeners": _result(second),
        "diff": [_diff(CLUSTERS.name, first, clusters), _diff(LISTENERS.name, second, listeners)],
    }


def _conflicts(gateway: Gateway) -> dict[str, int]:
    """How often each filter met a chain that does not allow its type."""
    return gateway.admin.stats(r"^extension_config_discovery\.http_filter\..*\.config_conflict$")


def _check_types(gateway: Gateway, listeners: Resources) -> None:
    """Raise ``type_changed`` where a filter that is in a chain would get another type.

    The listener with the new type meets the old configuration and answers 500, and while the old listener drains, for
    ten minutes, Envoy refuses whatever only one of the two allows.
    """
    wanted = {(name, path): set(types) for name, path, types in pointers(listeners)}
    held = {(name, path): set(types) for name, path, types in pointers(gateway.admin.listeners("draining_state"))}
    # Chains that drain within a listener are in no dump, but their filter still has its statistics.
    alive = _conflicts(gateway)
    for (name, path), types in wanted.items():
        allowed = held.get((name, path))
        if allowed is None and f"extension_config_discovery.http_filter.{name}.config_conflict" in alive:
            content = gateway.shelf(filter_kind(name)).content() if re.fullmatch(FILTER_NAME, name) else None
            allowed = types if content is None or type_name(content) in types else {type_name(content)}
        if allowed is not None and allowed != types:
            raise Failure(
                "type_changed",
                f"filter {name}: found type {', '.join(sorted(types))} in the new listeners, "
                f"{', '.join(sorted(allowed))} in those that Envoy still holds. A filter that changes its type gets a "
                "new name. Nothing has changed.",
            )


def _install(gateway: Gateway, name: str) -> bool:
    shelf = gateway.shelf(filter_kind(name))
    return install(shelf) if gateway.write else shelf.missing()


def _desired(name: str, content: Resources, source: Kept | None = None) -> Desired:
    return Desired(content, {name: content}, source=source)


def _result(outcome: Outcome) -> dict[str, t.Any]:
    return {
        "action": outcome.plan.action,
        "version": str(outcome.version),
        "previous_version": str(outcome.previous) if outcome.previous else None,
        "propagation_ms": outcome.propagation_ms,
        "found": outcome.plan.found,
    }


def _diff(name: str, outcome: Outcome, content: Resources) -> dict[str, t.Any]:
    return {
        "before_header": f"{name} {outcome.previous or ''}".strip(),
        "after_header": f"{name} {outcome.version}",
        "before": outcome.before,
        "after": {name: content},
    }
