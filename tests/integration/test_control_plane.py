# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane that the tests of Istio run is a real one, does what it should, and refuses what it should."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from certificates import Authority
from control_plane import GATEWAY_ACCOUNT, ApiError, ControlPlane, Gateway, discovered, inline, serving
from real import TYPE, content_addressed, wait_until

from ansible_collections.moe.gateway.plugins.module_utils import _engines

FOO, NEW = "foo:bar", "foo:new"


def basic_auth_config(library: pathlib.Path, gateway: Gateway, credential: str) -> dict[str, t.Any]:
    user, _colon, password = credential.partition(":")
    extension = _engines.Extension.at(str(content_addressed(library, gateway.extensions)))
    config = {"users": [{"username": user, "password": password}]}
    return _engines.typed_config("dynamic_module", "basic_auth", config, extension, None, seal=True)


@pytest.fixture
def served(control_plane: ControlPlane, upstream: int) -> Gateway:
    """A gateway that serves the upstream, and was told so by istiod over mutual TLS."""
    gateway = control_plane.gateway("first", control_plane.istiods[0])
    control_plane.api.apply(*serving(gateway, upstream))
    gateway.statuses(None, 200)
    return gateway


def test_a_gateway_serves_what_istiod_tells(control_plane: ControlPlane, served: Gateway) -> None:
    state = control_plane.istiods[0].synced(served)
    for name in ("Listener", "Cluster", "RouteConfiguration"):
        assert state[name]["sent"] == state[name]["acked"], state
    ports = [listener["address"]["socket_address"]["port_value"] for listener in served.admin.listeners()]
    assert ports == [served.port], "all that it serves came from istiod"
    assert list(served.bootstrap["static_resources"]) == ["clusters"]


@pytest.mark.parametrize("delta", [False, True], ids=["state-of-the-world", "delta"])
def test_the_extension_comes_by_ecds(
    control_plane: ControlPlane, upstream: int, basic_auth: pathlib.Path, delta: bool
) -> None:
    gateway = control_plane.gateway("first", control_plane.istiods[0], delta=delta)
    control_plane.api.apply(*serving(gateway, upstream))
    gateway.statuses(None, 200)
    control_plane.api.apply(discovered("basic_auth", basic_auth_config(basic_auth, gateway, FOO)))
    gateway.statuses(None, 401)
    assert gateway.get(FOO) == 200
    control_plane.api.apply(discovered("basic_auth", basic_auth_config(basic_auth, gateway, NEW)))
    gateway.statuses(NEW, 200)
    assert gateway.get(FOO) == 401
    wait_until(
        lambda: (state := control_plane.istiods[0].synced(gateway)["TypedExtensionConfig"])["sent"] == state["acked"],
        "the second configuration isn't acknowledged",
    )


def test_the_extension_comes_inline(control_plane: ControlPlane, served: Gateway, basic_auth: pathlib.Path) -> None:
    control_plane.api.apply(inline("basic_auth", basic_auth_config(basic_auth, served, FOO)))
    served.statuses(None, 401)
    assert served.get(FOO) == 200


