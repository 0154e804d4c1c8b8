# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an istiod has sent to its gateways and what they acknowledged, from its debug pages. Pure.

Upstream: ``SyncStatus``, ``AdsClients`` and ``connectionConfigDump`` in istiod's ``pilot/pkg/xds/debug.go`` (1.31).

istiod numbers its pushes. The nonce of whatever it sends begins with the number of the push that sent it, and the
``config_dump`` of a gateway tells the number of the last push that began for it together with what that push is made
of. So a gateway runs a revision once it has acknowledged something of a push that is made of that revision.

Of extension configurations, a push and its dump have only what the gateway has asked for by name, which for a new name
it does once it has got the listener. The answer to that has the number of the same push and another UUID.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._envoy_filter import holds
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

TYPE = "type.googleapis.com/"
ECDS = TYPE + "envoy.config.core.v3.TypedExtensionConfig"
LDS = TYPE + "envoy.config.listener.v3.Listener"


class Ack(t.NamedTuple):
    """How far one gateway is with one type of resources."""

    #: nonces; empty before the first
    sent: str
    acked: str
    #: why it refused what was sent last; empty if it did not, and after anything else was sent since
    error: str

    @property
    def push(self) -> int:
        """The number of the push that sent it last."""
        return push_number(self.sent)

    @property
    def is_acked(self) -> bool:
        return bool(self.sent) and self.sent == self.acked and not self.error


class Proxy(t.NamedTuple):
    """A gateway that is connected to an istiod."""

    #: istiod's name for it, ``NAME.NAMESPACE``
    name: str
    namespace: str
    labels: dict[str, str]
    istiod: str
    #: istiod's name for this connection
    connection: str
    #: since when it is: an istiod that was restarted counts from the beginning
    since: str
    #: by type
    acks: dict[str, Ack]


def push_number(text: str) -> int:
    """Of a version, such as ``2030-01-31T12:00:00Z/42``, or of a nonce, which is one with a UUID behind it; else 0."""
    match = re.fullmatch(r"[^/]*/(\d+?)(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?", text)
    return int(match[1]) if match else 0


def proxies(istiod: str, syncz: t.Any, adsz: t.Any) -> list[Proxy]:
    """The gateways of one istiod; those that only one of the two pages has are just coming or going."""
    # Sidecars are none, and an EnvoyFilter for gateways never reaches them.
    states = {entry["proxy"]: entry.get("resources") or {} for entry in syncz if entry.get("proxy_type") == "router"}
    found = []
    for client in adsz.get("clients") or []:
        metadata = client.get("metadata") or {}
        name, _dash, _number = client["connectionId"].rpartition("-")
        if name not in states:
            continue
        acks = {
            url: Ack(item.get("sent", ""), item.get("acked", ""), item.get("lastError", ""))
            for url, item in states[name].items()
        }
        labels = client.get("labels") or metadata.get("LABELS") or {}
        namespace, since = metadata.get("NAMESPACE", ""), client.get("connectedAt", "")
        found.append(Proxy(name, namespace, labels, istiod, client["connectionId"], since, acks))
    return found


def selected(found: t.Iterable[Proxy], namespace: str, labels: dict[str, str], root: str) -> list[Proxy]:
    """Those that an EnvoyFilter is for.

    :param namespace: its own; in ``root``, the mesh's root namespace, it is for gateways of all.
    """
    return [proxy for proxy in found if namespace in (proxy.namespace, root) and labels.items() <= proxy.labels.items()]


class Dump(t.NamedTuple):
    """What the last push that began for a gateway is made of."""

    push: int
    #: whether the revision in question is in it
    holds: bool


def dump(config_dump: t.Any, version: Version) -> Dump:
    return Dump(max(_pushes(config_dump), default=0), holds(config_dump, version))


def _pushes(tree: t.Any) -> t.Iterator[int]:
    """Every ``version_info`` in a dump: all are of one push."""
    if isinstance(tree, dict):
        for key, child in tree.items():
            if key in ("version_info", "versionInfo") and isinstance(child, str):
                yield push_number(child)
            elif key == "configs" or isinstance(child, list):
                yield from _pushes(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from _pushes(child)


class Watch(t.NamedTuple):
    """What is known of one gateway while a revision is on its way to it."""

    #: the highest push that is known not to have it, in what was asked for then
    without: int = 0
    #: the nonce of what had been sent last, when that was known
    stale: str = ""
    #: the lowest push that is known to have it; 0 for none
    first: int = 0

    def seen(self, found: Dump, sent: str) -> Watch:
        """:param sent: the nonce of what had been sent last, before the dump was taken."""
        if not found.holds:
            return Watch(max(self.without, found.push), sent)
        return self._replace(first=min(self.first, found.push) if self.first else found.push)

    def may_have(self, ack: Ack) -> bool:
        """Whether what was sent last may have it."""
        if ack.push == self.without and self.first in (0, self.without):
            return ack.sent not in ("", self.stale)
        return ack.push > self.without


def judge(ack: Ack, watch: Watch, settled: bool) -> str:
    """``done``, ``refused`` or ``waiting``.

    :param settled: nothing of this gateway has changed for long. Where the push that brought the revision went by
        unseen, and later ones had nothing to send, that is how it is told from one that is still sending.
    """
    fresh = watch.first > 0 and watch.may_have(ack)
    if fresh and ack.error:
        return "refused"
    if fresh and ack.is_acked and (ack.push >= watch.first or settled):
        return "done"
    return "waiting"
