# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blog's story where it takes place: a gateway in a Pod that a real kubelet runs, with the library by hostPath."""

from __future__ import annotations

import http.client
import json
import pathlib

import pytest
import upstreams
from cluster import ENVOY, Network, Node, missing
from control_plane import SYSTEM, ControlPlane, Gateway, Object, serving
from real import Result, content_addressed, request, run_module, wait_until

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"NOT RUN: a gateway in a Pod ({missing()})")

FOO, NEW = "foo:bar-of-old", "foo:baz-of-new"


def deployment(gateway: Gateway, library: pathlib.Path) -> Object:
    """A gateway with the library at the path that it has on the node, for reading only."""
    places = {"own": (gateway.root, "Directory"), "pki": (gateway.pair.key.parent, "Directory")}
    places["library"] = (library, "File")
    mounts = [{"name": name, "mountPath": str(path)} for name, (path, _type) in places.items()]
    for mount in mounts[1:]:
        mount["readOnly"] = True
    options = ["-c", str(gateway.root / "bootstrap.json"), "--disable-hot-restart", "--concurrency", "1"]
    container = {"name": "envoy", "image": ENVOY, "imagePullPolicy": "Never", "args": options, "volumeMounts": mounts}
    volumes = [{"name": name, "hostPath": {"path": str(path), "type": kind}} for name, (path, kind) in places.items()]
    pod = {"hostNetwork": True, "automountServiceAccountToken": False, "containers": [container], "volumes": volumes}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": gateway.name, "namespace": SYSTEM},
        "spec": {
            "selector": {"matchLabels": gateway.labels},
            "template": {"metadata": {"labels": gateway.labels}, "spec": pod},
        },
    }


def objects(gateway: Gateway, network: Network, upstream: int) -> list[Object]:
    """What makes it serve on the node's address, from a web server on the machine."""
    entry, listening, routes = serving(gateway, upstream)
    entry["spec"]["endpoints"][0]["address"] = network.machine
    listening["spec"]["servers"][0]["bind"] = network.node
    return [entry, listening, routes]


def container(node: Node) -> tuple[str, int]:
    """Which container the one Pod has, and how often it was restarted."""
    (pod,) = node.pods(SYSTEM)
    (status,) = pod["status"]["containerStatuses"]
    return status["containerID"], status["restartCount"]


def rotate(plane: ControlPlane, library: pathlib.Path, credential: str) -> Result:
    user, _colon, password = credential.partition(":")
    wanted = {
        "name": "basic_auth",
        "engine": "dynamic_module",
        "extension": str(library),
        "config": {"users": [{"username": user, "password": "${secret.password}"}]},
        "secrets": {"password": password},
        "kubeconfig": str(plane.kubeconfig),
        "istiods": [f"http://127.0.0.1:{plane.istiods[0].monitoring}"],
    }
    result = run_module("istio_filter", wanted, diff=True)
    assert not result.failed, result.output
    assert password not in result.output
    return result


def test_the_blogs_story_in_a_pod(built: None, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> None:
    library = content_addressed(basic_auth, tmp_path)
    with Network() as network, ControlPlane(network.machine) as plane, Node(plane, network) as node:
        istiod = plane.istiod()
        plane.validate(istiod)
        gateway = plane.gateway("ingress", istiod, start=False)
        (gateway.root / "bootstrap.json").write_text(json.dumps(gateway.bootstrap))
        with upstreams.running(network.machine) as upstream:
            plane.api.apply(*objects(gateway, network, upstream), deployment(gateway, library))

            def status(credential: str | None = None) -> int:
                try:
                    one = http.client.HTTPConnection(network.node, gateway.port, timeout=10)
                    return request(one, credential)
                except OSError:
                    return 0

            wait_until(lambda: status() == 200, f"the Pod doesn't serve: {node.pods(SYSTEM)}", 60)
            first = container(node)

            assert rotate(plane, library, FOO)["action"] == "published"
            assert (status(), status(FOO), status(NEW)) == (401, 200, 401)

            opened = http.client.HTTPConnection(network.node, gateway.port, timeout=10)
            assert request(opened, FOO) == 200
            connection = opened.sock
            assert rotate(plane, library, NEW)["action"] == "published"
            assert request(opened, FOO) == 401
            assert request(opened, NEW) == 200
            assert opened.sock is connection, "it was another connection"
            opened.close()

            assert rotate(plane, library, NEW)["changed"] is False
            assert container(node) == first
            assert first[1] == 0
