# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction for gateways that hear from istiods: validate, publish, confirm by every gateway, or restore.

What ``_transaction`` and ``_execution`` are for one Envoy and its files. How it is decided is the same.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _engines, _envoy_filter, _sync
from ansible_collections.moe.gateway.plugins.module_utils._decision import (
    Confirmed,
    Disk,
    Nouns,
    Plan,
    Process,
    Running,
    decide,
)
from ansible_collections.moe.gateway.plugins.module_utils._envoy_filter import Canary, Found, Target
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._generations import Generation, Generations
from ansible_collections.moe.gateway.plugins.module_utils._history import Change, Kept, now
from ansible_collections.moe.gateway.plugins.module_utils._istiod import Istiod
from ansible_collections.moe.gateway.plugins.module_utils._kubernetes import Api, Object, Place, Refused
from ansible_collections.moe.gateway.plugins.module_utils._mask import mask
from ansible_collections.moe.gateway.plugins.module_utils._resolve import kept_secrets
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

#: Seconds between two looks at istiod.
_PAUSE = 0.03
#: Seconds after which a push that was begun is taken for sent, see ``_sync.judge``.
_SETTLED = 2.0
#: Seconds that others have to say what they think of it, once one has refused it.
_OTHERS = 1.0
#: How often one content is published, where gateways refuse something meanwhile and it is not seen what.
_TRIES = 3
#: A type that istiod does not know, so that it has to refuse it.
_NO_TYPE = {"@type": _engines.TYPE_PREFIX + "moe.gateway.v1.NoSuchType"}
_NOBODY = Process(0, 0)
_Key = tuple[str, str, str]
_NOUNS = Nouns(thing="the EnvoyFilter", runner="a gateway")
_CANARY = Nouns(thing="the EnvoyFilter of the canary", runner="a gateway")


class Desired(t.NamedTuple):
    """What every gateway should run."""

    target: Target
    content: Object
    #: of the filter, also where ``content`` is what refuses all traffic
    type_name: str
    #: what it was made from, with secrets as keyed digests
    view: Object
    #: values that no message may hold
    secrets: t.Collection[str] = ()
    #: so many gateways have to be connected
    at_least: int = 1
    #: raises a ``Failure`` if the gateways do not do what they should
    check_after: t.Callable[[], None] = lambda: None
    #: the generation that it was taken from, where it is not made from variables
    source: Kept | None = None
    #: labels that a gateway has to have besides: only those are brought to it
    canary: dict[str, str] = {}


class Look(t.NamedTuple):
    """What is there of a filter: as it was read, or what is wrong with it."""

    #: the EnvoyFilter for all its gateways
    whole: Found | str | None
    #: the one that some of them have instead
    canary: Found | str | None

    def in_step(self) -> bool:
        """Whether those of the canary, if there are any, have what the others have."""
        if not isinstance(self.whole, Found) or not isinstance(self.canary, Found):
            return self.canary is None
        return self.canary.version == self.whole.version and self.canary.typed == self.whole.typed

    def parts(self, desired: Desired) -> list[Canary | None]:
        """Which objects are to be written, in order: ``None`` is the one for all gateways."""
        before = self.canary.canary if isinstance(self.canary, Found) else None
        if not before and not desired.canary:
            return [None]
        target, inline = desired.target, desired.target.inline
        types = {_envoy_filter.type_in_listener(desired.content, desired.type_name, inline)}
        if isinstance(self.whole, Found):
            whole = self.whole
            types.add(_envoy_filter.type_in_listener(whole.typed, whole.type_name, whole.target.inline))
        labels = {**target.labels, **desired.canary} if desired.canary or not before else before.labels
        canary = Canary(
            labels,
            sorted(_envoy_filter.resource_name(target.name, name) for name in types),
            before.first if before else not isinstance(self.whole, Found),
        )
        # First the one that knows by all names what it takes the place of.
        return [canary] if desired.canary else [canary, None]


class Outcome(t.NamedTuple):
    plan: Plan
    version: Version
    previous: Version | None
    #: milliseconds from the answer to the write to the last gateway's acknowledgement
    propagation_ms: float | None
    #: names of the gateways
    gateways: list[str]
    #: what was confirmed before, for diffs
    before: Object


