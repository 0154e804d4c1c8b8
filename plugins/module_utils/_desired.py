# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a whole gateway should run, from the variables of its filters, listeners and clusters. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._engines import Extension, filter_type
from ansible_collections.moe.gateway.plugins.module_utils._keys import Mapping
from ansible_collections.moe.gateway.plugins.module_utils._kinds import CLUSTERS, LISTENERS, Kind, filter_kind
from ansible_collections.moe.gateway.plugins.module_utils._resolve import revision

#: Those options of envoy_filter that decide which revision it is.
_FILTER: dict[str, t.Any] = {
    "state": "present",
    "purge": False,
    "engine": None,
    "extension": None,
    "filter_name": None,
    "config": {},
    "redact": True,
}


class Wanted(t.NamedTuple):
    """What one kind should be."""

    kind: Kind
    content: t.Any
    #: what it was made from, with secrets as keyed digests
    view: dict[str, t.Any]
    extension: Extension | None = None


def wanted(
    desired: dict[str, t.Any], secrets: dict[str, str], directory: str, key: bytes
) -> tuple[list[Wanted], list[Kind]]:
    """What each kind should be, and the filters of which nothing should be left.

    :param desired: ``filters``; and ``listeners`` and ``clusters``, or neither of these two.
    :param directory: the gateway's.
    :param key: the gateway's, for the digests that stand for secrets.
    """
    found, purged, types = [], [], {}
    for index, item in enumerate(desired["filters"]):
        given = Mapping(item, f"desired.filters[{index}]").only("name", *_FILTER)
        kind = filter_kind(given.text("name"), given.at("name"))
        options = {**_FILTER, **{name: value for name, value in item.items() if value is not None}}
        if options["state"] == "absent" and options["purge"]:
            purged.append(kind)
            continue
        found.append(Wanted(kind, *revision(options, secrets, key)))
        if desired["listeners"] is not None:
            declared = options["config"].get("@type") if options["engine"] == "native" else None
            types[item["name"]] = filter_type(options["engine"], declared, given.path)
    if desired["listeners"] is not None:
        # Every import costs each run some milliseconds.
        from ansible_collections.moe.gateway.plugins.module_utils import _routing

        clusters = _routing.clusters(desired["clusters"])
        names = [cluster["name"] for cluster in clusters]
        listeners = _routing.listeners(desired["listeners"], types, directory, names)
        for kind, content in ((CLUSTERS, clusters), (LISTENERS, listeners)):
            found.append(Wanted(kind, content, {kind.name: content}))
    return found, purged
