# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways in Pods of a real kubelet, whose Deployments somebody else has made, and the playbooks for them."""

from __future__ import annotations

import collections
import contextlib
import http.client
import itertools
import json
import pathlib
import re
import threading
import time
import typing as t

import pytest
import upstreams
import yaml
from cluster import ENVOY, Network, Node, libraries, missing
from control_plane import BUILT, SYSTEM, ControlPlane, Istiod, Object, envoy_filter, serving
from plays import Play, Playable, outcome, playbook
from real import HOST, REPOSITORY, Result, content_addressed, request, run_module, wait_until
from several import Fleet, gateways
from test_collection import version

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"NOT RUN: a gateway in a Pod ({missing()})")

FOO, NEW = "foo:bar-of-old", "foo:baz-of-new"
#: of a user who has the rights that are documented
WHO = "deployer"
THEIRS = "what-somebody-else-keeps-secret"


def documented() -> tuple[Object, Object, Object]:
    """The rights for filters, for istiods in Pods, and for Pods of gateways, with the names that are used here."""
    page = (REPOSITORY / "docs" / "istio.md").read_text()
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    filters, istiods, pods = (block for block in blocks if block.get("kind") == "Role")
    filters["rules"][2]["resourceNames"] += ["moe-gateway.golang-filter", "moe-gateway.second"]
    pods["rules"][0]["resourceNames"] = ["ingress"]
    return filters, istiods, pods


def binding(role: Object) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role["metadata"]["name"], "namespace": SYSTEM},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role["metadata"]["name"]},
        "subjects": [{"kind": "User", "name": WHO, "apiGroup": "rbac.authorization.k8s.io"}],
    }


LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
#: A Deployment is a gateway that nobody logs in to.
INVENTORY = {
    "gateways": {"children": {"istio_gateways": {"hosts": {"ingress": {}}}}},
    "istio_nodes": {"hosts": {"node": LOCAL}},
}


class Cluster(t.NamedTuple):
    network: Network
    plane: ControlPlane
    node: Node


@pytest.fixture(scope="module")
def cluster(built: None) -> t.Iterator[Cluster]:
    with Network() as network, ControlPlane(network.machine) as plane, Node(plane, network) as node:
        plane.validate(plane.istiod())
        filters, _istiods, pods = documented()
        for role in (filters, pods):
            plane.api.apply(role, binding(role))
        yield Cluster(network, plane, node)