class Gateways:
    """Those gateways of some istiods that one EnvoyFilter selects."""

    def __init__(self, istiods: list[Istiod], target: Target, timeout: float) -> None:
        self.istiods = istiods
        self.target = target
        self.timeout = timeout
        self._root = ""

    def find(self) -> list[_sync.Proxy]:
        """Those that are connected; a ``Failure`` if no istiod answers."""
        found, down = [], []
        for istiod in self.istiods:
            try:
                self._root = self._root or istiod.root_namespace()
                found += istiod.proxies()
            except Failure as failure:
                if failure.code != "istiod_down":
                    raise
                down.append(failure)
        if len(down) == len(self.istiods):
            raise down[0]
        return _sync.selected(found, self.target.namespace, self.target.labels, self._root)

    def rejects(self) -> dict[str, float]:
        """By istiod, of those that answer."""
        found = {}
        for istiod in self.istiods:
            with contextlib.suppress(Failure):
                found[istiod.url] = istiod.rejects()
        return found

    def dump(self, proxy: _sync.Proxy, types: str = "") -> t.Any:
        """What istiod has for a gateway; ``None`` if that, or its istiod, is gone."""
        (istiod,) = [istiod for istiod in self.istiods if istiod.url == proxy.istiod]
        try:
            return istiod.config_dump(proxy.connection, types)
        except Failure:
            return None

    @property
    def type(self) -> str:
        """Of what carries the filter to them."""
        return _sync.LDS if self.target.inline else _sync.ECDS


class Waiting:
    """One wait for one version.

    :param before: the gateways, and what they had been sent, before it is published.
    """

    def __init__(
        self, gateways: Gateways, version: Version, secrets: t.Collection[str], before: list[_sync.Proxy]
    ) -> None:
        self.gateways = gateways
        self.version = version
        self.secrets = secrets
        self.expected = {proxy.name for proxy in before}
        self._before = {_key(proxy): proxy for proxy in before}
        self._rejects = gateways.rejects()
        self._watches: dict[_Key, _sync.Watch] = {}
        #: what was seen last, and since when
        self._seen: dict[_Key, tuple[object, float]] = {}

    def _sent_since(self, proxy: _sync.Proxy, kind: str) -> bool:
        """Whether it was sent anything of a type since it began."""
        before = self._before.get(_key(proxy))
        return before is None or _ack(proxy, kind).sent != _ack(before, kind).sent

    def _watch(self, proxy: _sync.Proxy) -> tuple[_sync.Watch, bool]:
        """What is known of it, and whether nothing has changed there for long."""
        key, ack = _key(proxy), _ack(proxy, self.gateways.type)
        watch = self._watches.get(key, _sync.Watch())
        seen = watch
        if not watch.first and watch.may_have(ack) and self._sent_since(proxy, self.gateways.type):
            # Later than the acknowledgement that it is held against: so no push is thought older than it is.
            found = self.gateways.dump(proxy)
            seen = watch.seen(_sync.dump(found, self.version), ack.sent) if found is not None else watch
        self._watches[key] = seen
        # One that has got another listener may just have asked for the filter by another name, and what it was sent
        # before would be taken for the answer: that is there at the next look.
        watch = watch if self._sent_since(proxy, _sync.LDS) else seen
        state, since = self._seen.get(key, (None, 0.0))
        if state != (ack, watch):
            since = time.monotonic()
            self._seen[key] = (ack, watch), since
        return watch, time.monotonic() - since > _SETTLED

    def wait(self) -> list[str]:
        """The names of the gateways, once all of them run it; a ``Failure`` if one refuses it or time is up."""
        deadline = time.monotonic() + self.gateways.timeout
        down: Failure | None = None
        grace: float | None = None
        while True:
            try:
                found = self.gateways.find()
                self.expected |= {proxy.name for proxy in found}
                waiting, refused = self._judge(found)
                grace = grace or (time.monotonic() + _OTHERS if refused else None)
                if refused and (not waiting or time.monotonic() >= t.cast(float, grace)):
                    raise self._refusal(refused)
                if not waiting:
                    self._check_rejects()
                    return sorted(self.expected)
                down = None
            except Failure as failure:
                if failure.code != "istiod_down":
                    raise
                waiting, down = dict.fromkeys(self.expected, "has an istiod that does not answer"), failure
            if time.monotonic() >= deadline:
                raise self._late(waiting, down)
            time.sleep(_PAUSE)

    def _judge(self, found: list[_sync.Proxy]) -> tuple[dict[str, str], dict[str, str]]:
        """Which gateways don't run it yet, and which refuse it, and why."""
        waiting = dict.fromkeys(self.expected, "is not connected to any of these istiods any more")
        refused: dict[str, str] = {}
        for proxy in found:
            watch, settled = self._watch(proxy)
            ack, listener = _ack(proxy, self.gateways.type), _ack(proxy, _sync.LDS)
            verdict = _sync.judge(ack, watch, settled)
            waiting.pop(proxy.name, None)
            if verdict == "refused":
                refused[proxy.name] = mask(ack.error, self.secrets)
            elif verdict == "waiting" and listener.error and self._sent_since(proxy, _sync.LDS):
                # Without the listener it never asks for the filter.
                refused[proxy.name] = mask(listener.error, self.secrets)
            elif verdict == "waiting" and watch.first:
                waiting[proxy.name] = "has not acknowledged it"
            elif verdict == "waiting":
                waiting[proxy.name] = "was not sent it"
        return waiting, refused

    def _check_rejects(self) -> None:
        """A refusal looks like an acknowledgement once anything else was pushed; but istiod counts refusals."""
        now = self.gateways.rejects()
        if any(now[url] > self._rejects.get(url, 0) for url in now):
            raise Failure("refused_unseen", "A gateway has refused something meanwhile, and istiod does not say which.")

    def _refusal(self, refused: dict[str, str]) -> Failure:
        reasons = sorted(set(refused.values()))
        names = sorted(refused)
        message = f"{_list(names)} refuse{'s' if len(names) == 1 else ''} it: {'; '.join(reasons)}."
        return Failure("refused_by_envoy", message, gateways=names, reason="; ".join(reasons))

    def _late(self, waiting: dict[str, str], down: Failure | None) -> Failure:
        what = "; ".join(f"{name} {why}" for name, why in sorted(waiting.items()))
        message = f"{self.gateways.timeout:g} s after version {self.version} was published, {what}."
        if down:
            message += f" {down.message}"
        return Failure("not_confirmed", message, gateways=sorted(waiting))


