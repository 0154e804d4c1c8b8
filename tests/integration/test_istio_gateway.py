# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role istio_gateway, with gateways in Pods of a real kubelet, whose Deployments somebody else has made."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import pathlib
import threading
import time
import typing as t

import pytest
import upstreams
from cluster import ENVOY, Network, Node, missing
from control_plane import NETWORKING, SYSTEM, ControlPlane, Object, serving
from plays import Play, Site
from real import content_addressed, request, wait_until
from test_collection import version

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"NOT RUN: a gateway in a Pod ({missing()})")

FOO, NEW = "foo:bar-of-old", "foo:baz-of-new"
THEIRS = "what-somebody-else-keeps-secret"


class Cluster(t.NamedTuple):
    network: Network
    plane: ControlPlane
    node: Node


@pytest.fixture(scope="module")
def cluster(built: None) -> t.Iterator[Cluster]:
    with Network() as network, ControlPlane(network.machine) as plane, Node(plane, network) as node:
        plane.validate(plane.istiod())
        yield Cluster(network, plane, node)


class Pods:
    """A gateway in Pods: the Deployment that somebody else has made, and the role for it."""

    def __init__(self, cluster: Cluster, upstream: int, extension: pathlib.Path, folder: pathlib.Path) -> None:
        self.cluster = cluster
        self.plane = cluster.plane
        self.gateway = self.plane.gateway("ingress", self.plane.istiods[0], start=False)
        (self.gateway.root / "bootstrap.json").write_text(json.dumps(self.gateway.bootstrap))
        self.site = Site(extension)
        self.folder = folder / "extensions"
        entry, listening, self.routes = serving(self.gateway, upstream)
        entry["spec"]["endpoints"][0]["address"] = cluster.network.machine
        listening["spec"]["servers"][0]["bind"] = cluster.network.node
        self.plane.api.apply(entry, self.deployment())
        self.variables: dict[str, t.Any] = {
            "envoy_extensions": [{"name": "basic_auth", "src": str(extension)}],
            "envoy_extensions_dir": str(self.folder),
            "istio_gateway_deployment": "ingress",
            "istio_gateway_objects": [listening, self.routes],
            "istio_gateway_filters": [
                {
                    "name": "basic_auth",
                    "engine": "dynamic_module",
                    "extension": "basic_auth",
                    "config": {"users": [{"username": "foo", "password": "${secret.foo}"}]},
                }
            ],
            "istio_gateway_istiods": [f"http://127.0.0.1:{self.plane.istiods[0].monitoring}"],
            "istio_gateway_kubeconfig": str(self.plane.kubeconfig),
            "istio_gateway_timeout": 60,
        }

    def deployment(self) -> Object:
        """With an environment, a volume and an annotation that are nobody's business."""
        gateway = self.gateway
        places = {"own": gateway.root, "pki": gateway.pair.key.parent}
        identity = str(gateway.bootstrap["node"]["id"]).replace("~ingress.", "~$(POD).")
        options = ["-c", str(gateway.root / "bootstrap.json"), "--disable-hot-restart", "--concurrency", "1"]
        container = {
            "name": "istio-proxy",
            "image": ENVOY,
            "imagePullPolicy": "Never",
            # Each Pod is one to istiod.
            "args": [*options, "--service-node", identity],
            "env": [
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "THEIRS", "value": THEIRS},
            ],
            "volumeMounts": [{"name": name, "mountPath": str(path)} for name, path in places.items()],
        }
        volumes = [{"name": name, "hostPath": {"path": str(path)}} for name, path in places.items()]
        pod = {"hostNetwork": True, "automountServiceAccountToken": False, "containers": [container]}
        template = {"metadata": {"labels": gateway.labels, "annotations": {"theirs": "kept"}}}
        template["spec"] = {**pod, "volumes": volumes}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "ingress", "namespace": SYSTEM, "annotations": {"theirs": "kept"}},
            "spec": {
                "selector": {"matchLabels": gateway.labels},
                # Pods share the node's network, and Envoys one port, so no probe could tell one from the other. It is
                # time that lets a new one have its listener before the old one ends.
                "minReadySeconds": 2,
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": template,
            },
        }

    def run(self, *options: str, credential: str = FOO, extensions: bool = True, **variables: t.Any) -> Play:
        """Run the role, by default after the one that puts extensions on the node."""
        roles = ["envoy_extensions"] if extensions else []
        tasks = [{"ansible.builtin.import_role": {"name": f"moe.gateway.{name}"}} for name in (*roles, "istio_gateway")]
        password = credential.partition(":")[2]
        secrets = {"istio_gateway_secrets": {"foo": password}}
        play = self.site.tasks(tasks, "--diff", *options, **{**self.variables, **secrets, **variables})
        assert password not in play.output
        assert THEIRS not in play.output
        return play

    def good(self, *options: str, **variables: t.Any) -> Play:
        play = self.run(*options, **variables)
        assert play.status == 0, play.output
        return play

    def bad(self, *options: str, **variables: t.Any) -> str:
        play = self.run(*options, **variables)
        assert play.status != 0, play.output
        return play.output

    def get(self, credential: str | None = None) -> int:
        """The status of a request on a connection of its own; 0 if that is refused or closed."""
        connection = http.client.HTTPConnection(self.cluster.network.node, self.gateway.port, timeout=10)
        try:
            return request(connection, credential)
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def object(self) -> Object:
        found = self.plane.api.get(self.deployment())
        assert found is not None
        return found

    def mounts(self) -> list[str]:
        """The files that its Pods get from the collection."""
        pod = self.object()["spec"]["template"]["spec"]
        found = {one["name"]: one for one in pod["volumes"] if one["name"].startswith("moe-gateway-")}
        mounts = {one["name"]: one for one in pod["containers"][0]["volumeMounts"] if one["name"] in found}
        assert all(one["hostPath"]["type"] == "File" for one in found.values())
        assert all(mounts[name]["readOnly"] for name in found)
        assert {name: one["hostPath"]["path"] for name, one in found.items()} == {
            name: mount["mountPath"] for name, mount in mounts.items()
        }
        return [one["hostPath"]["path"] for one in found.values()]

    def theirs(self) -> Object:
        """The Deployment without what is the collection's."""
        found = self.object()
        pod = found["spec"]["template"]["spec"]
        for part in (pod, *pod["containers"]):
            for kind in ("volumes", "volumeMounts"):
                if kind in part:
                    part[kind] = [one for one in part[kind] if not one["name"].startswith("moe-gateway-")]
        del found["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        return {"annotations": found["metadata"]["annotations"], "spec": found["spec"]}

    def names(self) -> list[str]:
        """Its Pods."""
        return sorted(pod["metadata"]["name"] for pod in self.cluster.node.pods(SYSTEM))

    def remove(self) -> None:
        self.plane.api.delete(self.deployment())
        wait_until(lambda: not self.names(), "Pods are left", 60)
        self.site.remove()
        self.plane.reset()
        self.plane.validate(self.plane.istiods[0])


@pytest.fixture
def pods(cluster: Cluster, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> t.Iterator[Pods]:
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(upstreams.running(cluster.network.machine))
        pods = Pods(cluster, upstream, version(basic_auth, tmp_path, 1), tmp_path)
        stack.callback(pods.remove)
        wait_until(lambda: pods.object()["status"].get("availableReplicas") == 1, "no Pod serves", 60)
        yield pods


class Load:
    """Requests one after the other, each on a connection of its own, with the right credential and without."""

    def __init__(self, pods: Pods) -> None:
        self.pods = pods
        self.seen: collections.Counter[tuple[str | None, int]] = collections.Counter()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.is_set():
            for credential in (FOO, None):
                status = self.pods.get(credential)
                # An Envoy that ends closes what it has just accepted; whoever asks again gets an answer of another.
                self.seen[credential, status or -self.pods.get(credential)] += 1
            time.sleep(0.005)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()


def test_from_nothing_to_a_new_version(pods: Pods, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before, first = pods.theirs(), pods.names()
    checked = pods.good("--check")
    assert checked.changed > 0
    assert "+" + str(pods.folder / "basic_auth-") in checked.output
    assert (pods.mounts(), pods.names(), pods.get()) == ([], first, 0)

    pods.good()
    assert (pods.get(), pods.get(FOO), pods.get(NEW)) == (401, 200, 401)
    (library,) = pods.mounts()
    second = pods.names()
    assert set(first).isdisjoint(second)

    for options in (["--check"], []):
        again = pods.good(*options)
        assert again.changed == 0, again.output

    # A credential changes in the Pod that runs.
    assert pods.good(credential=NEW).changed == 1
    assert (pods.get(FOO), pods.get(NEW), pods.names()) == (401, 200, second)
    assert pods.good().changed == 1

    newer = {"envoy_extensions": [{"name": "basic_auth", "src": str(version(basic_auth, tmp_path, 2))}]}
    checked = pods.good("--check", **newer)
    assert (checked.changed > 0, pods.mounts(), pods.names()) == (True, [library], second)
    with Load(pods) as load:
        pods.good(**newer)
    print(f"requests while Pods started anew: {dict(load.seen)}")
    assert set(load.seen) <= {(FOO, 200), (None, 401), (FOO, -200), (None, -401)}, load.seen
    # The one of before stays to go back to.
    assert pods.mounts()[0] == library
    assert len(pods.mounts()) == 2
    assert set(second).isdisjoint(pods.names())
    assert pods.good(**newer).changed == 0
    assert pods.theirs() == before


def test_a_file_that_a_node_lacks(pods: Pods, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pods.good()
    (library,) = pods.mounts()
    first = pods.names()
    absent = content_addressed(version(basic_auth, tmp_path, 2), pods.folder)
    absent.unlink()
    newer = {
        "istio_gateway_extensions": [{"name": "basic_auth", "path": str(absent), "sha256": absent.stem[-64:]}],
        "extensions": False,
    }
    with Load(pods) as load:
        output = pods.bad(**newer)
    assert f"hostPath type check failed: {absent} is not a file" in output
    assert "on node node:" in output
    assert "The Pods have again what they had before." in output
    assert (pods.mounts(), pods.names()) == ([library], first)
    assert set(load.seen) <= {(FOO, 200), (None, 401)}, load.seen

    # What a kubelet makes of a path without a type, where there is no file.
    absent.mkdir()
    assert f"{absent} is not a file" in pods.bad(**newer)
    assert (pods.mounts(), pods.names()) == ([library], first)
    repaired = {"envoy_extensions": [{"name": "basic_auth", "src": str(version(basic_auth, tmp_path, 2))}]}
    (absent / "somebody's").touch()
    assert str(absent) in pods.bad(**repaired)
    (absent / "somebody's").unlink()
    checked = pods.good("--check", **repaired)
    assert (checked.changed > 0, absent.is_dir()) == (True, True)
    pods.good(**repaired)
    assert pods.mounts() == [library, str(absent)]
    assert pods.get(FOO) == 200


def test_away_again(pods: Pods) -> None:
    before = pods.theirs()
    pods.good()
    (library,) = pods.mounts()
    unnamed = {"istio_gateway_state": "absent", "istio_gateway_filters": []}
    assert f"EnvoyFilter {SYSTEM}/basic-auth names {library}" in pods.bad(**unnamed)
    assert pods.get(FOO) == 200
    for options in (["--check"], []):
        assert pods.good(*options, istio_gateway_state="absent").changed > 0
    assert (pods.mounts(), pods.get(FOO), pods.get()) == ([], 403, 403)
    assert pods.good(istio_gateway_state="absent").changed == 0
    assert pods.theirs() == before
    assert pods.good(istio_gateway_state="absent", istio_gateway_purge=True).changed == 1
    pods.good(extensions=False, istio_gateway_filters=[])
    assert pods.get() == 200


def test_what_is_refused_before_anything_changes(pods: Pods) -> None:
    listening, routes = pods.variables["istio_gateway_objects"]
    misspelt = {**routes, "spec": {**routes["spec"], "htpp": []}}
    output = pods.bad(istio_gateway_objects=[listening, misspelt], istio_gateway_filters=[])
    assert "spec.htpp: field not declared in schema" in output
    assert pods.plane.api.list(NETWORKING, "Gateway") == []
    assert "found EnvoyFilter, expected any other" in pods.bad(
        istio_gateway_objects=[{**listening, "kind": "EnvoyFilter"}]
    )
    assert "istio_gateway_filters[0].extension: found other" in pods.bad(
        istio_gateway_filters=[{**pods.variables["istio_gateway_filters"][0], "extension": "other"}]
    )
    assert "expected one that exists" in pods.bad(istio_gateway_deployment="other")
    assert "expected one of the Deployment's: istio-proxy" in pods.bad(istio_gateway_container="other")
    # Somebody else has another opinion of a field.
    pods.plane.api.apply({**listening, "spec": {**listening["spec"], "selector": {"gateway": "theirs"}}})
    assert "conflict" in pods.bad()
    assert pods.mounts() != []
