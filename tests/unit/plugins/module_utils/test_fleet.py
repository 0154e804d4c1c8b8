# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what each gateway tells to one picture and a verdict."""

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._fleet import STATES, Host, ago, duration, fleet, short, table

NOW = "2030-01-31T12:00:00Z"
VERSION, OTHER = "a" * 16 + "-12", "b" * 16 + "-11"
CHANGE = {"at": "2030-01-31T09:00:00Z", "action": "published", "origin": {"by": "alice@ops1"}}
ROLLED_BACK = {**CHANGE, "action": "rolled_back"}
EXTENSION = {"path": "/x/f.so", "sha256": "c" * 64, "loaded": True}


def item(name="f", **more):
    return {
        "name": name,
        "running_version": VERSION,
        "disk_version": VERSION,
        "disk_problem": None,
        "in_service": True,
        "closed": False,
        "expiries": [],
        "extension": EXTENSION,
        "change": CHANGE,
        "generations": [],
        "desired_digest": "a" * 16,
        "action": "none",
        "found": [],
        "counters": {"attempts": 3, "rejected": 0, "failed": 0},
        **more,
    }


#: What an istiod brings: all else is told by a check of ``istio_filter``.
BROUGHT = {"name": "f", "running_version": None, "closed": False, "extension": EXTENSION, "counters": {}}
PUBLISHED = {"version": VERSION, "previous_version": VERSION, "action": "none", "found": [], "runs": True}


def told(*filters, **more):
    return {
        "envoy": {"version": "1.40.0", "state": "LIVE", "restart_epoch": 0, "uptime_s": 90061},
        "listeners": [{"name": "ingress", "address": "0.0.0.0:80", "filters": ["f"]}],
        "filters": list(filters) or [item()],
        "resources": [item("listeners", extension=None)],
        "counters": {},
        **more,
    }


def pods(**more):
    return {"replicas": 2, "available": 2, "files": ["/a"], "previous_files": ["/a"], **more}


def ends(at, name="foo"):
    return [{"path": "config.users[0].not_after", "name": name, "at": at}]


def failed(code, msg="why"):
    return {"msg": msg, "failure": {"code": code}}