class Mesh:
    """Istiods, and the API server that they read from.

    :param istioctl: a program that judges an EnvoyFilter where the API server does not ask istiod's webhook.
    :param write: false in check mode: then nothing is written.
    :param origin: who asks for what changes.
    """

    def __init__(
        self,
        api: Api,
        istiods: list[Istiod],
        istioctl: str | None,
        timeout: float,
        keep: int,
        write: bool,
        origin: dict[str, str],
    ) -> None:
        self.api = api
        self.istiods = istiods
        self.istioctl = istioctl
        self.timeout = timeout
        self.keep = keep
        self.write = write
        self.origin = origin

    def place(self, target: Target, canary: bool = False) -> Place:
        name = Canary.object_name(target) if canary else target.object_name
        return Place(_envoy_filter.VERSION, _envoy_filter.PLURAL, target.namespace, name)

    def look(self, target: Target) -> Look:
        """What is there; a ``Failure`` if somebody else has an EnvoyFilter of that name."""
        whole, canary = self._current(self.place(target), target), self._current(self.place(target, True), target)
        return Look(_envoy_filter.read(whole) if whole else None, _envoy_filter.read(canary) if canary else None)

    def _current(self, place: Place, target: Target) -> Object | None:
        found = self.api.get(place)
        if found is None:
            return None
        where = f"{place.namespace}/{place.name}"
        if not _envoy_filter.is_ours(found):
            raise Failure(
                "foreign_object",
                f"name: found an EnvoyFilter {where} that this collection has not made, expected none. Choose another "
                "name, or delete that one once this filter is in service. Nothing has changed.",
            )
        other = found["metadata"]["annotations"][_envoy_filter.ANNOTATION]
        if other != target.name:
            raise Failure(
                "name_taken",
                f"name: found the EnvoyFilter {where} of the filter {other}, expected none: Kubernetes has one name "
                f"for both. Call the filter {target.name} otherwise. Nothing has changed.",
            )
        return found

    def bring(self, generations: Generations, desired: Desired, look: Look) -> Outcome:
        """Publish and confirm; in check mode, tell what that would be. Where it fails, what was there is back."""
        target, parts = desired.target, look.parts(desired)
        gateways = Gateways(self.istiods, _selecting(target, parts), self.timeout)
        proxies = gateways.find()
        if len({proxy.name for proxy in proxies}) < desired.at_least:
            raise _too_few(proxies, gateways.target, desired.at_least)
        if isinstance(look.whole, Found):
            self._see_none_left_open(look.whole.target, target)
        digest = generations.digest(_identity(desired))
        plan = _plan(digest, look, desired, generations, proxies, gateways.type)
        before = generations.last_good()
        view = before.kept.view if before else {}
        previous = generations.confirmed
        runs = look.canary if desired.canary and look.canary else look.whole
        if plan.action == "none" and isinstance(runs, Found):
            names = sorted(proxy.name for proxy in proxies)
            if self.write:
                names = self._see(gateways, runs.version, desired)
            return Outcome(plan, runs.version, previous, None, names, view)
        self._validate(desired, parts[-1])
        version = Version(digest, generations.highest + 1)
        if not self.write:
            return Outcome(plan, version, previous, None, sorted(proxy.name for proxy in proxies), view)
        change = Change(
            now(),
            "rolled_back" if desired.source and plan.action == "published" else plan.action,
            str(previous) if previous else None,
            self.origin,
            *(desired.source.origin if desired.source else (None, None)),
        )
        if desired.canary and before and not target.inline and not _stands(look.canary, parts):
            self._set_apart(generations, gateways, desired, look, before)
            proxies = gateways.find()
        # Whoever else began meanwhile goes on, and what the API server does not take changes nothing.
        version = Version(digest, generations.begin(self.timeout))
        waiting = Waiting(gateways, version, desired.secrets, proxies)
        if isinstance(look.canary, str) and not desired.canary:
            # Nobody knows any more which gateways it was for.
            self.api.delete(self.place(target, True))
        begun = self._write(target, desired.content, desired.type_name, version, desired.secrets, parts)
        try:
            version, names = self._confirm(generations, waiting, desired, parts)
            taken = (time.monotonic() - begun) * 1000
            desired.check_after()
        except Failure as failure:
            raise self._restore(generations, gateways, desired, look, failure) from failure
        if not names:
            generations.end()
        elif desired.canary:
            generations.confirm_canary(version)
        else:
            kept = Kept(version, _identity(desired), desired.view, change)
            generations.confirm(Generation(kept, desired.type_name), self.keep)
        return Outcome(plan, version, previous, taken, names, view)

    def _see_none_left_open(self, before: Target, target: Target) -> None:
        """Raise a ``Failure`` for gateways that have the filter, and would serve without it."""
        if before.labels == target.labels:
            return
        found = Gateways(self.istiods, before, self.timeout).find()
        left = sorted({proxy.name for proxy in found if not target.labels.items() <= proxy.labels.items()})
        if left:
            have = "has" if len(left) == 1 else "have"
            raise Failure(
                "gateways_left",
                f"workload_selector: found {_labels(target)}, which {_list(left)} {have} "
                "not, expected labels of all gateways that have the filter: without it these would serve everybody. "
                "For other gateways, call the filter otherwise. Nothing has changed.",
                gateways=left,
            )

    def _set_apart(
        self, generations: Generations, gateways: Gateways, desired: Desired, look: Look, good: Generation
    ) -> None:
        """Give the gateways of a canary what they run already, by the object that is theirs.

        That changes their listeners, where a first configuration that is refused leaves them with none. Whatever comes
        after it changes no listener.
        """
        content = good.kept.content["typed_config"]
        version = Version(good.kept.version.digest, generations.begin(self.timeout))
        secrets = kept_secrets(content, good.kept.view)
        waiting = Waiting(gateways, version, secrets, gateways.find())
        self._write(desired.target, content, good.type_name, version, secrets, look.parts(desired))
        try:
            waiting.wait()
        except Failure as failure:
            raise self._restore(generations, gateways, desired, look, failure) from failure

    def give_up(self, generations: Generations, desired: Desired, look: Look) -> bool:
        """Bring the gateways of a canary back to what the others run; whether that changes anything."""
        if look.in_step():
            return False
        if self.write:
            gateways = Gateways(self.istiods, _selecting(desired.target, look.parts(desired)), self.timeout)
            _version, late = self._back(generations, gateways, desired, look)
            if late:
                raise Failure(late.code, f"filter {desired.target.name}: {late.message}", **late.details)
        return True

    def _see(self, gateways: Gateways, version: Version, desired: Desired) -> list[str]:
        """Nothing is to be written, but one that has just connected may not have it yet."""
        deadline = time.monotonic() + self.timeout
        while True:
            proxies = gateways.find()
            lacking = {}
            for proxy in proxies:
                ack = _ack(proxy, gateways.type)
                dump = gateways.dump(proxy, "lds" if desired.target.inline else "ecds")
                if not (_envoy_filter.holds(dump, version) and ack.is_acked):
                    lacking[proxy.name] = mask(ack.error, desired.secrets) or "has not acknowledged it"
            names = {proxy.name for proxy in proxies}
            if len(names) >= desired.at_least and not lacking:
                return sorted(names)
            if time.monotonic() >= deadline:
                what = "; ".join(f"{name}: {why}" for name, why in sorted(lacking.items())) or "too few are connected"
                raise Failure(
                    "not_confirmed",
                    f"Version {version} is published, and after {self.timeout:g} s not in service everywhere: {what}.",
                    gateways=sorted(lacking),
                )
            time.sleep(_PAUSE)

    def _confirm(
        self, generations: Generations, waiting: Waiting, desired: Desired, parts: list[Canary | None]
    ) -> tuple[Version, list[str]]:
        """The version that the gateways run, and their names."""
        for _more in range(_TRIES - 1):
            try:
                return waiting.version, waiting.wait()
            except Failure as failure:
                if failure.code != "refused_unseen":
                    raise
            # Published anew it is judged anew, and what somebody else's push hid shows, unless it was his.
            version = waiting.version._replace(generation=generations.begin(self.timeout))
            waiting = Waiting(waiting.gateways, version, desired.secrets, waiting.gateways.find())
            self._write(desired.target, desired.content, desired.type_name, version, desired.secrets, parts)
        return waiting.version, waiting.wait()

    def _write(
        self,
        target: Target,
        content: Object,
        type_name: str,
        version: Version,
        secrets: t.Collection[str],
        parts: list[Canary | None],
    ) -> float:
        """:returns: when the API server had all of it."""
        for part in parts:
            place = self.place(target, part is not None)
            try:
                self.api.apply(place, _envoy_filter.manifest(target, content, type_name, version, part))
            except Refused as refused:
                raise _refusal(place, refused, secrets) from None
        return time.monotonic()

    def _validate(self, desired: Desired, part: Canary | None) -> None:
        """Raise a ``Failure`` unless istiod's own types take it, field by field."""
        target, place = desired.target, self.place(desired.target, part is not None)
        plain = _envoy_filter.manifest(target, desired.content, desired.type_name, None, part)
        try:
            warnings = self.api.apply(place, plain, dry_run=True).warnings
        except Refused as refused:
            raise _refusal(place, refused, desired.secrets) from None
        objections, judged = _envoy_filter.objections(warnings), _envoy_filter.is_judged(warnings)
        if objections:
            reason = mask("; ".join(objections), desired.secrets)
            raise Failure(
                "refused_in_validation",
                f"config: istiod would leave a part of it out: {reason}. Nothing has changed.",
                reason=reason,
            )
        if judged or self._refuses_nonsense(target):
            return
        if not self.istioctl:
            raise Failure(
                "no_validator",
                "Nobody has judged it: the API server does not ask istiod's webhook about EnvoyFilters, and istiod "
                "drops one that it can't read, so that gateways would serve without it. Set the webhook up, or name a "
                "program in istioctl. Nothing has changed.",
            )
        from ansible_collections.moe.gateway.plugins.module_utils import _istioctl

        _istioctl.validate(self.istioctl, plain, desired.secrets)

    def _refuses_nonsense(self, target: Target) -> bool:
        """Whether the API server asks a webhook that refuses what istiod can't know."""
        place = self.place(target)
        nonsense = _envoy_filter.manifest(target, _NO_TYPE, _engines.type_name(_NO_TYPE), None)
        try:
            self.api.apply(place, nonsense, dry_run=True)
        except Refused as refused:
            return "admission webhook" in refused.message
        return False

    def _restore(
        self, generations: Generations, gateways: Gateways, desired: Desired, look: Look, failure: Failure
    ) -> Failure:
        """Put back what was there, and return the failure to raise."""
        try:
            version, late = self._back(generations, gateways, desired, look)
        except Failure as second:
            # As when another run has begun since.
            restored, what = "", f"The last good configuration could not be put back: {second.message}"
        else:
            restored = str(version or "nothing")
            what = f"The last good configuration (version {version}) is in service again."
            if not version:
                what = "The EnvoyFilter is gone again, and the gateways serve as they did without it."
            elif late:
                what = f"The last good configuration (version {version}) is published again, not seen in service "
                what += f"everywhere: {late.message}"
        details = {**failure.details, **({"restored": restored} if restored else {})}
        return Failure(failure.code, f"filter {desired.target.name}: {failure.message} {what}", **details)

    def _back(
        self, generations: Generations, gateways: Gateways, desired: Desired, look: Look
    ) -> tuple[Version | None, Failure | None]:
        """Publish the last good generation again: its version, and why it was not seen in service everywhere."""
        good = generations.last_good()
        if good is None:
            self._take_away(generations, gateways, desired, look.parts(desired))
            return None, None
        content, before = good.kept.content["typed_config"], good.kept.change
        target = Target(**good.kept.content["target"])
        version = Version(good.kept.version.digest, generations.begin(self.timeout))
        if desired.canary:
            target, whole = desired.target, look.whole
            if isinstance(whole, Found) and (whole.version.digest, whole.typed) == (version.digest, content):
                # Under which the others have it.
                version = whole.version
        else:
            gateways = Gateways(self.istiods, target, self.timeout)
        secrets = kept_secrets(content, good.kept.view)
        waiting = Waiting(gateways, version, secrets, gateways.find())
        self._write(target, content, good.type_name, version, secrets, look.parts(desired))
        try:
            waiting.wait()
        except Failure as failure:
            # Not confirmed, so the next run sees to it.
            generations.end()
            return version, failure
        if desired.canary:
            generations.confirm_canary(version)
            return version, None
        source = (before.source, before.source_at) if before else (None, None)
        change = Change(now(), "restored", str(good.kept.version), self.origin, *source)
        generations.confirm(Generation(good.kept._replace(version=version, change=change), good.type_name), self.keep)
        return version, None

    def _take_away(
        self, generations: Generations, gateways: Gateways, desired: Desired, parts: list[Canary | None]
    ) -> None:
        """There was none before.

        Envoy keeps what it refused as long as anything asks for it by that name, so it gets something else first.
        """
        target = desired.target
        version = Version(generations.digest(_engines.DENY), generations.begin(self.timeout))
        waiting = Waiting(gateways, version, desired.secrets, gateways.find())
        self._write(target, _engines.DENY, desired.type_name, version, desired.secrets, parts)
        with contextlib.suppress(Failure):
            waiting.wait()
        for part in parts:
            self.api.delete(self.place(target, part is not None))
        generations.confirm_canary(None)

    def remove(self, generations: Generations, target: Target) -> bool:
        """Take the filter out of the chain of every gateway, with all that was kept of it; whether there was any."""
        look = self.look(target)
        if self.write:
            # First the one in whose place the other would come.
            for found, canary in ((look.canary, True), (look.whole, False)):
                if found is not None:
                    self.api.delete(self.place(target, canary))
            generations.remove()
        return look.whole is not None or look.canary is not None


