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
from ansible_collections.moe.gateway.plugins.module_utils._envoy_filter import Found, Target
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
        if not watch.first and ack.push > watch.without and self._sent_since(proxy, self.gateways.type):
            # Later than the acknowledgement that it is held against: so no push is thought older than it is.
            found = self.gateways.dump(proxy)
            watch = watch.seen(_sync.dump(found, self.version)) if found is not None else watch
        self._watches[key] = watch
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

    def place(self, target: Target) -> Place:
        return Place(_envoy_filter.VERSION, _envoy_filter.PLURAL, target.namespace, target.object_name)

    def current(self, target: Target) -> Object | None:
        """The EnvoyFilter; a ``Failure`` if somebody else has one of that name."""
        found = self.api.get(self.place(target))
        if found is None:
            return None
        where = f"{target.namespace}/{target.object_name}"
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

    def bring(self, generations: Generations, desired: Desired, current: Object | None) -> Outcome:
        """Publish and confirm; in check mode, tell what that would be. Where it fails, what was there is back.

        :param current: see :meth:`current`.
        """
        target = desired.target
        found = _envoy_filter.read(current) if current else None
        gateways = Gateways(self.istiods, target, self.timeout)
        proxies = gateways.find()
        if len({proxy.name for proxy in proxies}) < desired.at_least:
            raise _too_few(proxies, desired)
        digest = generations.digest(_identity(desired))
        plan = decide(
            digest, _disk(found, generations), _confirmed(generations), _running(found, proxies, gateways.type), _NOUNS
        )
        before = generations.last_good()
        view = before.kept.view if before else {}
        previous = generations.confirmed
        if plan.action == "none" and isinstance(found, Found):
            names = sorted(proxy.name for proxy in proxies)
            if self.write:
                names = self._see(gateways, found.version, desired)
            return Outcome(plan, found.version, previous, None, names, view)
        self._validate(desired)
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
        # Whoever else began meanwhile goes on, and what the API server does not take changes nothing.
        version = Version(digest, generations.begin(self.timeout))
        waiting = Waiting(gateways, version, desired.secrets, proxies)
        begun = self._write(target, desired.content, desired.type_name, version, desired.secrets)
        try:
            version, names = self._confirm(generations, waiting, desired)
            taken = (time.monotonic() - begun) * 1000
            desired.check_after()
        except Failure as failure:
            raise self._restore(generations, gateways, desired, failure) from failure
        if not names:
            generations.end()
        else:
            kept = Kept(version, _identity(desired), desired.view, change)
            generations.confirm(Generation(kept, desired.type_name), self.keep)
        return Outcome(plan, version, previous, taken, names, view)

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

    def _confirm(self, generations: Generations, waiting: Waiting, desired: Desired) -> tuple[Version, list[str]]:
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
            self._write(desired.target, desired.content, desired.type_name, version, desired.secrets)
        return waiting.version, waiting.wait()

    def _write(
        self, target: Target, content: Object, type_name: str, version: Version, secrets: t.Collection[str]
    ) -> float:
        """:returns: when the API server had it."""
        place = self.place(target)
        try:
            self.api.apply(place, _envoy_filter.manifest(target, content, type_name, version))
        except Refused as refused:
            raise _refusal(place, refused, secrets) from None
        return time.monotonic()

    def _validate(self, desired: Desired) -> None:
        """Raise a ``Failure`` unless istiod's own types take it, field by field."""
        target, place = desired.target, self.place(desired.target)
        plain = _envoy_filter.manifest(target, desired.content, desired.type_name, None)
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

    def _restore(self, generations: Generations, gateways: Gateways, desired: Desired, failure: Failure) -> Failure:
        """Put back what was there, and return the failure to raise."""
        good = generations.last_good()
        try:
            if good is None:
                restored, what = "nothing", self._take_away(generations, gateways, desired)
            else:
                restored, what = self._again(generations, good)
        except Failure as second:
            # As when another run has begun since.
            restored, what = "", f"The last good configuration could not be put back: {second.message}"
        details = {**failure.details, **({"restored": restored} if restored else {})}
        return Failure(failure.code, f"filter {desired.target.name}: {failure.message} {what}", **details)

    def _again(self, generations: Generations, good: Generation) -> tuple[str, str]:
        """Publish a generation again: its new version, and what became of it, for people."""
        content, before = good.kept.content["typed_config"], good.kept.change
        target = Target(**good.kept.content["target"])
        version = Version(good.kept.version.digest, generations.begin(self.timeout))
        secrets = kept_secrets(content, good.kept.view)
        gateways = Gateways(self.istiods, target, self.timeout)
        waiting = Waiting(gateways, version, secrets, gateways.find())
        self._write(target, content, good.type_name, version, secrets)
        what = f"The last good configuration (version {version}) is"
        try:
            waiting.wait()
        except Failure as failure:
            # Not confirmed, so the next run sees to it.
            generations.end()
            return str(version), f"{what} published again, not seen in service everywhere: {failure.message}"
        source = (before.source, before.source_at) if before else (None, None)
        change = Change(now(), "restored", str(good.kept.version), self.origin, *source)
        generations.confirm(Generation(good.kept._replace(version=version, change=change), good.type_name), self.keep)
        return str(version), f"{what} in service again."

    def _take_away(self, generations: Generations, gateways: Gateways, desired: Desired) -> str:
        """There was none before.

        Envoy keeps what it refused as long as anything asks for it by that name, so it gets something else first.
        """
        version = Version(generations.digest(_engines.DENY), generations.begin(self.timeout))
        waiting = Waiting(gateways, version, desired.secrets, gateways.find())
        self._write(desired.target, _engines.DENY, desired.type_name, version, desired.secrets)
        with contextlib.suppress(Failure):
            waiting.wait()
        self.api.delete(self.place(desired.target))
        generations.end()
        return "The EnvoyFilter is gone again, and the gateways serve as they did without it."

    def remove(self, generations: Generations, target: Target) -> bool:
        """Take the filter out of the chain of every gateway, with all that was kept of it; whether there was any."""
        there = self.current(target) is not None
        if self.write:
            if there:
                self.api.delete(self.place(target))
            generations.remove()
        return there


