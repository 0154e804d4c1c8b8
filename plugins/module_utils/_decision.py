# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do, from what is desired, what is on disk and what runs. Pure: a table of cases tests it."""

from __future__ import annotations

import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._revision import Version


class Disk(t.NamedTuple):
    """The live file."""

    #: its version, if it holds exactly what this collection published under that version
    version: Version | None
    #: why it has no version; empty if it has one
    reason: str = ""
    #: it holds what stands in for a content that was never published: a deny, or no resources
    initial: bool = False


class Process(t.NamedTuple):
    """Which process Envoy is; a new one has counted nothing yet."""

    pid: int
    #: clock ticks from boot to its start, field 22 of ``/proc/PID/stat``: tells apart two processes of one PID
    started: int


class Confirmed(t.NamedTuple):
    """What the last run of ours saw Envoy run."""

    version: Version
    process: Process
    #: Envoy's ``update_rejected`` and ``update_failure`` at that moment
    rejected: int
    failed: int


class Running(t.NamedTuple):
    """What Envoy says of one subscription."""

    process: Process
    #: its ``version_text``: the last push that it counted as a success
    text: str
    attempts: int
    rejected: int
    failed: int


class Plan(t.NamedTuple):
    """``action`` is ``none``, ``published`` or ``healed``; ``found`` is what was not as it should be, for people."""

    action: str
    found: list[str]
    #: Envoy runs it and the file holds it, but no run of ours has noted that yet
    note: bool


def way(loaded: bool, second: bool, policy: str) -> str:
    """How a running Envoy comes to run an extension.

    ``none``: it has loaded it; ``load``: it may; ``side_by_side``: it may, as a second Go runtime; ``hot_restart``:
    only a new process may, since Go supports one runtime in a process, and never leaves one.

    :param loaded: it is loaded already, whatever else is
    :param second: it is Go's, and another one of Go's is loaded
    :param policy: ``side_by_side`` or ``hot_restart``
    """
    if loaded:
        return "none"
    return policy if second else "load"


class Nouns(t.NamedTuple):
    """What people call what holds a content and what runs it."""

    thing: str
    runner: str


def decide(
    desired: str,
    disk: Disk,
    confirmed: Confirmed | None,
    running: Running,
    nouns: Nouns = Nouns(thing="the file", runner="Envoy"),  # noqa: B008 - it never changes
) -> Plan:
    """:param desired: the digest of the content that should run.

    Envoy's counters can only be believed since a moment when they were known to be right: after a refusal the same
    content pushed again counts as a success (docs/transaction.md). So any refusal or failure since the last
    confirmation, or any in a process that no run of ours has seen, is a doubt, and a doubt is ended by publishing the
    same content again under a new version, which costs nothing and drains nothing.
    """
    found = []
    seen = confirmed is not None and confirmed.process == running.process
    # A first run finds whatever the installation left there: nothing to report.
    if disk.version is None:
        if confirmed is not None:
            found.append(f"{nouns.thing} {disk.reason}")
    elif running.text != str(disk.version):
        found.append(f"{nouns.runner} ran version {running.text or 'none'}, {nouns.thing} held {disk.version}")
    refusals = running.rejected - (confirmed.rejected if seen and confirmed else 0)
    failures = running.failed - (confirmed.failed if seen and confirmed else 0)
    if confirmed is not None or disk.version is not None:
        if refusals > 0:
            found.append(f"{nouns.runner} had refused {refusals} update(s) that no run here had pushed and mended")
        if failures > 0:
            found.append(f"Envoy had failed {failures} time(s) to read the file")
        if refusals < 0 or failures < 0:
            found.append("Envoy's counters had been reset, so what it refused is not known")
    matches = disk.version is not None and disk.version.digest == desired
    doubt = disk.version is None or running.text != str(disk.version) or bool(refusals) or bool(failures)
    unconfirmed = disk.version is not None and (confirmed is None or confirmed.version != disk.version)
    if unconfirmed and not disk.initial:
        # That run may have ended before its probes, which a new publish makes.
        doubt = True
    if unconfirmed and not (disk.initial and confirmed is None):
        found.append(f"version {disk.version} had been published by a run that did not live to confirm it")
    if not matches:
        same = confirmed is not None and confirmed.version.digest == desired
        return Plan("healed" if same else "published", found, note=False)
    if doubt:
        return Plan("healed", found, note=False)
    return Plan("none", found, note=unconfirmed or not seen)