def _key(proxy: _sync.Proxy) -> _Key:
    """Names one connection of one life of one istiod."""
    return proxy.istiod, proxy.connection, proxy.since


def _ack(proxy: _sync.Proxy, kind: str) -> _sync.Ack:
    return proxy.acks.get(kind, _sync.Ack("", "", ""))


def _identity(desired: Desired) -> Object:
    """All that makes one revision another."""
    return {"typed_config": desired.content, "target": desired.target._asdict()}


def _selecting(target: Target, parts: list[Canary | None]) -> Target:
    """With the labels of all gateways that these objects are for."""
    last = parts[-1]
    return target._replace(labels=last.labels) if last else target


def _stands(found: Found | str | None, parts: list[Canary | None]) -> bool:
    """Whether the gateways of a canary have their filter from an object of theirs already."""
    return isinstance(found, Found) and bool(found.canary) and found.canary.labels == parts[-1].labels


def _plan(
    digest: str, look: Look, desired: Desired, generations: Generations, proxies: list[_sync.Proxy], kind: str
) -> Plan:
    if desired.canary and look.canary is not None:
        disk = _disk(look.canary, desired.target, generations)
        confirmed = _confirmed(generations.tried)
        return decide(digest, disk, confirmed, _running(look.canary, proxies, kind), _CANARY)
    disk = _disk(look.whole, None, generations)
    plan = decide(digest, disk, _confirmed(generations.confirmed), _running(look.whole, proxies, kind), _NOUNS)
    if plan.action == "none" and not look.in_step():
        return Plan("healed", [*plan.found, "the EnvoyFilter of the canary was not what the others have"], note=False)
    return plan


