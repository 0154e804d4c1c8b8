# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node of the tests is a real one: it runs Pods, lets nobody in without a certificate, and leaves nothing."""

from __future__ import annotations

import http.client
import pathlib
import ssl
import subprocess
import typing as t

import pytest
from cluster import CGROUPS, ENVOY, SYSCTLS, Network, Node, missing
from control_plane import ControlPlane, Object, ask
from real import wait_until

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"NOT RUN: a real kubelet ({missing()})")


def left() -> dict[str, t.Any]:
    """What a node could leave on the machine, by the names that it gives."""
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout.splitlines()
    return {
        "mounts": [line for line in mounts if "moe-" in line or line.startswith("none ")],
        "links": [line for line in links if ": moe" in line],
        "cgroups": sorted(str(path) for path in CGROUPS.glob("**/moe-node-*")),
        "sysctls": [pathlib.Path("/proc/sys", name).read_text() for name in SYSCTLS],
    }


def deployment(library: pathlib.Path) -> Object:
    """An Envoy that does nothing, with a library of the host."""
    container = {
        "name": "envoy",
        "image": ENVOY,
        "imagePullPolicy": "Never",
        "args": ["--config-yaml", "{}"],
        "volumeMounts": [{"name": "library", "mountPath": "/library.so", "readOnly": True}],
    }
    pod = {
        "hostNetwork": True,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "library", "hostPath": {"path": str(library), "type": "File"}}],
    }
    labels = {"app": "envoy"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "envoy", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def test_a_node(built: None, tmp_path: pathlib.Path) -> None:
    before = left()
    library = tmp_path / "library.so"
    with Network() as network, ControlPlane(network.machine) as plane, Node(plane, network) as node:
        plane.api.apply(deployment(library))

        def refused() -> bool:
            messages = [event.get("message", "") for event in plane.api.list("v1", "Event", "default")]
            return any("hostPath type check failed" in message for message in messages)

        wait_until(refused, f"no Pod misses its file: {node.kubelet.tail()}", 60)
        library.touch()

        def runs() -> bool:
            (pod,) = node.pods("default")
            return any("running" in one["state"] for one in pod["status"].get("containerStatuses", []))

        wait_until(runs, f"the Pod doesn't run: {node.kubelet.tail()}", 180)
        stranger = ssl.create_default_context(cafile=str(plane.authority.certificate))
        assert ask(10250, "/pods", stranger, network.node)[0] == 401
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(10255, "/pods", address=network.node)
        wait_until(lambda: b"initializing epoch 0" in log_of_one(plane, node), "the API server shows no log of it", 30)
    assert left() == before
    assert not plane.root.exists()


def log_of_one(plane: ControlPlane, node: Node) -> bytes:
    """The log of the one Pod, once there is one: the API server asks the kubelet."""
    (pod,) = node.pods("default")
    path = f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}/log"
    status, log = ask(plane.port, path, plane.client("admin"), plane.address)
    return log if status == 200 else b""