def test_a_stranger_is_not_told_anything(control_plane: ControlPlane, upstream: int, tmp_path: pathlib.Path) -> None:
    """Without a certificate, with one of another CA, of another trust domain, or with no identity of a gateway."""
    istiod = control_plane.istiods[0]
    known = control_plane.gateway("known", istiod)
    issue = control_plane.authority.issue
    pairs = {
        "nobody": None,
        "other-ca": Authority(tmp_path / "other").issue("gateway", uris=[GATEWAY_ACCOUNT]),
        "other-domain": issue("other-domain", uris=[GATEWAY_ACCOUNT.replace("cluster.local", "elsewhere.local")]),
        "other-namespace": issue("other-namespace", uris=[GATEWAY_ACCOUNT.replace("istio-system", "default")]),
        "other-account": issue("other-account", uris=[GATEWAY_ACCOUNT.replace("/gateway", "/other")]),
        "no-identity": issue("no-identity"),
    }
    strangers = []
    for name, pair in pairs.items():
        stranger = control_plane.gateway(name, istiod, pair=pair, start=False)
        if pair is None:
            (cluster,) = stranger.bootstrap["static_resources"]["clusters"]
            del cluster["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]
        stranger.start()
        strangers.append(stranger)
        control_plane.api.apply(*serving(stranger, upstream))
    control_plane.api.apply(*serving(known, upstream))
    known.statuses(None, 200)
    for stranger in strangers:
        wait_until(lambda stranger=stranger: refusals(stranger) > 1, f"{stranger.name}: {stranger.tail()}")
        assert stranger.get() == 0, stranger.name
        assert not stranger.admin.stats(r"^listener_manager\.lds\.version$").get("listener_manager.lds.version")
    assert {proxy["proxy"] for proxy in istiod.debug("syncz")} == {known.proxy}


def refusals(gateway: Gateway) -> int:
    """How often its connection to istiod failed, or its stream was ended there."""
    stats = gateway.admin.stats(r"^cluster\.istiod\.upstream_(cx|rq)")
    names = ("upstream_cx_connect_fail", "upstream_cx_destroy_remote_with_active_rq", "upstream_rq_completed")
    return max(stats.get(f"cluster.istiod.{name}", 0) for name in names)


def test_without_istiod(control_plane: ControlPlane, served: Gateway, basic_auth: pathlib.Path) -> None:
    """A gateway goes on; restarted, it serves nothing at all; and it is itself again when istiod is back."""
    istiod = control_plane.istiods[0]
    control_plane.api.apply(discovered("basic_auth", basic_auth_config(basic_auth, served, FOO)))
    served.statuses(None, 401)
    istiod.kill()
    wait_until(lambda: not served.connected(), "the gateway doesn't notice")
    assert (served.get(), served.get(FOO)) == (401, 200)

    served.stop()
    served.start()
    assert served.admin.server().state == "PRE_INITIALIZING"
    assert (served.get(), served.get(FOO)) == (0, 0)

    istiod.start()
    served.statuses(FOO, 200)
    assert served.get() == 401


def test_another_istiod_takes_over(control_plane: ControlPlane, upstream: int) -> None:
    second = control_plane.istiod()
    both = [control_plane.istiods[0], second]
    gateway = control_plane.gateway("first", *both)
    control_plane.api.apply(*serving(gateway, upstream))
    gateway.statuses(None, 200)
    (its,) = [istiod for istiod in both if istiod.synced(gateway)]
    (other,) = [istiod for istiod in both if istiod is not its]
    its.kill()
    wait_until(lambda: bool(other.synced(gateway)), "the gateway doesn't go to the other istiod")
    control_plane.api.delete(*serving(gateway, upstream))
    gateway.statuses(None, 0)


def test_the_webhook_refuses_what_istiod_would_drop(control_plane: ControlPlane) -> None:
    unknown = inline("basic_auth", {"@type": TYPE + "none.Such"})
    assert control_plane.api.apply(unknown, dry_run=True)
    control_plane.validate(control_plane.istiods[0])
    with pytest.raises(ApiError, match=r"admission webhook .* denied the request: .*none\.Such"):
        control_plane.api.apply(unknown, dry_run=True)
    control_plane.istiods[0].kill()
    with pytest.raises(ApiError, match="failed calling webhook"):
        control_plane.api.apply(unknown, dry_run=True)


def test_plaintext_has_to_be_asked_for(control_plane: ControlPlane, upstream: int) -> None:
    assert control_plane.istiods[0].plaintext is None
    istiod = control_plane.istiod(plaintext=True)
    gateway = control_plane.gateway("plain", istiod, plaintext=True)
    control_plane.api.apply(*serving(gateway, upstream))
    gateway.statuses(None, 200)