def _disk(found: Found | str | None, target: Target | None, generations: Generations) -> Disk:
    """:param target: of the filter, where it has not the labels of the object"""
    if found is None:
        return Disk(None, "was missing")
    if isinstance(found, str):
        return Disk(None, f"had been changed by somebody else: {found}")
    content = {"typed_config": found.typed, "target": (target or found.target)._asdict()}
    if generations.digest(content) != found.version.digest:
        return Disk(None, "had been changed by somebody else: its content does not belong to its version")
    return Disk(found.version)


def _confirmed(version: Version | None) -> Confirmed | None:
    return Confirmed(version, _NOBODY, 0, 0) if version else None


def _running(found: Found | str | None, proxies: list[_sync.Proxy], kind: str) -> Running:
    """What the gateways run, as far as that is a reason to publish: a refusal. One that lags behind is waited for."""
    refused = sum(bool(proxy.acks[kind].error) for proxy in proxies if kind in proxy.acks)
    return Running(_NOBODY, str(found.version) if isinstance(found, Found) else "", 0, refused, 0)


def _refusal(place: Place, refused: Refused, secrets: t.Collection[str]) -> Failure:
    reason = mask(refused.message, secrets)
    if "failed calling webhook" in refused.message:
        return Failure(
            "webhook_down",
            f"istiod's webhook, which has to judge it, can't be asked: {reason}. Nothing has changed.",
            reason=reason,
        )
    if refused.status in (401, 403) and "admission webhook" not in refused.message:
        return Failure(
            "api_forbidden",
            f"The Kubernetes API does not let this apply {place.plural} {place.namespace}/{place.name}: {reason}.",
            status=refused.status,
        )
    return Failure("refused_in_validation", f"config: istiod refuses it: {reason}. Nothing has changed.", reason=reason)


def _too_few(proxies: list[_sync.Proxy], target: Target, expected: int) -> Failure:
    names = sorted({proxy.name for proxy in proxies})
    return Failure(
        "too_few_gateways",
        f"workload_selector: found {len(names)} gateways with {_labels(target)} of the namespace {target.namespace} "
        f"connected to these istiods ({', '.join(names) or 'none'}), expected {expected} or more. Nothing has changed.",
        gateways=names,
    )


def _labels(target: Target) -> str:
    return ", ".join(f"{key}={value}" for key, value in target.labels.items()) or "any labels"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
