# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a filter whose gateways hear from an istiod: generations, in a Secret beside the EnvoyFilter.

What ``_store`` is for a gateway's own directory. The Secret is also the lock: who writes it has read what is in it.
"""

from __future__ import annotations

import base64
import json
import os
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._envoy_filter import Target
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._history import Change, Kept
from ansible_collections.moe.gateway.plugins.module_utils._kubernetes import Api, Object, Place, Refused
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version, keyed_digest

_TYPE = "moe.gateway/generations"
#: Seconds between two looks at whether another run has ended.
_PAUSE = 0.3


class Generation(t.NamedTuple):
    kept: Kept
    #: see ``_envoy_filter.manifest``
    type_name: str


class Generations:
    """Those of one filter."""

    def __init__(self, api: Api, target: Target) -> None:
        self.api = api
        self.target = target
        self.place = Place("v1", "secrets", target.namespace, f"moe-gateway.{target.object_name}")
        self._metadata: Object = {}
        #: of the digests
        self.key = os.urandom(32)
        #: the last one that every gateway was seen to run
        self.confirmed: Version | None = None
        #: the last one that every gateway of the canary was seen to run
        self.tried: Version | None = None
        #: the highest number that any gateway may have seen
        self.highest = 0
        #: until when the run that began last may take, by the clock of the API server
        self._until = 0.0
        self._kept: dict[int, Generation] = {}

    def load(self, patience: float) -> None:
        """:param patience: seconds in which a run that is under way has to end."""
        deadline = time.monotonic() + patience
        while True:
            self._load()
            if self._until <= self.api.now():
                return
            if time.monotonic() >= deadline:
                raise Failure(
                    "locked",
                    f"Another run has been changing the filter {self.target.name} for {patience:g} s. Nothing has "
                    "changed; try again.",
                )
            time.sleep(_PAUSE)

    def _load(self) -> None:
        found = self.api.get(self.place)
        if found is None:
            return
        try:
            self._metadata = {"resourceVersion": found["metadata"]["resourceVersion"]}
            self._parse(json.loads(base64.b64decode(found["data"]["generations"])))
        except (KeyError, TypeError, ValueError):
            raise Failure(
                "damaged_file",
                f"The Secret {self.place.namespace}/{self.place.name} does not hold what this collection wrote. Delete "
                "it, and the filter will be published anew, without the generations before.",
                secret=self.place.name,
            ) from None

    def _parse(self, data: Object) -> None:
        self.key = base64.b64decode(data["key"])
        self.highest = int(data["highest"])
        self.confirmed = Version.parse(data["confirmed"])
        self.tried = Version.parse(data.get("tried"))
        self._until = float(data["until"])
        self._kept.clear()
        for item in data["kept"]:
            version = Version.parse(item["version"])
            if version is None or version.digest != self.digest(item["content"]):
                raise ValueError
            kept = Kept(version, item["content"], dict(item["view"]), Change.parse(item["change"]))
            self._kept[version.generation] = Generation(kept, str(item["type"]))

    def digest(self, content: t.Any) -> str:
        return keyed_digest(self.key, f"filter {self.target.name}", content)

    def begin(self, seconds: float) -> int:
        """The number of the next publish, noted before anybody sees it. Whoever else began since ``load`` keeps it.

        :param seconds: what it may take.
        """
        self.highest += 1
        self._until = self.api.now() + seconds
        self._save()
        return self.highest

    def end(self) -> None:
        """Note that nothing is under way any more."""
        self._until = 0.0
        self._save()

    def confirm_canary(self, version: Version | None) -> None:
        """Note that those of the canary run it."""
        self.tried = version
        self.end()

    def confirm(self, generation: Generation, keep: int) -> None:
        """Note that every gateway runs it; of all that were, the last ``keep`` stay."""
        version = generation.kept.version
        self.confirmed = self.tried = version
        self._kept[version.generation] = generation
        for number in sorted(self._kept)[:-keep]:
            del self._kept[number]
        self.end()

    def last_good(self) -> Generation | None:
        return self._kept.get(self.confirmed.generation) if self.confirmed else None

    def all(self) -> list[Generation]:
        """Ascending."""
        return [self._kept[number] for number in sorted(self._kept)]

    def remove(self) -> None:
        self.api.delete(self.place)

    def _save(self) -> None:
        data = {
            "key": base64.b64encode(self.key).decode(),
            "highest": self.highest,
            "until": self._until,
            "confirmed": str(self.confirmed) if self.confirmed else None,
            "tried": str(self.tried) if self.tried else None,
            "kept": [
                {
                    "version": str(item.kept.version),
                    "type": item.type_name,
                    "content": item.kept.content,
                    "view": item.kept.view,
                    "change": item.kept.change._asdict() if item.kept.change else None,
                }
                for item in self.all()
            ],
        }
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": _TYPE,
            "metadata": {"name": self.place.name, "namespace": self.place.namespace, **self._metadata},
            "data": {"generations": base64.b64encode(json.dumps(data).encode()).decode()},
        }
        try:
            saved = self.api.put(self.place, secret)
        except Refused as refused:
            if refused.status == 409:
                raise Failure(
                    "locked",
                    f"Another run has been changing the filter {self.target.name} meanwhile. Nothing that it did was "
                    "undone; try again.",
                ) from None
            code = "api_forbidden" if refused.status == 403 else "api_refused"
            raise Failure(
                code,
                f"The Secret {self.place.namespace}/{self.place.name}, which keeps the generations of the filter, "
                f"can't be written: {refused.message}.",
                status=refused.status,
            ) from None
        self._metadata = {"resourceVersion": saved["metadata"]["resourceVersion"]}
