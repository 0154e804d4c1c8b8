# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of what to do, from what is desired, what is on disk, what was confirmed, and what Envoy says of itself."""

from __future__ import annotations

import itertools
import re
import typing as t

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _decision
from ansible_collections.moe.gateway.plugins.module_utils._decision import Confirmed, Disk, Process, Running, decide
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

WANTED, OTHER = "a" * 16, "b" * 16
ENVOY, RESTARTED = Process(100, 5000), Process(100, 9000)  # the same PID, as in a container

W6, W7, W8 = (Version(WANTED, generation) for generation in (6, 7, 8))
O6, O7 = (Version(OTHER, generation) for generation in (6, 7))

FOREIGN = Disk(None, "had been changed by somebody else: its 5 bytes are not JSON")
MISSING = Disk(None, "was missing")


def confirmed(version, process=ENVOY, rejected=0, failed=0):
    return Confirmed(version, process, rejected, failed)


def runs(text, process=ENVOY, rejected=0, failed=0):
    return Running(process, str(text), 9, rejected, failed)


def ran(version, file):
    return f"Envoy ran version {version}, the file held {file}"


def refused(number):
    return f"Envoy had refused {number} update(s) that no run here had pushed and mended"


def failed(number):
    return f"Envoy had failed {number} time(s) to read the file"


def unconfirmed(version):
    return f"version {version} had been published by a run that did not live to confirm it"


class Case(t.NamedTuple):
    what: str
    disk: Disk
    confirmed: Confirmed | None
    running: Running
    action: str
    found: list[str]
    note: bool = False


