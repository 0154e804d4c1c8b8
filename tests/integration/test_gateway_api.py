# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway whose listener and routes are objects of the Gateway API, and a filter in it."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from control_plane import BUILT, SYSTEM, ControlPlane, Gateway, Object, serving
from real import HOST, run_module
from test_istio_filter import FOO, NEW, WRONG, Story

API = "gateway.networking.k8s.io/v1"


def objects(gateway: Gateway, upstream: int) -> list[Object]:
    """As docs/istio.md has them, for one gateway on a host."""
    entry = serving(gateway, upstream)[0]
    selector = {"gateway": gateway.name}
    me = {"name": gateway.name, "namespace": SYSTEM}
    port = {"name": "http", "port": gateway.port, "protocol": "TCP"}
    backend = {"group": "networking.istio.io", "kind": "Hostname", "name": entry["spec"]["hosts"][0], "port": 80}
    return [
        entry,
        {"apiVersion": "v1", "kind": "Service", "metadata": me, "spec": {"selector": selector, "ports": [port]}},
        {
            "apiVersion": API,
            "kind": "GatewayClass",
            "metadata": {"name": "hosts"},
            "spec": {"controllerName": "istio.io/gateway-controller"},
        },
        {
            "apiVersion": API,
            "kind": "Gateway",
            "metadata": me,
            "spec": {
                "gatewayClassName": "hosts",
                "addresses": [{"type": "Hostname", "value": f"{gateway.name}.{SYSTEM}.svc.cluster.local"}],
                "listeners": [{"name": "http", "hostname": HOST, "port": gateway.port, "protocol": "HTTP"}],
            },
        },
        {
            "apiVersion": API,
            "kind": "HTTPRoute",
            "metadata": me,
            "spec": {
                "parentRefs": [{"name": gateway.name}],
                "hostnames": [HOST],
                "rules": [{"backendRefs": [backend]}],
            },
        },
    ]


@pytest.fixture
def story(control_plane: ControlPlane, basic_auth: pathlib.Path, upstream: int, tmp_path: pathlib.Path) -> Story:
    control_plane.validate(control_plane.istiods[0])
    return Story(control_plane, basic_auth, upstream, tmp_path)


@pytest.fixture
def definitions(control_plane: ControlPlane) -> t.Iterator[list[Object]]:
    found = list(yaml.safe_load_all((BUILT / "istio" / "gateway-api.yaml").read_text()))
    yield found
    control_plane.api.delete(*found)


def test_a_gateway_of_the_gateway_api(story: Story, definitions: list[Object]) -> None:
    plane = story.plane
    gateway = plane.gateway("first", story.istiod, start=False)
    story.gateways.append(gateway)
    mine = objects(gateway, story.upstream)

    def apply(*wanted: Object, **options: t.Any) -> t.Any:
        result = run_module("istio_objects", {"kubeconfig": str(plane.kubeconfig), "objects": list(wanted), **options})
        assert not result.failed, result.output
        return result

    # As in `site`, the filter comes first, so the gateway never serves without.
    story.good(min_gateways=0)
    assert len(apply(*definitions, *mine)["applied"]) == len(definitions) + len(mine)
    gateway.start()
    gateway.statuses(FOO, 200)
    story.answers(None, 401)
    story.answers(WRONG, 401)
    assert apply(*definitions, *mine)["applied"] == []
    assert story.good()["gateways"] == [f"first.{SYSTEM}"]
    story.good(NEW)
    story.answers(FOO, 401)
    story.answers(NEW, 200)
    apply(*mine, state="absent")
    gateway.statuses(NEW, 0)