#: what a gateway tells → its state, and what the first problem or warning says
STATE = [
    ("fine", Host("h", told()), "ok", ""),
    ("unreachable", Host("h", {"unreachable": True, "msg": "no\nroute"}), "unreachable", "no route"),
    ("never looked at", Host("h", {}), "unknown", "it was not looked at"),
    ("denied", Host("h", failed("admin_denied")), "unknown", "why"),
    ("a mistake in the variables", Host("h", {"failed": True, "msg": "undefined"}), "unknown", "undefined"),
    ("no Envoy", Host("h", failed("envoy_down")), "down", "why"),
    ("of an istiod", Host("h", told(control_plane={"connected": True, "name": "istiod"})), "ok", ""),
    ("it has what istiod was told", Host("h", told(BROUGHT), published={"f": PUBLISHED}), "ok", ""),
    (
        "it has something else than istiod was told",
        Host("h", told(BROUGHT), published={"f": {**PUBLISHED, "runs": False}}),
        "drifted",
        "f: no run has confirmed it",
    ),
    (
        "istiod is to be told something else",
        Host("h", told(BROUGHT), published={"f": {**PUBLISHED, "action": "published", "version": OTHER}}),
        "drifted",
        "f: not what the variables say",
    ),
    (
        "it has not got it yet",
        Host("h", told({**BROUGHT, "closed": True}), published={"f": {**PUBLISHED, "runs": False}}),
        "drifted",
        "f: the gateway has not got it, and refuses all traffic",
    ),
    (
        "istiod can't be asked",
        Host("h", told(BROUGHT), published={"f": {"msg": "no answer"}}),
        "unknown",
        "f: what istiod is to bring can't be told: no answer",
    ),
    (
        "of an istiod that is gone",
        Host("h", told(control_plane={"connected": False, "name": "istiod"})),
        "drifted",
        "Envoy is connected to no control plane, and goes on with what it has",
    ),
    ("in Kubernetes", Host("h", pods(), published={"f": PUBLISHED}), "ok", ""),
    ("not one Pod serves", Host("h", pods(available=0)), "down", "none of 2 Pods serves"),
    ("no Pod is wanted", Host("h", pods(available=0, replicas=0)), "down", "it has no Pods"),
    ("a Pod does not serve", Host("h", pods(available=1)), "drifted", "1 of 2 Pods serve"),
    ("Pods lack a file", Host("h", pods(files=["/a", "/b"])), "drifted", "its Pods lack /b"),
    ("the cluster can't be asked", Host("h", failed("api_down")), "unknown", "why"),
    (
        "a Pod has not got it yet",
        Host("h", pods(), published={"f": {**PUBLISHED, "runs": False}}),
        "drifted",
        "f: not every Pod has acknowledged it",
    ),
    (
        "the istiod of Pods can't be asked",
        Host("h", pods(), published={"f": {"msg": "no answer", "runs": False}}),
        "unknown",
        "f: what istiod is to bring can't be told: no answer",
    ),
    ("a hung Envoy", Host("h", failed("envoy_hung")), "down", "why"),
    (
        "draining",
        Host("h", told(envoy={"version": "1.40.0", "state": "DRAINING", "restart_epoch": 0, "uptime_s": 1})),
        "closed",
        "Envoy is DRAINING",
    ),
    ("no listener", Host("h", told(listeners=[])), "closed", "Envoy has no listener"),
    ("no listener, and none is wanted", Host("h", told(listeners=[]), listens=False), "ok", ""),
    (
        "a filter without a revision",
        Host("h", told(item(closed=True, extension=None, desired_digest="b" * 16))),
        "closed",
        "f: refuses all traffic, since it has no revision",
    ),
    (
        "a filter of which Envoy took nothing",
        Host("h", told(item(closed=True, running_version="", desired_digest="b" * 16))),
        "closed",
        "f: refuses all traffic, since it has none that Envoy took",
    ),
    ("a filter that shall refuse all", Host("h", told(item(closed=True, extension=None))), "ok", ""),
    ("another Envoy", Host("h", told(), "1.39.3"), "drifted", "Envoy 1.40.0 runs, envoy_version is 1.39.3"),
    ("the right Envoy", Host("h", told(), "1.40.0"), "ok", ""),
    ("a filter that nobody names", Host("h", told(), "", ("f", "g")), "drifted", "g: no listener names this filter"),
    (
        "changed by somebody else",
        Host(
            "h", told(item(in_service=False, disk_version=None, disk_problem="was missing", found=["the file was …"]))
        ),
        "drifted",
        "f: the file was missing",
    ),
    (
        "refused since",
        Host("h", told(item(in_service=False, action="healed", found=["Envoy had refused 1 update(s)"]))),
        "drifted",
        "f: Envoy had refused 1 update(s)",
    ),
    ("unconfirmed", Host("h", told(item(in_service=False))), "drifted", "f: no run has confirmed it"),
    ("other variables", Host("h", told(item(desired_digest="b" * 16))), "drifted", "f: not what the variables say"),
    (
        "rolled back",
        Host("h", told(item(desired_digest="b" * 16, change=ROLLED_BACK))),
        "drifted",
        "f: not what the variables say: it was rolled back at 2030-01-31T09:00:00Z by alice@ops1",
    ),
    ("nothing desired", Host("h", told(item(desired_digest=None))), "ok", ""),
    (
        "another library",
        Host("h", told(item(extension={**EXTENSION, "loaded": False}))),
        "drifted",
        "f: Envoy does not run /x/f.so",
    ),
    (
        "listeners changed by somebody else",
        Host("h", told(resources=[item("listeners", in_service=False, disk_problem="was missing", disk_version=None)])),
        "drifted",
        "listeners: the file was missing",
    ),
    (
        "expired",
        Host("h", told(item(expiries=ends(NOW)))),
        "expired",
        "f: config.users[0].not_after (foo) expired at 2030-01-31T12:00:00Z",
    ),
    (
        "about to expire",
        Host("h", told(item(expiries=ends("2030-02-14T12:00:00Z")))),
        "expiring",
        "f: config.users[0].not_after (foo) expires at 2030-02-14T12:00:00Z",
    ),
    ("not yet about to", Host("h", told(item(expiries=ends("2030-02-14T12:00:01Z")))), "ok", ""),
    (
        "drifted and expired",
        Host("h", told(item(desired_digest="b" * 16, expiries=ends(NOW)))),
        "drifted",
        "f: not what the variables say",
    ),
    ("somebody else's filter", Host("h", told({"name": "X", "running_version": None, "counters": {}})), "ok", ""),
]


