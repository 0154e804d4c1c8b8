# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""istio_filter with a canary: some of the gateways of a real istiod get a revision first."""

from __future__ import annotations

import contextlib
import http.client
import pathlib
import threading
import typing as t

import pytest
from control_plane import ControlPlane, Gateway, Object, istio_object
from real import NATIVE, TYPE, htpasswd, request
from test_istio_filter import FOO, NEW, WRONG, Story

from ansible_collections.moe.gateway.plugins.module_utils import _envoy_filter

CANARY = {"canary_selector": {"canary": "true"}}
OBJECT = "basic-auth.canary"


@pytest.fixture
def two(control_plane: ControlPlane, basic_auth: pathlib.Path, upstream: int, tmp_path: pathlib.Path) -> Story:
    control_plane.validate(control_plane.istiods[0])
    story = Story(control_plane, basic_auth, upstream, tmp_path)
    story.gateway("canary", labels={"canary": "true"})
    story.gateway("other")
    return story


def versions(story: Story) -> list[str | None]:
    """Of the EnvoyFilter, and the one of the canary."""
    found = [_envoy_filter.read(obj) if obj else None for obj in map(story.object, ("basic-auth", OBJECT))]
    return [str(item.version) if isinstance(item, _envoy_filter.Found) else item for item in found]


@contextlib.contextmanager
def asking(gateway: Gateway, credential: str | None) -> t.Iterator[set[int]]:
    """Somebody asks all the time, each time anew; what was answered."""
    seen: set[int] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.002):
            seen.add(gateway.get(credential))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def guarded(two: Story) -> t.Iterator[Story]:
    """It is in service, and whoever has a wrong credential is never let in, whatever happens."""
    two.good()
    with contextlib.ExitStack() as stack:
        seen = [stack.enter_context(asking(gateway, WRONG)) for gateway in two.gateways]
        yield two
    assert seen == [{401}, {401}]


def test_first_the_canary_and_then_all(guarded: Story) -> None:
    canary, other = guarded.gateways
    untouched = other.admin.stats(r"^listener_manager\.listener_modified$")
    checked = guarded.good(NEW, check=True, **CANARY)
    assert (checked["action"], checked["gateways"], guarded.object(OBJECT)) == (
        "published",
        ["canary.istio-system"],
        None,
    )
    done = guarded.good(NEW, **CANARY)
    assert (done["action"], done["gateways"]) == ("published", ["canary.istio-system"])
    guarded.answers(NEW, 200, 401)
    guarded.answers(FOO, 401, 200)
    for check in (True, False):
        again = guarded.good(NEW, check=check, **CANARY)
        assert (again["action"], again["version"]) == ("none", done["version"])
    assert other.admin.stats(r"^listener_manager\.listener_modified$") == untouched

    # From here on nothing drains any more, and each change is in effect at once, on open connections too.
    counted = r"^listener_manager\.(listener_modified|listener_in_place_updated)$"
    listeners = canary.admin.stats(counted)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", canary.port, timeout=10)) as connection:
        assert (request(connection, NEW), request(connection, FOO)) == (200, 401)
        with asking(canary, NEW) as seen:
            whole = guarded.good(NEW)
        assert seen == {200}
        assert (whole["action"], whole["gateways"]) == ("published", ["canary.istio-system", "other.istio-system"])
        guarded.answers(NEW, 200, 200)
        guarded.answers(FOO, 401, 401)
        assert versions(guarded) == [whole["version"]] * 2
        for options in ({}, CANARY):
            for check in (True, False):
                assert guarded.good(NEW, check=check, **options)["action"] == "none"
        guarded.good(FOO, **CANARY)
        assert (request(connection, FOO), request(connection, NEW)) == (200, 401)
    # Without a canary it is one revision for all, the next time; and so is the way back.
    guarded.good(NEW)
    guarded.answers(NEW, 200, 200)
    assert guarded.back()["action"] == "rolled_back"
    guarded.answers(FOO, 200, 200)
    assert versions(guarded)[0] == versions(guarded)[1]
    assert canary.admin.stats(counted) == listeners