class Pods(Playable):
    """A gateway in Pods: the Deployment that somebody else has made, and the role for it."""

    def __init__(self, cluster: Cluster, upstream: int, extension: pathlib.Path, folder: pathlib.Path) -> None:
        self.cluster = cluster
        self.plane = cluster.plane
        self.gateway = self.plane.gateway("ingress", self.plane.istiods[0], start=False)
        (self.gateway.root / "bootstrap.json").write_text(json.dumps(self.gateway.bootstrap))
        self.extension = extension
        self.folder = folder / "extensions"
        self.inventory = folder / "inventory.json"
        self.inventory.write_text(json.dumps(INVENTORY))
        entry, listening, self.routes = serving(self.gateway, upstream)
        entry["spec"]["endpoints"][0]["address"] = cluster.network.machine
        listening["spec"]["servers"][0]["bind"] = cluster.network.node
        self.plane.api.apply(entry, self.deployment())
        self.variables: dict[str, t.Any] = {
            "envoy_extensions": [{"name": "basic_auth", "src": str(extension)}],
            "envoy_extensions_dir": str(self.folder),
            "istio_gateway_deployment": "ingress",
            "istio_gateway_objects": [listening, self.routes],
            "envoy_filters": [
                {
                    "name": "basic_auth",
                    "engine": "dynamic_module",
                    "extension": "basic_auth",
                    "config": {"users": [{"username": "foo", "password": "${secret.foo}"}]},
                }
            ],
            "envoy_filters_istiods": [f"http://127.0.0.1:{self.plane.istiods[0].monitoring}"],
            "envoy_filters_kubeconfig": str(self.plane.write_kubeconfig(WHO)),
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
                "minReadySeconds": 3,
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": template,
            },
        }

    def run(self, *options: str, credential: str = FOO, extensions: bool = True, **variables: t.Any) -> Play:
        """Run the playbook site, by default for the node too."""
        limit = [] if extensions else ["--limit", "ingress"]
        return self.play("site", "--diff", *limit, *options, credential=credential, **variables)

    def play(self, book: str, *options: str, credential: str = FOO, **variables: t.Any) -> Play:
        password = credential.partition(":")[2]
        path = self.folder.with_suffix(".vars.json")
        path.write_text(json.dumps({**self.variables, "envoy_filters_secrets": {"foo": password}, **variables}))
        done = playbook("-i", str(self.inventory), "-e", f"@{path}", *options, f"playbooks/{book}.yml")
        play = outcome(done, "ingress", "node")
        assert password not in play.output
        assert THEIRS not in play.output
        return play

    def module(self, check: bool = False, **options: t.Any) -> Result:
        """Run the module for the Pods, without a play."""
        kubeconfig = self.variables["envoy_filters_kubeconfig"]
        common = {"deployment": "ingress", "kubeconfig": kubeconfig, "timeout": 60}
        return run_module("istio_mounts", {**common, **options}, check)

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
        found = {name: one for name, one in found.items() if "hostPath" in one}
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
            for kind in ("volumes", "volumeMounts", "initContainers"):
                if kind in part:
                    part[kind] = [one for one in part[kind] if not one["name"].startswith("moe-gateway-")]
                    if not part[kind]:
                        del part[kind]
        del found["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        return {"annotations": found["metadata"]["annotations"], "spec": found["spec"]}

    def names(self) -> list[str]:
        """Its Pods."""
        return sorted(pod["metadata"]["name"] for pod in self.cluster.node.pods(SYSTEM))

    def remove(self) -> None:
        self.plane.api.delete(self.deployment())
        wait_until(lambda: not self.names(), "Pods are left", 60)


@pytest.fixture(scope="module")
def one_gateway(
    cluster: Cluster, basic_auth: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Pods]:
    folder = tmp_path_factory.mktemp("gateway")
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(upstreams.running(cluster.network.machine))
        pods = Pods(cluster, upstream, version(basic_auth, folder, 1), folder)
        stack.callback(pods.remove)
        wait_until(lambda: pods.object()["status"].get("availableReplicas") == 1, "no Pod serves", 60)
        yield pods


@pytest.fixture
def pods(one_gateway: Pods) -> Pods:
    """One gateway for all tests, since a play takes seconds: each begins with what the variables say."""
    if one_gateway.get(FOO) != 200:
        one_gateway.good()
    return one_gateway


class Load:
    """Requests one after the other, each on a connection of its own, with the right credential and without."""

    def __init__(self, pods: Pods, credential: str) -> None:
        self.pods = pods
        self.credential = credential
        self.seen: collections.Counter[tuple[str | None, int]] = collections.Counter()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.is_set():
            for credential in (self.credential, None):
                status = self.pods.get(credential)
                if not status:
                    # An Envoy that ends closes what it has just accepted; whoever asks again gets an answer of another.
                    time.sleep(0.2)
                    status = -self.pods.get(credential)
                self.seen[credential, status] += 1
            time.sleep(0.02)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()


def test_from_nothing_to_a_new_version(one_gateway: Pods, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pods = one_gateway
    before, first = pods.theirs(), pods.names()
    checked = pods.good("--check")
    assert checked.changed > 0
    assert f"+{pods.folder}/basic_auth-" in checked.output
    assert (pods.mounts(), pods.names(), pods.get()) == ([], first, 0)

    pods.good()
    assert (pods.get(), pods.get(FOO), pods.get(NEW)) == (401, 200, 401)
    (library,) = pods.mounts()
    second = pods.names()
    assert set(first).isdisjoint(second)
    for again in (pods.good("--check", extensions=False), pods.good()):
        assert again.changed == 0, again.output

    # A credential changes in the Pod that runs.
    changed = pods.good(credential=NEW, extensions=False)
    assert changed.changed == 1, changed.output
    assert (pods.get(FOO), pods.get(NEW), pods.names()) == (401, 200, second)

    newer = {"envoy_extensions": [{"name": "basic_auth", "src": str(version(basic_auth, tmp_path, 2))}]}
    with Load(pods, NEW) as load:
        pods.good(credential=NEW, **newer)
    print(f"requests while Pods started anew: {dict(load.seen)}")
    assert set(load.seen) <= {(NEW, 200), (None, 401), (NEW, -200), (None, -401)}, load.seen
    # The one of before stays to go back to.
    assert pods.mounts()[0] == library
    assert len(pods.mounts()) == 2
    assert set(second).isdisjoint(pods.names())
    again = pods.good(credential=NEW, **newer)
    assert again.changed == 0, again.output
    assert pods.theirs() == before


def test_a_file_that_a_node_lacks(pods: Pods, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before, first = pods.mounts(), pods.names()
    absent = content_addressed(version(basic_auth, tmp_path, 3), pods.folder)
    absent.unlink()
    # What a kubelet makes of a path without a type, where there is no file.
    absent.mkdir()
    item = {"name": "basic_auth", "path": str(absent), "sha256": absent.stem[-64:]}
    with Load(pods, FOO) as load:
        output = pods.bad(istio_gateway_extensions=[item], extensions=False)
    assert f"hostPath type check failed: {absent} is not a file" in output
    assert "on node node:" in output
    assert "The Pods have again what they had before." in output
    assert (pods.mounts(), pods.names()) == (before, first)
    assert set(load.seen) <= {(FOO, 200), (None, 401)}, load.seen

    repaired = {"envoy_extensions": [{"name": "basic_auth", "src": str(version(basic_auth, tmp_path, 3))}]}
    (absent / "of-somebody").touch()
    assert f"found something other than a file at {absent}" in pods.bad(**repaired)
    (absent / "of-somebody").unlink()
    pods.good(**repaired)
    assert pods.mounts()[-1] == str(absent)
    assert pods.get(FOO) == 200


def test_a_file_of_an_image(pods: Pods, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> None:
    library = content_addressed(version(basic_auth, tmp_path, 4), tmp_path)
    first, mounts = pods.names(), pods.mounts()
    pods.cluster.node.load("localhost/extensions:1", {library.name: library}, ["/none"])
    where = {"name": "basic_auth", "path": f"/extensions/{library.stem}/{library.name}"}
    absent = pods.module(extensions=[{"path": where["path"], "image": "localhost/none:1"}], timeout=5)
    assert absent.code == "not_rolled_out"
    assert "localhost/none:1" in absent["msg"]
    assert (pods.names(), pods.mounts()) == (first, mounts)

    of_image = {"istio_gateway_extensions": [{**where, "image": "localhost/extensions:1"}], "extensions": False}
    pods.good(**of_image)
    volumes = pods.object()["spec"]["template"]["spec"]["volumes"]
    assert [one["image"]["reference"] for one in volumes if "image" in one] == ["localhost/extensions:1"]
    assert pods.get(FOO) == 200
    again = pods.module(extensions=[{"path": where["path"], "image": "localhost/extensions:1"}])
    assert (again["action"], again["files"]) == ("none", again["previous_files"])


def test_a_file_that_is_copied_out_of_an_image(pods: Pods, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> None:
    library = content_addressed(version(basic_auth, tmp_path, 6), tmp_path)
    copy = pathlib.Path("/bin/cp")
    linked = {str(path): path for path in libraries(copy)}
    pods.cluster.node.load("localhost/copying:1", {library.name: library, "/bin/cp": copy, **linked}, ["/none"])
    first = pods.names()
    item = {
        "path": f"/extensions/{library.stem}/{library.name}",
        "image": "localhost/copying:1",
        "init_container": True,
    }
    other = f"/extensions/basic_auth-{'0' * 64}/basic_auth-{'0' * 64}.so"
    absent = pods.module(extensions=[{**item, "path": other}], timeout=5)
    assert absent.code == "not_rolled_out"
    assert "ended with 1" in absent["msg"]
    assert pods.names() == first
    pods.good(istio_gateway_extensions=[{"name": "basic_auth", **item}], extensions=False)
    (copier,) = pods.object()["spec"]["template"]["spec"]["initContainers"]
    assert copier["image"] == item["image"]
    assert (pods.get(FOO), pods.get()) == (200, 401)
    assert pods.module(extensions=[item])["action"] == "none"


def test_what_is_refused_before_anything_changes(pods: Pods) -> None:
    listening, routes = pods.variables["istio_gateway_objects"]
    names = pods.names()
    twice = {**listening, "spec": {**listening["spec"], "servers": listening["spec"]["servers"] * 2}}
    filters = pods.variables["envoy_filters"]
    for variables, message in (
        (
            {"istio_gateway_objects": [listening, {**routes, "spec": {**routes["spec"], "htpp": []}}]},
            "istio_gateway_objects[1]: VirtualService ingress is refused: Failed to apply object",
        ),
        ({"istio_gateway_objects": [twice]}, "port names in servers must be unique"),
        (
            {"istio_gateway_objects": [{**listening, "kind": "EnvoyFilter"}]},
            "istio_gateway_objects[0].kind: found EnvoyFilter, expected any other",
        ),
        (
            {"envoy_filters": [{**filters[0], "extension": "other"}]},
            "envoy_filters[0].extension: found other",
        ),
    ):
        output = pods.bad(**variables, extensions=False)
        assert message in output, output
    assert (
        f"deployment: found none at {SYSTEM}/other"
        in pods.module(deployment="other", kubeconfig=str(pods.plane.kubeconfig))["msg"]
    )
    assert "found other, expected one of the Deployment's: istio-proxy" in pods.module(container="other")["msg"]
    # Somebody else has another opinion of a field.
    theirs = {**listening["spec"]["servers"][0], "hosts": ["elsewhere.example.com"]}
    pods.plane.api.apply({**listening, "spec": {**listening["spec"], "servers": [theirs]}})
    output = pods.bad(extensions=False)
    assert "istio_gateway_objects[0]: Gateway ingress is refused" in output, output
    assert 'conflict with \\"harness\\": .spec.servers' in output, output
    assert pods.names() == names
    forced = pods.good(extensions=False, istio_gateway_force_conflicts=True)
    assert "changed: [ingress -> localhost] => (item=Gateway ingress)" in forced.output, forced.output
    assert "item=VirtualService" not in forced.output, forced.output
    assert pods.get(FOO) == 200


def test_the_envoy_filter_of_the_blog(pods: Pods) -> None:
    """It becomes the filter that is meant. A stock Envoy has none for Go, so it is taken away again."""
    blog = yaml.safe_load((REPOSITORY / "tests" / "inputs" / "blog.yaml").read_text())
    both = pods.variables["envoy_filters"]
    given = "{{ item | moe.gateway.from_envoy_filter('basic_auth') }}"
    wrong = envoy_filter("golang-filter", blog["spec"]["configPatches"], {"istio": "other"})
    output = pods.bad(envoy_filters=[*both, given], item=wrong, extensions=False)
    assert "EnvoyFilter.spec.workloadSelector.labels.istio: found 'other'" in output, output
    output = pods.bad(envoy_filters=[*both, given], item=blog, extensions=False)
    assert "refuses it" in output, output
    assert "envoy.extensions.filters.http.golang.v3alpha.Config" in output, output
    assert "The EnvoyFilter is gone again" in output, output
    # The password that it has in it is a secret all the same.
    assert not re.search(r"\bbar\b", output), output
    assert (pods.get(FOO), pods.get()) == (200, 401)


def test_no_right_is_needed_in_vain(pods: Pods) -> None:
    """All tests have those that are documented. Without one of them it is refused, and nothing has changed."""
    *_others, role = documented()
    names = pods.names()
    absent = {"extensions": [{"path": f"{pods.folder}/basic_auth-{'0' * 64}.so"}]}
    try:
        for rule in role["rules"][:-1]:
            for verb, resource in itertools.product(rule["verbs"], rule["resources"]):
                less = {**rule, "verbs": [one for one in rule["verbs"] if one != verb]}
                others = {**rule, "resources": [one for one in rule["resources"] if one != resource]}
                rules = [one for one in (less, others) if one["verbs"] and one["resources"]]
                pods.plane.api.apply({**role, "rules": [one for one in role["rules"] if one != rule] + rules})
                wait_until(lambda: pods.module(**absent).code == "api_forbidden", f"{verb} of {resource} is not needed")
    finally:
        pods.plane.api.apply(role)
    assert pods.names() == names
    wait_until(lambda: not pods.module(check=True, **absent).failed, "the rights are not back")


def istiod_in_a_pod(cluster: Cluster) -> tuple[Istiod, Object]:
    """One as Istio's chart has it, as far as this matters: a Pod with its label."""
    plane, node = cluster.plane, cluster.network.node
    istiod = Istiod(plane, "istiod-in-a-pod")
    node_own = [word.replace(f"={plane.address}:", f"={node}:") for word in istiod.program.command[1:]]
    cluster.node.load("localhost/istiod:1", {"/istiod": BUILT / "bin" / "pilot-discovery"}, ["/istiod"])
    container = {
        "name": "discovery",
        "image": "localhost/istiod:1",
        "imagePullPolicy": "Never",
        "args": node_own,
        "env": [{"name": key, "value": text} for key, text in istiod.program.environment.items()],
        "volumeMounts": [{"name": "files", "mountPath": str(plane.root), "readOnly": True}],
    }
    volume = {"name": "files", "hostPath": {"path": str(plane.root)}}
    pod = {"hostNetwork": True, "automountServiceAccountToken": False, "containers": [container], "volumes": [volume]}
    return istiod, {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "istiod", "namespace": SYSTEM, "labels": {"app": "istiod"}},
        "spec": pod,
    }


def test_an_istiod_in_a_pod(pods: Pods, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """It is asked over the Kubernetes API: nothing else has to reach it, and it wants no token."""
    plane, node = pods.plane, pods.cluster.network.node
    istiod, pod = istiod_in_a_pod(pods.cluster)
    where = {
        "istiods": [f"pods://{SYSTEM}/app=istiod:{istiod.monitoring}"],
        "kubeconfig": pods.variables["envoy_filters_kubeconfig"],
    }
    role = documented()[1]
    plane.api.apply(role, binding(role))
    wait_until(
        lambda: "found no Pod that runs" in run_module("istio_sync_info", where)["msg"], "it has no right to look"
    )
    plane.api.apply(pod)
    with upstreams.running() as upstream:
        gateway = plane.gateway("second", istiod, at=node)
        plane.api.apply(*serving(gateway, upstream))
        gateway.statuses(None, 200, 60)

        def bring(credential: str) -> Result:
            user, _colon, password = credential.partition(":")
            wanted = {
                "name": "second",
                "engine": "dynamic_module",
                "extension": str(content_addressed(basic_auth, tmp_path)),
                "config": {"users": [{"username": user, "password": "${secret.password}"}]},
                "secrets": {"password": password},
                "workload_selector": {"gateway": "second"},
            }
            result = run_module("istio_filter", {**wanted, **where})
            assert not result.failed, result.output
            assert result["gateways"] == [f"second.{SYSTEM}"]
            return result

        bring(FOO)
        assert (gateway.get(None), gateway.get(FOO)) == (401, 200)
        done = bring(NEW)
        assert (gateway.get(FOO), gateway.get(NEW)) == (401, 200)
        seen = run_module("istio_sync_info", {**where, "version": done["version"]})
        assert seen["reached"], seen.output
        assert [one["url"] for one in seen["istiods"]] == [f"pods://{SYSTEM}/istiod"]
        assert [(one["name"], one["holds"]) for one in seen["gateways"]] == [(f"second.{SYSTEM}", True)]

        # Who may look for Pods and no more is told what is missing.
        plane.api.apply({**role, "rules": role["rules"][:1]})
        wait_until(lambda: run_module("istio_sync_info", where).code == "api_forbidden", "no right is needed")
        said = run_module("istio_sync_info", where)["msg"]
        assert said.startswith(f"The Kubernetes API does not let this forward a port of pods {SYSTEM}/istiod: ")
        plane.api.apply(role)
        nobody = run_module("istio_sync_info", {**where, "istiods": [f"pods://{SYSTEM}/app=istiod:1"]})
        assert "does not answer" in nobody["istiods"][0]["error"], nobody.output
    plane.api.delete(pod, *serving(gateway, upstream), envoy_filter("second", []), binding(role), role)


@pytest.fixture
def mixed(pods: Pods, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> t.Iterator[Fleet]:
    """One inventory with the gateway in Kubernetes and one on this machine, which have their filters in common."""
    with gateways(basic_auth, tmp_path, ["files"]) as fleet:
        own = {key: value for key, value in pods.variables.items() if key != "envoy_filters"}
        groups = {
            "gateways": {"children": {"istio_gateways": {"hosts": {"ingress": own}}}},
            "istio_nodes": {"hosts": {"node": {**LOCAL, **own}}},
        }
        (fleet.folder / "inventory" / "kubernetes.json").write_text(json.dumps(groups))
        yield fleet


def test_the_same_verbs_for_all(mixed: Fleet, pods: Pods, basic_auth: pathlib.Path, tmp_path: pathlib.Path) -> None:
    files = mixed.sites["files"]

    def accepted() -> list[str]:
        """The password that each of them takes; both refuse who has none."""
        assert (files.get(), pods.get()) == (401, 401)
        words = ("first-word", "second-word", "third-word")
        found = [[word for word in words if get(f"foo:{word}") == 200] for get in (files.get, pods.get)]
        return [word for (word,) in found]

    def play(book: str, word: str, *options: str, status: int = 0, **variables: t.Any) -> str:
        secrets = {"envoy_filters_secrets": {"foo_password": word}}
        output = mixed.play(f"playbooks/{book}.yml", *options, **secrets, **variables)
        assert output.startswith(f"{status}\n"), output
        assert word not in output
        return output

    play("site", "first-word")
    assert accepted() == ["first-word"] * 2
    running = pods.names()
    told = play("status", "first-word")
    assert re.search(r"ingress +ok +1 of 1 Pods .* basic_auth +=", told), told

    changed = mixed.changed(play("rotate", "second-word"))
    assert changed == {"files": 1, "ingress": 1}
    assert accepted() == ["second-word"] * 2
    drifted = play("status", "first-word", status=2)
    assert "ingress: drifted: basic_auth: not what the variables say" in drifted, drifted
    unknown = play("status", "second-word", "--limit", "ingress", status=2, envoy_filters_kubeconfig="/nowhere")
    assert "ingress: unknown: kubeconfig: found none that can be used at /nowhere" in unknown, unknown
    # Nobody knows the old one any more.
    play("rollback", "third-word")
    assert accepted() == ["first-word"] * 2
    assert pods.names() == running

    newer = {"envoy_extensions": [{"name": "basic_auth", "src": str(version(basic_auth, tmp_path, 5))}]}
    probe = {"url": "http://{{ where[inventory_hostname] }}/status/200", "headers": {"host": HOST}}
    where = {"files": f"127.0.0.1:{files.port}", "ingress": f"{pods.cluster.network.node}:{pods.gateway.port}"}
    probes = {
        "where": where,
        "rollout_probe": [{**probe, "status": "{{ 418 if inventory_hostname == 'ingress' else 401 }}"}],
    }
    play("rollout", "second-word", "--check", "--diff", **newer)
    assert accepted() == ["first-word"] * 2
    said = play("rollout", "second-word", status=2, rollout_restore=True, **newer, **probes)
    assert "ingress: FAILED: Status code was 401" in said, said
    assert said.count("restored to what it ran before") == 2, said
    assert accepted() == ["first-word"] * 2
    said = play("rollout", "second-word", **newer)
    for name in ("files", "ingress"):
        assert f'"{name}: done"' in said, said
    assert accepted() == ["second-word"] * 2
    assert set(pods.names()).isdisjoint(running)


def test_away_again(pods: Pods) -> None:
    before, mounts = pods.theirs(), pods.mounts()
    refused = pods.module(state="absent")
    assert refused.code == "in_use"
    assert f"EnvoyFilter {SYSTEM}/basic-auth names /" in refused["msg"]
    checked = pods.play("uninstall", "--check", "--diff")
    assert (checked.status, checked.changed) == (0, 2), checked.output
    assert (pods.mounts(), pods.get(FOO)) == (mounts, 200)
    done = pods.play("uninstall")
    assert done.status == 0, done.output
    assert (pods.mounts(), pods.get(FOO), pods.get()) == ([], 403, 403)
    again = pods.good(istio_gateway_state="absent", extensions=False)
    assert again.changed == 0, again.output
    assert pods.theirs() == before