@pytest.mark.parametrize(("host", "state", "text"), [case[1:] for case in STATE], ids=[case[0] for case in STATE])
def test_states(host, state, text):
    picture = fleet([host], NOW, 14)
    (row,) = picture["hosts"]
    assert row["state"] == state
    assert (row["problems"] + row["warnings"] or [""])[0] == text
    assert picture["ok"] is (state in ("ok", "expiring"))
    assert picture["failures"] == ({} if picture["ok"] else {"h": "; ".join(row["problems"])})
    assert picture["counts"] == {**dict.fromkeys(STATES, 0), state: 1}
    assert any(line.startswith(f"h: {state}: ") for line in table(picture)) is bool(text)


def test_every_state_has_a_case():
    assert {case[2] for case in STATE} == set(STATES)


def test_the_picture():
    counters = {
        "http.ingress.downstream_rq_total": 7,
        "http.other.downstream_rq_total": 3,
        "http.admin.downstream_rq_total": 99,
        "http.ingress.downstream_cx_active": 2,
        "dynamicmodulescustom.f.allowed": 5,
    }
    later = {**CHANGE, "at": "2030-01-31T10:00:00Z"}
    sooner = told(item(expiries=ends("2031-01-01T00:00:00Z") + ends("2030-06-01T00:00:00Z")), item("g", change=later))
    picture = fleet([Host("a", {**sooner, "counters": counters}), Host("b", {"unreachable": True})], NOW, 14)
    assert picture["summary"] == "1 of 2 gateways is fine; 1 unreachable."
    row = picture["hosts"][0]
    assert row["counters"] == {"requests": 10, "connections": 2, "extensions": {"f.allowed": 5}}
    assert row["last_change"] == {"what": "g", **later}
    assert row["expires"] == "2030-06-01T00:00:00Z"
    assert (row["filters"][0]["as_desired"], row["filters"][0]["disk"]) == (True, VERSION)


def test_no_gateways():
    picture = fleet([], NOW, 14)
    assert (picture["ok"], picture["summary"]) == (True, "There are no gateways.")
    assert table(picture)[-1] == "There are no gateways."


def test_the_table_has_a_line_for_each_filter_and_columns():
    other = item("g", desired_digest="b" * 16, running_version=OTHER, extension=None, expiries=ends(NOW))
    lines = table(fleet([Host("gateway1", told(item(), other)), Host("b", {"unreachable": True})], NOW, 14))
    columns = [lines[0].index(name) for name in ("STATE", "FILTER", "DESIRED", "DISK", "RUNS", "EXTENSION", "LAST")]
    assert [lines[1][at:].split("  ")[0] for at in columns] == [
        "drifted", "f", "=", "aaaaaa-12", "=", "cccccccccccc", "3 h ago, published by alice@ops1",
    ]  # fmt: skip
    assert [lines[2][at:].split("  ")[0] for at in columns[1:6]] == ["g", "bbbbbb", "aaaaaa-12", "bbbbbb-11", "–"]
    assert lines[2].startswith(" " * len("gateway1"))
    assert lines[3].split() == ["b", "unreachable", *["–"] * 11]


def test_the_table_counts_pods():
    lines = table(fleet([Host("ingress", pods(available=1), published={"f": PUBLISHED})], NOW, 14))
    assert lines[1].split()[:7] == ["ingress", "drifted", "1", "of", "2", "Pods", "–"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90061, "1 d 1 h"), (86400, "1 d"), (0.9, "0 s")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_times_and_versions():
    assert ago("2030-01-31T09:00:00Z", NOW) == "3 h ago"
    assert ago("2030-02-01T12:00:00Z", NOW) == "in 1 d"
    assert [short(text) for text in (VERSION, "a" * 16, "foreign", "", None)] == [
        "aaaaaa-12", "aaaaaa", "foreig", "–", "–",
    ]  # fmt: skip