CASES = [
    # The first run on a gateway: there is nothing to report, whatever the installation left.
    Case("no file, Envoy has read nothing", MISSING, None, runs(""), "published", []),
    Case("a file of somebody else, Envoy runs it", FOREIGN, None, runs("1"), "published", []),
    Case("a deny was installed, Envoy runs it", Disk(O6, initial=True), None, runs(O6), "published", []),
    Case(
        "a deny was installed, Envoy has not read it",
        Disk(O6, initial=True),
        None,
        runs(""),
        "published",
        [ran("none", O6)],
    ),
    Case("a deny is wanted, was installed, and runs", Disk(W6, initial=True), None, runs(W6), "none", [], note=True),
    Case(
        "a deny was installed, but Envoy had refused something before",
        Disk(O6, initial=True),
        None,
        runs(O6, rejected=2),
        "published",
        [refused(2)],
    ),
    # Nothing has happened since the last run.
    Case("all is as it was confirmed", Disk(W7), confirmed(W7), runs(W7), "none", []),
    Case("another revision is wanted", Disk(O7), confirmed(O7), runs(O7), "published", []),
    Case(
        "refusals from before the confirmation don't count",
        Disk(W7),
        confirmed(W7, rejected=3, failed=2),
        runs(W7, rejected=3, failed=2),
        "none",
        [],
    ),
    # Envoy was restarted: it counts from zero, and has read the file at its start.
    Case("restarted, all is well", Disk(W7), confirmed(W7, ENVOY, 3), runs(W7, RESTARTED), "none", [], note=True),
    Case("restarted, another is wanted", Disk(O7), confirmed(O7), runs(O7, RESTARTED), "published", []),
    Case(
        "restarted, the file refused at the start",
        Disk(W7),
        confirmed(W7),
        runs("", RESTARTED, rejected=1),
        "healed",
        [ran("none", W7), refused(1)],
    ),
    Case(
        "restarted, as many refusals as before: they are new all the same",
        Disk(W7),
        confirmed(W7, ENVOY, rejected=3),
        runs(W7, RESTARTED, rejected=3),
        "healed",
        [refused(3)],
    ),
    Case(
        "restarted, the file unreadable at the start",
        Disk(W7),
        confirmed(W7),
        runs("", RESTARTED, failed=1),
        "healed",
        [ran("none", W7), failed(1)],
    ),
    # The file is not what was left there.
    Case("foreign edit, which Envoy runs", FOREIGN, confirmed(W7), runs("x"), "healed", [f"the file {FOREIGN.reason}"]),
    Case("foreign edit in place, unseen", FOREIGN, confirmed(W7), runs(W7), "healed", [f"the file {FOREIGN.reason}"]),
    Case(
        "foreign edit, which Envoy has refused",
        FOREIGN,
        confirmed(W7),
        runs(W7, rejected=1),
        "healed",
        [f"the file {FOREIGN.reason}", refused(1)],
    ),
    Case(
        "foreign edit, and another revision is wanted",
        FOREIGN,
        confirmed(O7),
        runs("x"),
        "published",
        [f"the file {FOREIGN.reason}"],
    ),
    Case(
        "file deleted: Envoy goes on and counts nothing",
        MISSING,
        confirmed(W7),
        runs(W7),
        "healed",
        ["the file was missing"],
    ),
    Case(
        "file deleted, then Envoy restarted: it has nothing",
        MISSING,
        confirmed(W7),
        runs("", RESTARTED),
        "healed",
        ["the file was missing"],
    ),
    Case(
        "truncated by a crash, Envoy could not read it",
        Disk(None, "had been changed by somebody else: its 0 bytes are not JSON"),
        confirmed(W7),
        runs(W7, failed=1),
        "healed",
        ["the file had been changed by somebody else: its 0 bytes are not JSON", failed(1)],
    ),
    Case(
        "an older file of ours was put back",
        Disk(W6),
        confirmed(W7),
        runs(W7),
        "healed",
        [ran(W7, W6), unconfirmed(W6)],
    ),
    Case(
        "an older file of ours was put back, and Envoy runs it",
        Disk(O6),
        confirmed(W7),
        runs(O6),
        "healed",
        [unconfirmed(O6)],
    ),
    # A run was killed.
    Case("before Envoy saw the file", Disk(W7), confirmed(O6), runs(O6), "healed", [ran(O6, W7), unconfirmed(W7)]),
    Case("before the confirmation was noted", Disk(W7), confirmed(O6), runs(W7), "healed", [unconfirmed(W7)]),
    Case(
        "before the confirmation, and now another is wanted",
        Disk(O7),
        confirmed(W6),
        runs(O7),
        "healed",
        [unconfirmed(O7)],
    ),
    Case(
        "before the confirmation, then Envoy restarted",
        Disk(W7),
        confirmed(O6),
        runs(W7, RESTARTED),
        "healed",
        [unconfirmed(W7)],
    ),
    Case("before the first confirmation of all", Disk(W7), None, runs(W7), "healed", [unconfirmed(W7)]),
    Case(
        "after Envoy refused it, before it was put back",
        Disk(W7),
        confirmed(O6),
        runs(O6, rejected=1),
        "healed",
        [ran(O6, W7), refused(1), unconfirmed(W7)],
    ),
    # A rejected update poisons what can be read: FACTS in the design notes.
    Case(
        "somebody's bad content was refused, then ours put back unchanged: a success that was never evaluated",
        Disk(W7),
        confirmed(W7),
        runs(W7, rejected=1),
        "healed",
        [refused(1)],
    ),
    Case(
        "bad content was pushed twice: Envoy counts the second as a success and says that it runs it",
        Disk(W8),
        confirmed(O7),
        runs(W8, rejected=1),
        "healed",
        [refused(1), unconfirmed(W8)],
    ),
    Case(
        "the .so was missing and is mended, the content is the same: Envoy would not evaluate it again",
        Disk(W7),
        None,
        runs(W7, rejected=1),
        "healed",
        [refused(1), unconfirmed(W7)],
    ),
    Case(
        "another process pushed something that Envoy runs, the file is ours",
        Disk(W7),
        confirmed(W7),
        runs("by-hand"),
        "healed",
        [ran("by-hand", W7)],
    ),
    Case(
        "the record is damaged: it can't be known what was refused since",
        Disk(W7),
        None,
        runs(W7, rejected=1, failed=1),
        "healed",
        [refused(1), failed(1), unconfirmed(W7)],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_the_table(case):
    plan = decide(WANTED, case.disk, case.confirmed, case.running)
    assert (plan.action, plan.found, plan.note) == (case.action, case.found, case.note)


DISKS = [Disk(W7), Disk(W6), Disk(O7), Disk(O6, initial=True), Disk(W7, initial=True), FOREIGN, MISSING]
RECORDS = [None] + [confirmed(version, process, 2, 1) for version in (W7, W6, O7) for process in (ENVOY, RESTARTED)]


@pytest.mark.parametrize("record", RECORDS, ids=str)
@pytest.mark.parametrize("disk", DISKS, ids=str)
def test_rules_that_hold_in_every_combination(disk, record):
    texts = ["", "by-hand", str(W7), str(W6), str(O7), str(O6)]
    for text, rejected, failures in itertools.product(texts, (0, 2, 3), (0, 1, 2)):
        running = runs(text, ENVOY, rejected, failures)
        plan = decide(WANTED, disk, record, running)
        trusted = (record.rejected, record.failed) if record and record.process == ENVOY else (0, 0)
        sound = (rejected, failures) == trusted
        in_service = disk.version is not None and disk.version.digest == WANTED and text == str(disk.version)
        settled = disk.initial or (record is not None and record.version == disk.version)
        # Published is not applied: nothing is to do only if every sign says that Envoy runs it, and a run saw it do so.
        assert (plan.action == "none") == (sound and in_service and settled), running
        # "published" is a revision that was not in service before.
        assert plan.action != "published" or record is None or record.version.digest != WANTED, running
        # Only what runs is noted, and after that the next run has nothing to say and nothing to note.
        assert plan.action == "none" or not plan.note, running
        if plan.action == "none":
            noted = Confirmed(disk.version, ENVOY, rejected, failures)
            assert decide(WANTED, disk, noted, running) == ("none", [], False), running


def test_what_a_publish_leaves_needs_nothing_more():
    """A healed revision that Envoy took under its new version, noted with the counters of that moment."""
    plan = decide(WANTED, Disk(W8), confirmed(W8, ENVOY, rejected=4, failed=1), runs(W8, ENVOY, rejected=4, failed=1))
    assert plan == ("none", [], False)


@pytest.mark.parametrize("disk", [Disk(W7), Disk(O7), FOREIGN])
def test_counters_that_were_reset_are_a_doubt(disk):
    """Envoy's admin interface can set its counters back to zero, and nobody knows what they hid then."""
    plan = decide(WANTED, disk, confirmed(W7, rejected=3, failed=2), runs(W7))
    assert plan.action == "healed"
    assert not [line for line in plan.found if re.search(r"-\d+ (update|time)", line)]


@pytest.mark.parametrize("policy", ["hot_restart", "side_by_side"])
@pytest.mark.parametrize(
    ("loaded", "second", "way"), [(True, False, "none"), (True, True, "none"), (False, False, "load")]
)
def test_an_extension_that_may_be_loaded(loaded, second, policy, way):
    assert _decision.way(loaded, second, policy) == way


@pytest.mark.parametrize("policy", ["hot_restart", "side_by_side"])
def test_a_second_go_runtime_goes_by_the_policy(policy):
    assert _decision.way(False, True, policy) == policy
