# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of what the supervisor of the role envoy does, from what it knows and what happens."""

from __future__ import annotations

import importlib.util
import itertools
import pathlib
import random
import signal
import typing as t

import pytest

FILE = pathlib.Path(__file__).resolve().parents[4] / "roles" / "envoy" / "files" / "supervisor.py"


def load() -> t.Any:
    spec = importlib.util.spec_from_file_location("supervisor", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


s = load()
OLD, NEW = s.Command(("envoy-1", "-c", "old"), "old"), s.Command(("envoy-2", "-c", "new"), "new")
#: key, number, command
FIRST, A, B, C = s.Epoch(0, 0, OLD), s.Epoch(1, 1, NEW), s.Epoch(2, 2, NEW), s.Epoch(3, 1, OLD)
KILLED = "was ended by SIGKILL"
GONE = "epoch 1 was ended by SIGKILL before it was ready; epoch 0 serves on"
SLOW = "epoch 1 was not ready in time; epoch 0 serves on"
BUSY = "another epoch is being started already; try again once it serves"
DRAINING = "connections of the last hot restart still drain; try again once that epoch has ended"

EMPTY = s.State()
STARTING = s.State(starting=FIRST, starts=1)
WAITING = STARTING._replace(waiting=True)
SERVING = s.State(serving=FIRST, starts=1)
RELOADING = s.State(serving=FIRST, starting=A, starts=2)
OVERTAKEN = s.State(starting=A, starts=2)
LATE = RELOADING._replace(late=True)
BRINGING_BACK = s.State(serving=FIRST, starting=C, starts=4, refused=GONE)
DRAINS = s.State(serving=A, draining=(FIRST,), starts=2)
THREE = s.State(serving=A, starting=B, draining=(FIRST,), starts=3)


class Case(t.NamedTuple):
    what: str
    state: t.Any
    event: t.Any
    #: what differs afterwards
    changes: dict[str, t.Any]
    #: without what is only said
    actions: list[t.Any]


def ends(number: int, *epochs: t.Any) -> list[t.Any]:
    return [s.End(epoch.key, number) for epoch in epochs]


TERM, KILL = signal.SIGTERM, signal.SIGKILL
CASES = [
    Case("the service begins", EMPTY, s.Begin(OLD), {"starting": FIRST, "starts": 1}, [s.Start(FIRST)]),
    Case(
        "its first Envoy serves", STARTING, s.Live(0), {"serving": FIRST, "starting": None}, [s.Ready(), s.Answer("")]
    ),
    Case("its first Envoy hangs", STARTING, s.Late(0), {"late": True}, ends(KILL, FIRST)),
    Case(
        "its first Envoy ends",
        STARTING,
        s.Ended(0, KILLED, False),
        {"starting": None, "leaving": 1},
        [s.Answer("no Envoy serves"), s.Leave(1)],
    ),
    Case("its first Envoy waits", STARTING, s.Waits(0), {"waiting": True}, [s.Spare(0), s.Ready()]),
    Case("it waits on", WAITING, s.Waits(0), {}, []),
    Case("a reload while it waits", WAITING, s.Reload(NEW), {}, [s.Answer(BUSY)]),
    Case(
        "it is told what to serve",
        WAITING,
        s.Live(0),
        {"serving": FIRST, "starting": None, "waiting": False},
        [s.Answer("")],
    ),
    Case(
        "it ends while it waits",
        WAITING,
        s.Ended(0, KILLED, False),
        {"starting": None, "leaving": 1},
        [s.Answer("no Envoy serves"), s.Leave(1)],
    ),
    Case(
        "told to end while it waits",
        WAITING,
        s.Terminate(),
        {"leaving": 0},
        [s.Answer("told to end"), *ends(TERM, FIRST)],
    ),
    Case("the next one waits, and has its time all the same", RELOADING, s.Waits(1), {}, []),
    Case("a reload while the first starts", STARTING, s.Reload(NEW), {}, [s.Answer(BUSY)]),
    Case("a reload", SERVING, s.Reload(NEW), {"starting": A, "starts": 2}, [s.Start(A)]),
    Case(
        "a reload to what can't be", SERVING, s.Reload(NEW, False, "versions differ"), {}, [s.Answer("versions differ")]
    ),
    Case("a second reload meanwhile", RELOADING, s.Reload(OLD), {}, [s.Answer(BUSY)]),
    Case("a second reload by force", RELOADING, s.Reload(OLD, True), {}, [s.Answer(BUSY)]),
    Case(
        "the new one serves",
        RELOADING,
        s.Live(1),
        {"serving": A, "starting": None, "draining": (FIRST,)},
        [s.Watch(0), s.Answer("")],
    ),
    Case(
        "the new one ends before it was ready, early",
        RELOADING,
        s.Ended(1, KILLED, True),
        {"starting": None},
        [s.Unlock(), s.Answer(GONE)],
    ),
    Case("the new one hangs", RELOADING, s.Late(1), {"late": True}, ends(KILL, A)),
    Case(
        "the new one hung, early",
        LATE,
        s.Ended(1, KILLED, True),
        {"starting": None},
        [s.Unlock(), s.Answer(SLOW)],
    ),
    Case(
        "the new one ended and took the admin interface with it",
        RELOADING._replace(starts=3),
        s.Ended(1, KILLED, False),
        {"starting": C, "starts": 4, "refused": GONE},
        [s.Unlock(), s.Start(C)],
    ),
    Case(
        "the new one hung and took the admin interface with it",
        LATE._replace(starts=3),
        s.Ended(1, KILLED, False),
        {"starting": C, "starts": 4, "refused": SLOW, "late": False},
        [s.Unlock(), s.Start(C)],
    ),
    Case(
        "the new one ended, took the admin interface with it, and its files are still there",
        RELOADING,
        s.Ended(1, KILLED, False, True),
        {"starting": None},
        [s.Unlock(), s.Answer(GONE)],
    ),
    Case(
        "the new one ended early, and its files are still there",
        RELOADING,
        s.Ended(1, KILLED, True, True),
        {"starting": None},
        [s.Unlock(), s.Answer(GONE)],
    ),
    Case(
        "the admin interface is back",
        BRINGING_BACK,
        s.Live(3),
        {"serving": C, "starting": None, "draining": (FIRST,), "refused": ""},
        [s.Watch(0), s.Answer(GONE)],
    ),
    Case(
        "the admin interface does not come back",
        BRINGING_BACK,
        s.Ended(3, "ended with status 1", False),
        {"starting": None, "refused": ""},
        [s.Unlock(), s.Answer(GONE + ", without its admin interface: restart the service")],
    ),
    Case("a reload while the last one drains", DRAINS, s.Reload(OLD), {}, [s.Answer(DRAINING)]),
    Case(
        "a reload by force while the last one drains",
        DRAINS,
        s.Reload(OLD, True),
        {"starting": s.Epoch(2, 2, OLD), "starts": 3},
        [s.Start(s.Epoch(2, 2, OLD))],
    ),
    Case("the old one has drained", DRAINS, s.Ended(0, "ended with status 0"), {"draining": ()}, []),
    Case("the old one never ends", DRAINS, s.Late(0), {}, ends(KILL, FIRST)),
    Case("the old one ends while a third starts", THREE, s.Ended(0, "ended with status 0"), {"draining": ()}, []),
    Case(
        "the serving one dies",
        SERVING,
        s.Ended(0, KILLED, False),
        {"serving": None, "leaving": 1},
        [s.Answer("no Envoy serves"), s.Leave(1)],
    ),
    Case(
        "the serving one dies while the last one drains",
        DRAINS,
        s.Ended(1, KILLED, False),
        {"serving": None, "leaving": 1},
        [s.Answer("no Envoy serves"), *ends(TERM, FIRST)],
    ),
    Case(
        "the serving one dies while another starts",
        RELOADING,
        s.Ended(0, KILLED, False),
        {"serving": None, "leaving": 1},
        [s.Answer("no Envoy serves"), *ends(TERM, A)],
    ),
    Case(
        "the old one ends, told to by the new one, before that was seen to serve",
        RELOADING,
        s.Ended(0, "ended with status 0", False, False, True),
        {"serving": None},
        [],
    ),
    Case(
        "the new one is seen to serve after that",
        OVERTAKEN,
        s.Live(1),
        {"serving": A, "starting": None},
        [s.Ready(), s.Answer("")],
    ),
    Case("a reload in between", OVERTAKEN, s.Reload(OLD, True), {}, [s.Answer(BUSY)]),
    Case(
        "the new one ends in between",
        OVERTAKEN,
        s.Ended(1, KILLED, False),
        {"starting": None, "leaving": 1},
        [s.Answer("no Envoy serves"), s.Leave(1)],
    ),
    Case(
        "the serving one ends by itself",
        SERVING,
        s.Ended(0, "ended with status 0", False, False, True),
        {"serving": None, "leaving": 1},
        [s.Answer("no Envoy serves"), s.Leave(1)],
    ),
    Case("told to end", SERVING, s.Terminate(), {"leaving": 0}, [s.Answer("told to end"), *ends(TERM, FIRST)]),
    Case(
        "told to end with three",
        THREE,
        s.Terminate(),
        {"leaving": 0},
        [s.Answer("told to end"), *ends(TERM, FIRST, A, B)],
    ),
    Case("told to end twice", SERVING._replace(leaving=0), s.Terminate(), {}, []),
    Case(
        "a reload while it ends",
        SERVING._replace(leaving=0),
        s.Reload(NEW),
        {},
        [s.Answer("this service is about to end")],
    ),
    Case("one that starts serves while all end", RELOADING._replace(leaving=0), s.Live(1), {}, []),
    Case(
        "one of two has ended",
        RELOADING._replace(leaving=0),
        s.Ended(1, KILLED),
        {"starting": None},
        [],
    ),
    Case("the last has ended", SERVING._replace(leaving=0), s.Ended(0, KILLED), {"serving": None}, [s.Leave(0)]),
    Case(
        "after a crash, the last has ended",
        SERVING._replace(leaving=1),
        s.Ended(0, ""),
        {"serving": None},
        [s.Leave(1)],
    ),
    Case("news of one that is long gone", DRAINS, s.Ended(77, KILLED), {}, []),
    Case("the serving one says so again", SERVING, s.Live(0), {}, []),
]


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_table(case: Case) -> None:
    state, actions = s.decide(case.state, case.event)
    assert state == case.state._replace(**case.changes)
    assert [action for action in actions if not isinstance(action, s.Say)] == case.actions


def test_whatever_happens_something_serves_or_it_leaves() -> None:
    """In two thousand random lives: no process is lost, and nobody waits for an answer that never comes."""
    chance = random.Random(1)
    for _life in range(2000):
        state, actions = s.decide(EMPTY, s.Begin(OLD))
        alive, asked, left = set(), 0, None
        for step in itertools.count():
            for action in actions:
                if isinstance(action, s.Start):
                    assert action.epoch.key not in alive
                    alive.add(action.epoch.key)
                elif isinstance(action, s.Answer):
                    asked = 0
                elif isinstance(action, s.Leave):
                    left = action.status
            assert {epoch.key for epoch in state.epochs} == alive
            if left is not None:
                assert not alive
                break
            assert state.serving or state.starting or state.leaving is not None
            assert not asked or state.starting
            if state.serving and state.starting:
                assert state.starting.number == state.serving.number + 1
            events: list[t.Any] = [s.Live(key) for key in alive] + [s.Late(key) for key in alive]
            events += [s.Waits(key) for key in alive]
            events += [s.Reload(NEW, chance.random() < 0.3)] * 3
            events += [s.Terminate()] if step > 30 else []
            event = chance.choice(events)
            if chance.random() < 0.2 or (step > 40 and alive):
                event = s.Ended(chance.choice(sorted(alive)), KILLED, *(chance.random() < 0.4 for _flag in range(3)))
            if isinstance(event, s.Ended):
                alive.discard(event.key)
            asked += isinstance(event, s.Reload)
            state, actions = s.decide(state, event)


def test_the_mark_in_the_shared_memory_is_its_last_number() -> None:
    # Envoy tells this size as the second part of `--hot-restart-version`, 11.104.
    assert s._SHARED.size == 104
