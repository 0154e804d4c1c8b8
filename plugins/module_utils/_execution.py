# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The half of the transaction that changes something: publish and confirm; restore if Envoy refuses, and say why.

Most runs have nothing to do, and import none of this.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _publish
from ansible_collections.moe.gateway.plugins.module_utils._admin import Server
from ansible_collections.moe.gateway.plugins.module_utils._decision import Confirmed, Running
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._history import Change, now
from ansible_collections.moe.gateway.plugins.module_utils._kinds import Kind
from ansible_collections.moe.gateway.plugins.module_utils._log import Log
from ansible_collections.moe.gateway.plugins.module_utils._mask import mask
from ansible_collections.moe.gateway.plugins.module_utils._publish import Publish
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version
from ansible_collections.moe.gateway.plugins.module_utils._store import Record

if t.TYPE_CHECKING:
    from ansible_collections.moe.gateway.plugins.module_utils._transaction import Gateway, Outcome, Prepared

#: Seconds between two looks at Envoy while it takes an update: short at first, since it takes one in a millisecond.
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.02


def execute(gateway: Gateway, prepared: Prepared, outcome: Outcome) -> Outcome:
    """Publish and confirm what was prepared, or note what runs already.

    :param outcome: what is known of it so far.
    """
    kind, desired, shelf, plan, version, disk, record, running, server = prepared
    if plan.action == "none":
        change = record.change if record and record.confirmed.version == version else None
        change = change or Change(now(), "noted", None, gateway.origin)
        _publish.confirm(shelf, _record(version, running, desired.view, change), gateway.keep)
        return outcome
    log = Log(server.log_path, running.process.pid)
    spare = shelf.last_good(record)
    if record is None and disk.version and disk.version.generation in shelf.generations():
        # The record was lost, but what is in service is ours, and was kept because a run had confirmed it.
        spare = shelf.content()
    change = _change(gateway, prepared, outcome.previous)
    same = record and shelf.digest(spare) == record.confirmed.version.digest
    again = Change(change.at, "restored", str(version), gateway.origin, *_source(record if same else None))
    notes = (desired.view, change), (outcome.before, again)
    publish = _publish.publish(shelf, desired.content, spare, version, gateway.clock, notes)
    try:
        running, server = _confirm(gateway, kind, version, running)
        propagation = (gateway.clock() - publish.renamed) * 1000
        desired.check_after(running.process)
        if not publish.untouched():
            raise Failure("changed_meanwhile", f"{shelf.live} was changed by somebody else during this run.")
    except Failure as failure:
        raise _restore(gateway, publish, outcome.before, again, failure, log, desired.secrets) from failure
    except Exception as error:
        failure = Failure("internal_error", f"{type(error).__name__}: {error}")
        raise _restore(gateway, publish, outcome.before, again, failure, log, desired.secrets) from error
    publish.accept(_record(version, running, desired.view, change), gateway.keep)
    return outcome._replace(propagation_ms=propagation, server=server, process=running.process)


def _change(gateway: Gateway, prepared: Prepared, previous: Version | None) -> Change:
    """How what is about to be published came to be."""
    source, action, record = prepared.desired.source, prepared.plan.action, prepared.record
    taken: tuple[str | None, str | None] = (None, None)
    if source:
        taken = source.origin
    elif record and record.confirmed.version.digest == prepared.version.digest:
        taken = _source(record)
    if source and action == "published":
        action = "rolled_back"
    return Change(now(), action, str(previous) if previous else None, gateway.origin, *taken)


def _confirm(gateway: Gateway, kind: Kind, version: Version, before: Running | None) -> tuple[Running, Server]:
    """Wait until Envoy's counters show that it has taken ``version`` and put it to use, or has refused it.

    :param before: the counters before the publish; without them a refusal can't be told from an earlier one.
    """
    deadline = gateway.clock() + gateway.timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            process = gateway.admin.peer().process
            running = gateway.admin.running(kind, process)
            if before and process != before.process:
                # Envoy was restarted meanwhile and counts from the beginning; it has read the file at its start.
                before = Running(process, "", 0, 0, 0)
            if running and running.text == str(version):
                if before and running.rejected > before.rejected:
                    # Two subscriptions of one filter's name count in the same statistics: one took it, one did not.
                    raise Failure("refused_by_envoy", "Envoy refuses it in one of its listeners")
                warming = gateway.admin.stats("^(" + "|".join(kind.warming) + ")$") if kind.warming else {}
                server = gateway.admin.server()
                if server.state == "LIVE" and not any(warming.values()):
                    return running, server
                state = "has taken the update but not yet put it to use"
            else:
                state = f"still runs {(running and running.text) or 'nothing'}"
        except Failure as failure:
            # A service manager may be starting it again.
            if failure.code != "envoy_down" or gateway.clock() >= deadline:
                raise
            time.sleep(_LONGEST_PAUSE)
            continue
        if before and running and (running.rejected > before.rejected or running.failed > before.failed):
            raise Failure("refused_by_envoy", "Envoy refuses it")
        if gateway.clock() >= deadline:
            message = f"Envoy {state} {gateway.timeout:g} s after version {version} was published."
            raise Failure("not_confirmed", message)
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _restore(
    gateway: Gateway,
    publish: Publish,
    view: dict[str, t.Any],
    change: Change,
    failure: Failure,
    log: Log,
    secrets: t.Collection[str],
) -> Failure:
    """Put the last good content back, and return the failure to raise."""
    kind = publish.shelf.kind
    try:
        before = gateway.admin.running(kind, gateway.admin.peer().process)
    except Failure:
        # Envoy may hang, or have ended: it reads the file when it comes back.
        before = None
    publish.restore()
    text, details = failure.message, {**failure.details, "refused_version": str(publish.version)}
    if failure.code == "refused_by_envoy":
        details["reason"] = mask(log.reasons(secrets), secrets)
        text = f"Envoy refuses version {publish.version}: {details['reason'] or 'only its log tells why'}."
    # Also where the last good content should have been kept and is not.
    fallback = publish.back.digest == publish.shelf.digest(kind.fallback)
    what = f"Now {kind.fallback_name}" if fallback else f"The last good configuration (version {publish.back})"
    try:
        running, _server = _confirm(gateway, kind, publish.back, before)
        publish.restored(_record(publish.back, running, view, change), gateway.keep)
        details["restored"] = str(publish.back)
        what = f"{what} is in service again."
    except Failure as again:
        details["restored"] = "on disk"
        what = f"{what} is on disk again, not seen in service: {again.message}"
    return Failure(failure.code, f"{kind.name}: {text} {what}", **details)


def _record(version: Version, running: Running, view: dict[str, t.Any], change: Change) -> Record:
    return Record(Confirmed(version, running.process, running.rejected, running.failed), view, now(), change)


def _source(record: Record | None) -> tuple[str | None, str | None]:
    """Where a rollback took from what was confirmed last, if it was one."""
    return (record.change.source, record.change.source_at) if record and record.change else (None, None)
