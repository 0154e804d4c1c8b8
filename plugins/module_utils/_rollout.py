# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction for the Pods of one Deployment: change what files they have, wait for the rollout, or undo it."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _envoy_filter, _mounts
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._kubernetes import Api, Object, Place, Refused, failure
from ansible_collections.moe.gateway.plugins.module_utils._mounts import File

#: Seconds between two looks at a rollout, and between two looks at why it is late.
_PAUSE = 0.2
_LOOK = 2.0


class Outcome(t.NamedTuple):
    before: list[File]
    after: list[File]
    #: its Pods
    selector: dict[str, str]
    replicas: int
    #: how many of them serve
    available: int
    #: why a rollout may leave no Pod that serves, if there is one
    gap: str


class Rollout:
    """:param container: the one that gets the files.

    :param write: false in check mode: then nothing is changed.
    """

    def __init__(self, api: Api, namespace: str, name: str, container: str, timeout: float, write: bool) -> None:
        self.api = api
        self.place = Place(_mounts.VERSION, _mounts.PLURAL, namespace, name)
        self.container = container
        self.timeout = timeout
        self.write = write

    def bring(
        self, wanted: list[File], namespaces: t.Iterable[str], leaving: t.Collection[str], absent: bool
    ) -> Outcome:
        """Let the Pods have these files, or none from this collection.

        :param namespaces: where EnvoyFilters are that may name files.
        :param leaving: names of filters that do not count.
        """
        found = self._deployment()
        _mounts.check(found)
        before = _mounts.ours(found, self.container)
        filters = [item for item in self._filters(namespaces) if _envoy_filter.carries(item) not in leaving]
        if absent:
            after: list[File] = []
            if needed := _mounts.needed(before, filters):
                what = ", ".join(f"EnvoyFilter {name} names {path}" for path, name in needed.items())
                raise Failure(
                    "in_use", f"state: {what}. Take the filter away first. Nothing has changed.", files=list(needed)
                )
        else:
            after = _mounts.plan(found, self.container, wanted, _mounts.named(filters))
        changes = after != before
        replicas, gap = found["spec"].get("replicas", 1), _mounts.gap(found) if changes else ""
        outcome = Outcome(before, after, _mounts.selector(found), replicas, _mounts.available(found), gap)
        if changes:
            # What it has to see later, it sees before anything changes.
            self._reasons(self._pods(found))
            self._apply(after, dry_run=True)
        if not self.write:
            return outcome
        if changes:
            self._apply(after)
        try:
            self._wait(after)
        except Failure as reason:
            raise self._undo(before, reason) if changes else reason from None
        return outcome._replace(available=replicas)

    def _deployment(self) -> Object:
        found = self.api.get(self.place)
        if found is None:
            raise invalid("deployment", f"none at {self.place.namespace}/{self.place.name}", "one that exists")
        return found

    def _filters(self, namespaces: t.Iterable[str]) -> list[Object]:
        places = [Place(_envoy_filter.VERSION, _envoy_filter.PLURAL, name, "") for name in dict.fromkeys(namespaces)]
        return [item for place in places for item in self.api.items(place)]

    def _apply(self, files: list[File], dry_run: bool = False) -> None:
        value = _mounts.manifest(self.place.namespace, self.place.name, self.container, files)
        try:
            self.api.apply(self.place, value, dry_run)
        except Refused as refused:
            raise failure("change", self.place, refused) from None

    def _wait(self, files: list[File]) -> None:
        """Until every Pod has these files, and no other is left; a ``Failure`` with the reasons if that is late."""
        deadline, looked = time.monotonic() + self.timeout, time.monotonic()
        while True:
            now = time.monotonic()
            try:
                found = self._deployment()
                if set(_mounts.ours(found, self.container)) != set(files):
                    raise Failure("changed_meanwhile", f"Somebody else has changed {self.place} meanwhile.")
                pods = self._pods(found)
                late = _mounts.unfinished(found, pods)
                if not late:
                    return
                if now >= deadline or now >= looked + _LOOK:
                    looked, reasons = now, self._reasons(pods)
                    if now >= deadline or any(map(_mounts.hopeless, reasons)):
                        raise self._late(late, reasons)
            except Failure as reason:
                # A rollout goes on without the API server.
                if reason.code != "api_down" or now >= deadline:
                    raise
            time.sleep(_PAUSE)

    def _late(self, late: str, reasons: list[str]) -> Failure:
        message = f"{self.place} does not come up: {late}. {' '.join(f'{reason}.' for reason in reasons)}".rstrip()
        if any(map(_mounts.hopeless, reasons)):
            message += (
                " The node lacks that file, or has a directory in its place: run the role envoy_extensions there."
            )
        return Failure("not_rolled_out", message, reasons=reasons)

    def _pods(self, deployment: Object) -> list[Object]:
        labels = ",".join(f"{key}={value}" for key, value in _mounts.selector(deployment).items())
        return self.api.items(Place("v1", "pods", self.place.namespace, ""), labelSelector=labels)

    def _reasons(self, pods: list[Object]) -> list[str]:
        events = self.api.items(
            Place("v1", "events", self.place.namespace, ""), fieldSelector="involvedObject.kind=Pod,type=Warning"
        )
        return sorted(filter(None, (_mounts.trouble(pod, events) for pod in _mounts.troubled(pods))))

    def _undo(self, files: list[File], reason: Failure) -> Failure:
        """Put back what was there, and return the failure to raise."""
        if reason.code == "changed_meanwhile":
            return reason
        details, what = dict(reason.details), ""
        try:
            self._apply(files)
            details["restored"] = list(map(str, files))
            self._wait(files)
            what = "The Pods have again what they had before."
        except Failure as second:
            what = f"What was there before {'is back, but' if 'restored' in details else 'could not be put back:'} "
            what += second.message
        return Failure(reason.code, f"{reason.message} {what}", **details)
