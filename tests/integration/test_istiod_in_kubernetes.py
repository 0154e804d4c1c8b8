# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role for istiod in a real cluster, with Istio's own charts: from nothing over an upgrade to the end."""

from __future__ import annotations

import contextlib
import json
import pathlib
import types
import typing as t

import pytest
import upstreams
from cluster import Network, Node, missing
from control_plane import BUILT, SYSTEM, ApiError, ControlPlane, Object, discovered, envoy_filter, serving
from plays import Play, Playable, outcome, playbook
from real import TYPE, content_addressed, run_module, wait_until

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"NOT RUN: istiod in Kubernetes ({missing()})")

#: as the chart's service account, for which the API server checks the chart's rights
ACCOUNT = f"system:serviceaccount:{SYSTEM}:istiod"
#: tags of one program: what Kubernetes is told differs, and that is what is rolled out
OLD, NEW = "of-before", "of-now"
#: Pods have the node's network here, so two of them would have the same ports.
HOST_NETWORK = {"path": "spec.template.spec.hostNetwork", "value": True}
USER = {"path": "spec.template.spec.containers.[name:discovery].securityContext.runAsUser", "value": 1337}
OPERATOR = {
    "hub": "localhost",
    "tag": OLD,
    "values": {
        "global": {"imagePullPolicy": "Never"},
        "pilot": {"rollingMaxSurge": 0, "rollingMaxUnavailable": 1},
        # A stock Envoy has none of Istio's own filters, as in SETTINGS.
        "telemetry": {"enabled": False},
    },
    "components": {
        "pilot": {
            "k8s": {"overlays": [{"kind": "Deployment", "name": "istiod", "patches": [HOST_NETWORK, USER]}]},
        }
    },
}
SETTINGS = {
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_DISABLE_MX_ALPN": "true",
}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod", "namespace": SYSTEM}}
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
#: kinds that Istio's charts have
KINDS = (
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("apps/v1", "Deployment"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
)


class Installed(Playable):
    """A cluster, and the playbook that has istiod in it."""

    def __init__(self, plane: ControlPlane, network: Network, node: Node, folder: pathlib.Path) -> None:
        self.plane = plane
        self.network = network
        self.node = node
        self.folder = folder
        self.inventory = folder / "inventory.json"
        local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        self.inventory.write_text(json.dumps({"istiods": {"hosts": {"cluster": local}}}))
        self.variables: dict[str, t.Any] = {
            "istiod_platform": "kubernetes",
            "istiod_istioctl": str(BUILT / "bin" / "istioctl"),
            "istiod_kubeconfig": str(plane.kubeconfig),
            "istiod_environment": SETTINGS,
            "istiod_mesh": {"enableAutoMtls": False},
            "istiod_operator": OPERATOR,
            "istiod_ready_timeout": 60,
        }

    def run(self, *options: str, book: str = "istiod", tag: str = OLD, **variables: t.Any) -> Play:
        path = self.folder / "variables.json"
        operator = {"istiod_operator": {**OPERATOR, "tag": tag}}
        path.write_text(json.dumps({**self.variables, **operator, **variables}))
        done = playbook("-i", str(self.inventory), "-e", f"@{path}", "--diff", *options, f"playbooks/{book}.yml")
        return outcome(done, "cluster")

    def images(self) -> list[str]:
        """Those of the istiods that are ready."""
        return [
            pod["spec"]["containers"][0]["image"]
            for pod in self.node.pods(SYSTEM)
            if pod["metadata"]["labels"].get("app") == "istiod"
            and "deletionTimestamp" not in pod["metadata"]
            and any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
        ]

    def objects(self) -> set[str]:
        """All that are of such kinds."""
        api = self.plane.api
        return {f"{kind} {one['metadata']['name']}" for v, kind in KINDS for one in api.list(v, kind)}


@pytest.fixture(scope="module")
def installed(built: None, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Installed]:
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        plane = ControlPlane(network.machine)
        stack.callback(plane.stop)
        # Nothing of Istio's is in it.
        plane.start_etcd()
        plane.start_api_server()
        node = stack.enter_context(Node(plane, network))
        for tag, program in ((OLD, "pilot-discovery"), (NEW, "pilot-discovery"), ("broken", "etcdutl")):
            node.load(f"localhost/pilot:{tag}", {"/istiod": BUILT / "bin" / program}, ["/istiod"])
        yield Installed(plane, network, node, tmp_path_factory.mktemp("istiod"))


def test_from_nothing_to_an_upgrade_and_away(
    installed: Installed, basic_auth: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plane, api = installed.plane, installed.plane.api
    before = installed.objects()
    checked = installed.good("--check")
    assert checked.changed > 0
    assert "+Deployment istio-system/istiod" in checked.output
    assert api.get(NAMESPACE) is None
    assert installed.objects() == before

    # There is no route to the cluster's own addresses here, so istiod is told where the API server is.
    config = plane.write_kubeconfig(ACCOUNT, ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}"])
    secret = {**NAMESPACE, "kind": "Secret", "metadata": {"name": "istio-kubeconfig", "namespace": SYSTEM}}
    api.create(NAMESPACE)
    api.create({**secret, "stringData": {"config": config.read_text()}})
    installed.good()
    assert installed.images() == [f"localhost/pilot:{OLD}"]
    for again in (installed.good("--check"), installed.good()):
        assert again.changed == 0, again.output

    # Nothing that istiod can't read gets in.
    with pytest.raises(ApiError, match="unknown|none.Such"):
        api.create(discovered("x", {"@type": TYPE + "none.Such"}), dry_run=True)

    with upstreams.running() as upstream:
        istiod = types.SimpleNamespace(plaintext=15010)
        gateway = plane.gateway("first", istiod, plaintext=True, at=installed.network.node)
        api.apply(*serving(gateway, upstream))
        gateway.statuses(None, 200, 60)

        def bring(password: str) -> None:
            result = run_module(
                "istio_filter",
                {
                    "name": "basic_auth",
                    "engine": "dynamic_module",
                    "extension": str(content_addressed(basic_auth, tmp_path)),
                    "config": {"users": [{"username": "foo", "password": "${secret.password}"}]},
                    "secrets": {"password": password},
                    "workload_selector": {"istio": "ingressgateway"},
                    "istiods": [f"pods://{SYSTEM}/app=istiod"],
                    "kubeconfig": str(plane.kubeconfig),
                },
            )
            assert not result.failed, result.output
            assert result["gateways"] == [gateway.proxy]

        bring("bar-of-old")
        assert (gateway.get(None), gateway.get("foo:bar-of-old")) == (401, 200)

        installed.good(tag=NEW)
        assert installed.images() == [f"localhost/pilot:{NEW}"]
        wait_until(gateway.connected, "the gateway is not back")
        bring("baz-of-new")
        assert (gateway.get("foo:bar-of-old"), gateway.get("foo:baz-of-new")) == (401, 200)

        # What is not ready in time is undone.
        said = installed.bad(tag="broken", istiod_ready_timeout=10)
        assert "does not become ready" in said, said
        assert "is as it was before" in said, said
        wait_until(lambda: installed.images() == [f"localhost/pilot:{NEW}"], "what ran before does not run", 60)
        assert "terminated, Error" in said, said
        # What else the broken release had brought goes with the next run.
        assert installed.good(tag=NEW).changed == 1
        assert installed.images() == [f"localhost/pilot:{NEW}"]
        assert gateway.get("foo:baz-of-new") == 200

        checked = installed.good("--check", book="istiod_uninstall", tag=NEW)
        assert checked.changed > 0
        assert installed.images() == [f"localhost/pilot:{NEW}"]
        installed.good(book="istiod_uninstall", tag=NEW)
        assert installed.good(book="istiod_uninstall", tag=NEW).changed == 0
        left = installed.objects() - before - {"ServiceAccount default"}
        # Definitions, and what istiod itself writes.
        assert {one.split()[0] for one in left} == {"CustomResourceDefinition", "ConfigMap"}, left
        assert not left & {"ConfigMap istio", "ConfigMap values", "ConfigMap istio-sidecar-injector"}, left
        # With definitions, everybody's objects stay, unless these are to go, too.
        assert api.get(envoy_filter("basic-auth", [])) is not None
        installed.good(book="istiod_uninstall", tag=NEW, istiod_uninstall_definitions=True)
        assert {one for one in installed.objects() if one.startswith("CustomResourceDefinition ")} == set()
        assert api.get(NAMESPACE) is not None
        assert gateway.get("foo:baz-of-new") == 200


def test_an_istiod_of_somebody_else(installed: Installed) -> None:
    plane = installed.plane
    plane.api.apply(NAMESPACE)
    template = {"metadata": {"labels": {"app": "istiod"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    theirs: Object = {**DEPLOYMENT, "metadata": {**DEPLOYMENT["metadata"]}}
    theirs["metadata"]["annotations"] = {"meta.helm.sh/release-name": "theirs"}
    theirs["spec"] = {"replicas": 0, "selector": {"matchLabels": {"app": "istiod"}}, "template": template}
    plane.api.apply(theirs)
    before = plane.api.get(theirs)
    assert "found the istiod of Helm's release theirs in istio-system" in installed.bad()
    assert plane.api.get(theirs)["spec"] == before["spec"]
    plane.api.delete(theirs)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"istiod_istioctl": "/no/such/program"},
            "istiod_istioctl: found /no/such/program, expected the program istioctl.",
        ),
        (
            {"istiod_operator": {"values": {"global": {"noSuchKey": 1}}}},
            "istiod_operator, istiod_mesh, istiod_environment: istioctl refuses what they say.",
        ),
    ],
)
def test_what_cannot_be_installed(installed: Installed, variables: dict[str, t.Any], message: str) -> None:
    before = installed.objects()
    assert message in installed.bad(**variables)
    assert installed.objects() == before