def test_the_canary_refuses(guarded: Story) -> None:
    canary, other = guarded.gateways
    before = versions(guarded)[0]
    pushed = other.admin.stats(r"^listener_manager\.listener_modified$")
    with asking(canary, FOO) as seen, asking(other, FOO) as others:
        result = guarded.bad("refused_by_envoy", NEW, config={"users": "none"}, **CANARY)
        assert result["failure"]["details"]["gateways"] == ["canary.istio-system"]
        assert f"The last good configuration (version {before}) is in service again." in result["msg"]
        assert result["action"] == "restored"
    assert seen == others == {200}
    assert versions(guarded) == [before, before]
    assert other.admin.stats(r"^listener_manager\.listener_modified$") == pushed
    probe = {"url": f"http://127.0.0.1:{canary.port}/", "headers": {"host": "httpbin.example.com"}, "status": 418}
    guarded.bad("probe_failed", NEW, probe=[probe], **CANARY)
    guarded.answers(FOO, 200, 200)
    assert versions(guarded) == [before, before]
    assert guarded.good()["action"] == "none"


def test_a_canary_is_given_up(guarded: Story) -> None:
    given_up = {**CANARY, "state": "absent"}
    assert guarded.good(**given_up)["action"] == "none"
    guarded.good(NEW, **CANARY)
    for check, action in ((True, "restored"), (False, "restored"), (True, "none"), (False, "none")):
        assert guarded.good(check=check, **given_up)["action"] == action
    guarded.answers(FOO, 200, 200)
    assert guarded.good(**CANARY)["action"] == "none"


def test_a_canary_of_what_was_not_there(two: Story) -> None:
    two.bad("refused_by_envoy", config={"users": "none"}, **CANARY)
    assert versions(two) == [None, None]
    two.gateways[0].statuses(None, 200)
    two.good(**CANARY)
    two.answers(None, 401, 200)
    two.good(**CANARY, state="absent")
    assert versions(two) == [None, None]
    two.gateways[0].statuses(None, 200)
    two.good(**CANARY)
    with asking(two.gateways[0], FOO) as seen, asking(two.gateways[0], WRONG) as wrong:
        two.good()
    assert (seen, wrong) == ({200}, {401})
    two.answers(FOO, 200, 200)
    two.answers(None, 401, 401)
    # It passes one filter, not two of the kind.
    dump = two.gateways[0].admin.get("/config_dump")
    assert b'"basic_auth~canary.DynamicModuleFilter"' in dump
    assert b'"basic_auth.DynamicModuleFilter"' not in dump
    two.good(state="absent", purge=True)
    assert versions(two) == [None, None]
    for gateway in two.gateways:
        gateway.statuses(None, 200)


def test_somebody_else_edits_the_canary(guarded: Story) -> None:
    guarded.good(NEW, **CANARY)
    guarded.good(NEW)
    edited = t.cast(Object, guarded.object(OBJECT))
    spec = edited["spec"]
    spec["configPatches"].append(spec["configPatches"][0])
    guarded.plane.api.apply(istio_object("EnvoyFilter", OBJECT, spec), manager="somebody")
    healed = guarded.good(NEW)
    assert (healed["action"], healed["found"]) == (
        "healed",
        ["the EnvoyFilter of the canary was not what the others have"],
    )
    assert guarded.good(NEW)["action"] == "none"
    guarded.answers(NEW, 200, 200)


def test_a_canary_with_another_engine(guarded: Story) -> None:
    config = {"@type": TYPE + NATIVE["type"], "users": {"inline_string": "${secret.users}"}}
    native = {"engine": "native", "extension": None, "config": config, "secrets": {"users": htpasswd("foo", "x")}}
    guarded.good(**native, **CANARY)
    guarded.answers("foo:x", 200, 401)
    guarded.good(**native)
    guarded.answers("foo:x", 200, 200)
    guarded.good(**CANARY)
    guarded.answers(FOO, 200, 401)
    guarded.good(**CANARY, state="absent")
    guarded.answers("foo:x", 200, 200)


def test_a_canary_inline(two: Story) -> None:
    two.good(inline=True)
    two.good(NEW, inline=True, **CANARY)
    two.answers(NEW, 200, 401)
    two.good(NEW, inline=True)
    for gateway in two.gateways:
        gateway.statuses(NEW, 200)


def test_nobody_is_a_canary(two: Story) -> None:
    two.good()
    result = two.bad("too_few_gateways", NEW, canary_selector={"canary": "none"})
    assert "found 0 gateways with istio=ingressgateway, canary=none" in result["msg"]
    assert "canary_selector.canary: found 1" in two.bad("invalid_option", canary_selector={"canary": 1})["msg"]
    assert "canary_selector: found" in two.bad("invalid_option", **CANARY, state="absent", purge=True)["msg"]