def _key(proxy: _sync.Proxy) -> _Key:
    """Names one connection of one life of one istiod."""
    return proxy.istiod, proxy.connection, proxy.since


def _ack(proxy: _sync.Proxy, kind: str) -> _sync.Ack:
    return proxy.acks.get(kind, _sync.Ack("", "", ""))


def _identity(desired: Desired) -> Object:
    """All that makes one revision another."""
    return {"typed_config": desired.content, "target": desired.target._asdict()}


def _disk(found: Found | str | None, generations: Generations) -> Disk:
    if found is None:
        return Disk(None, "was missing")
    if isinstance(found, str):
        return Disk(None, f"had been changed by somebody else: {found}")
    content = {"typed_config": found.typed, "target": found.target._asdict()}
    if generations.digest(content) != found.version.digest:
        return Disk(None, "had been changed by somebody else: its content does not belong to its version")
    return Disk(found.version)


def _confirmed(generations: Generations) -> Confirmed | None:
    return Confirmed(generations.confirmed, _NOBODY, 0, 0) if generations.confirmed else None


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


def _too_few(proxies: list[_sync.Proxy], desired: Desired) -> Failure:
    target = desired.target
    labels = ", ".join(f"{key}={value}" for key, value in target.labels.items()) or "any labels"
    names = sorted({proxy.name for proxy in proxies})
    return Failure(
        "too_few_gateways",
        f"workload_selector: found {len(names)} gateways with {labels} of the namespace {target.namespace} connected "
        f"to these istiods ({', '.join(names) or 'none'}), expected {desired.at_least} or more. Nothing has changed.",
        gateways=names,
    )


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
