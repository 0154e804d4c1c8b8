# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files the Pods of a gateway get, and how far their rollout is."""

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _mounts
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._mounts import File


def path(number, name="basic_auth", folder="/opt/envoy/extensions"):
    return f"{folder}/{name}-{number:064x}.so"


def file(number, image="", copied=False):
    own = path(number)
    return File(f"{own[:-3]}/{own.rpartition('/')[2]}" if image else own, image, copied)


def deployment(*files, **spec):
    """One with a volume of somebody else, in which these files are mounted."""
    mine = _mounts.manifest("istio-system", "ingress", "istio-proxy", list(files)).get("spec")
    pod = mine["template"]["spec"] if mine else {"containers": [{"name": "istio-proxy"}], "volumes": []}
    own = {"name": "own", "hostPath": {"path": "/var/own"}}
    (container,) = pod["containers"]
    mounts = [{"name": "own", "mountPath": "/var/own"}, *container.get("volumeMounts", [])]
    containers = [{**container, "volumeMounts": mounts}, {"name": "other"}]
    theirs = {"name": "theirs", "image": "other"}
    copiers = [theirs, *pod.get("initContainers", [])]
    template = {"spec": {"initContainers": copiers, "containers": containers, "volumes": [own, *pod["volumes"]]}}
    selector = {"matchLabels": {"istio": "ingressgateway"}}
    return {"metadata": {"generation": 3}, "spec": {"selector": selector, "template": template, **spec}}


def envoy_filter(text):
    return {"metadata": {"namespace": "istio-system", "name": "basic-auth"}, "spec": {"configPatches": [text]}}


@pytest.mark.parametrize(
    ("before", "wanted", "named", "after"),
    [
        pytest.param([], [1], [], [1], id="the first"),
        pytest.param([1], [1], [], [1], id="nothing to do"),
        pytest.param([1], [2], [1], [1, 2], id="the filter still runs the old one"),
        pytest.param([1, 2], [2], [2], [1, 2], id="no Pod starts anew to get rid of a file"),
        pytest.param([1, 2], [3], [2], [2, 3], id="what no filter names goes with the next"),
        pytest.param([1, 2], [3], [1], [1, 3], id="a filter that went back keeps its file"),
        pytest.param([1], [], [], [1], id="nothing wanted takes nothing away"),
        pytest.param([1], [1, 2], [], [1, 2], id="one more"),
    ],
)
def test_plan(before, wanted, named, after):
    found = deployment(*map(file, before))
    digests = [f"{number:064x}" for number in named]
    assert _mounts.ours(found, "istio-proxy") == list(map(file, before))
    plan = _mounts.plan(found, "istio-proxy", list(map(file, wanted)), digests)
    assert plan == list(map(file, after))


def test_what_somebody_else_has_mounted_already_is_enough():
    found = deployment()
    pod = found["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "library", "hostPath": {"path": path(1), "type": "File"}})
    pod["containers"][0]["volumeMounts"].append({"name": "library", "mountPath": path(1)})
    assert _mounts.plan(found, "istio-proxy", [file(1)], []) == []
    assert _mounts.plan(found, "other", [file(1)], []) == [file(1)]


def test_a_volume_without_its_mount_is_mounted():
    found = deployment(file(1))
    del found["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][1]
    assert _mounts.plan(found, "istio-proxy", [file(1)], []) == [file(1)]


def test_a_file_of_an_image():
    image = "registry.example.com/extensions@sha256:0"
    found = deployment(file(1, image))
    assert _mounts.ours(found, "istio-proxy") == [file(1, image)]
    assert _mounts.plan(found, "istio-proxy", [file(1, image)], []) == [file(1, image)]
    # One path has one source, and one digest may have two paths.
    assert _mounts.plan(found, "istio-proxy", [file(1, "elsewhere")], [f"{1:064x}"]) == [file(1, "elsewhere")]
    assert _mounts.plan(found, "istio-proxy", [file(1)], [f"{1:064x}"]) == [file(1, image), file(1)]
    pod = _mounts.manifest("a", "b", "c", [file(1, image)])["spec"]["template"]["spec"]
    assert pod["volumes"][0]["image"] == {"reference": image}
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == path(1)[:-3]
    item = {"path": path(1), "image": image}
    with pytest.raises(Failure, match=r"path: found .*, expected .*/basic_auth-0+1/basic_auth-0+1.so, since"):
        _mounts.files([item])
    assert _mounts.files([{**item, "path": file(1, image).path}]) == [file(1, image)]


def test_a_file_that_is_copied_out_of_an_image():
    image = "registry.example.com/extensions@sha256:0"
    copied = file(1, image, True)
    found = deployment(copied, file(2))
    assert _mounts.ours(found, "istio-proxy") == [copied, file(2)]
    assert _mounts.plan(found, "istio-proxy", [copied], []) == [copied, file(2)]
    # Another way to the same path is another Pod.
    assert _mounts.plan(found, "istio-proxy", [file(1, image)], []) == [file(1, image)]
    pod = _mounts.manifest("a", "b", "c", [copied])["spec"]["template"]["spec"]
    (copier,), (volume,) = pod["initContainers"], pod["volumes"]
    assert copier["command"] == ["cp", "-f", f"/{copied.name}", copied.path]
    assert copier["volumeMounts"] == [{"name": volume["name"], "mountPath": path(1)[:-3]}]
    assert volume == {"name": copied.volume, "emptyDir": {}}
    assert pod["containers"][0]["volumeMounts"][0]["readOnly"]
    item = {"path": copied.path, "image": image, "init_container": True}
    assert _mounts.files([item]) == [copied]
    with pytest.raises(Failure, match=r"extensions\[0\].init_container: found true and no image"):
        _mounts.files([{**item, "image": None, "path": path(1)}])


def test_only_what_is_the_collections_is_applied():
    whole = _mounts.manifest("istio-system", "ingress", "istio-proxy", [file(1)])
    pod = whole["spec"]["template"]["spec"]
    (volume,), (container,) = pod["volumes"], pod["containers"]
    assert volume["hostPath"] == {"path": path(1), "type": "File"}
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": path(1), "readOnly": True}]
    assert "spec" not in _mounts.manifest("istio-system", "ingress", "istio-proxy", [])


@pytest.mark.parametrize("name", ["basic_auth", "A.b-c", "x" * 80, "9"])
def test_names_of_volumes(name):
    found = File(path(1, name)).volume
    assert len(found) <= 63
    assert found.replace("-", "").isalnum()
    assert found == found.lower()
    assert found != File(path(1, name, "/elsewhere")).volume


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"path": "/opt/basic_auth.so"}, r"extensions\[0\].path: found '/opt/basic_auth.so'"),
        ({"path": path(1, folder="opt")}, r"extensions\[0\].path"),
        ({"path": path(1, folder="/opt/..")}, r"extensions\[0\].path"),
        ({"path": path(1), "sha256": f"{2:064x}"}, r"extensions\[0\].sha256: found 0+2, expected 0+1"),
    ],
)
def test_files(item, error):
    with pytest.raises(Failure, match=error):
        _mounts.files([item])


def test_files_twice():
    item = {"path": path(1), "sha256": f"{1:064x}"}
    assert _mounts.files([item]) == [file(1)]
    with pytest.raises(Failure, match="twice"):
        _mounts.files([item, item])


def test_what_filters_need():
    found = [file(1), file(2)]
    assert _mounts.needed(found, [envoy_filter({"library_path": path(2)})]) == {path(2): "istio-system/basic-auth"}
    assert _mounts.needed(found, [envoy_filter({})]) == {}


def test_a_container_that_is_not_there():
    with pytest.raises(Failure, match="container: found none, expected one of the Deployment's: istio-proxy, other"):
        _mounts.container(deployment(), "none")


def test_a_paused_deployment():
    _mounts.check(deployment())
    with pytest.raises(Failure, match="paused"):
        _mounts.check(deployment(paused=True))


@pytest.mark.parametrize("more", [{"matchLabels": {}}, {"matchExpressions": [{"key": "a", "operator": "Exists"}]}])
def test_pods_that_are_not_found_by_labels_alone(more):
    found = deployment()
    found["spec"]["selector"].update(more)
    with pytest.raises(Failure, match="labels alone"):
        _mounts.check(found)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({}, ""),
        ({"replicas": 1, "strategy": {"rollingUpdate": {"maxUnavailable": "25%"}}}, ""),
        ({"replicas": 2, "strategy": {"rollingUpdate": {"maxUnavailable": 1}}}, ""),
        ({"replicas": 0, "strategy": {"rollingUpdate": {"maxUnavailable": 1}}}, ""),
        ({"replicas": 1, "strategy": {"rollingUpdate": {"maxUnavailable": 1}}}, "maxUnavailable 1 is all 1"),
        ({"replicas": 3, "strategy": {"rollingUpdate": {"maxUnavailable": "100%"}}}, "maxUnavailable 100% is all 3"),
        ({"replicas": 3, "strategy": {"type": "Recreate"}}, "Recreate"),
    ],
)
def test_gap(spec, word):
    found = _mounts.gap(deployment(**spec))
    assert word in found
    assert bool(found) == bool(word)


POD = {"metadata": {"name": "ingress-1", "uid": "1"}, "spec": {"nodeName": "node1"}}
DONE = {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


@pytest.mark.parametrize(
    ("status", "pods", "word"),
    [
        (DONE, 2, ""),
        ({**DONE, "observedGeneration": 2}, 2, "has not taken it up"),
        ({}, 2, "has not taken it up"),
        ({**DONE, "updatedReplicas": 1}, 3, "1 of 2 Pods are new"),
        ({**DONE, "availableReplicas": 1, "unavailableReplicas": 1}, 2, "1 of its Pods is not available"),
        ({**DONE, "availableReplicas": 0}, 2, "2 of its Pods are not available"),
        ({**DONE, "replicas": 3, "availableReplicas": 3}, 3, "1 Pods of before are left"),
        (DONE, 3, "1 Pods of before are left"),
    ],
)
def test_unfinished(status, pods, word):
    found = _mounts.unfinished({**deployment(replicas=2), "status": status}, [POD] * pods)
    assert word in found
    assert bool(found) == bool(word)


def test_what_is_only_a_note_of_a_pod_is_not_left():
    evicted = {**POD, "status": {"phase": "Failed"}}
    assert _mounts.unfinished({**deployment(replicas=2), "status": DONE}, [POD, POD, evicted]) == ""


def test_who_is_in_trouble():
    serving = {**POD, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    ending = {**POD, "metadata": {"name": "ingress-2", "deletionTimestamp": "2030-01-31T12:00:00Z"}}
    evicted = {**POD, "status": {"phase": "Failed"}}
    assert _mounts.troubled([POD, serving, ending, evicted]) == [POD]


def test_why_it_is_in_trouble():
    mount = {"involvedObject": {"uid": "1"}, "message": "hostPath type check failed: /x is not a file"}
    other = {"involvedObject": {"uid": "2"}, "message": "of another Pod"}
    assert _mounts.trouble(POD, [other]) == ""
    found = _mounts.trouble(POD, [mount, mount, other])
    assert found == "Pod ingress-1 on node node1: hostPath type check failed: /x is not a file"
    assert _mounts.hopeless(found)
    crashed = {
        "name": "istio-proxy",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        "lastState": {"terminated": {"exitCode": 139, "reason": "Error"}},
    }
    starting = {"name": "other", "state": {"waiting": {"reason": "ContainerCreating"}}}
    found = _mounts.trouble({**POD, "status": {"containerStatuses": [starting, crashed]}}, [])
    why = "istio-proxy: CrashLoopBackOff back-off 10s; istio-proxy ended with 139 (Error)"
    assert found == f"Pod ingress-1 on node node1: {why}"
    assert not _mounts.hopeless(found)
    conditions = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available."}]
    nowhere = {"metadata": POD["metadata"], "spec": {}, "status": {"conditions": conditions}}
    assert _mounts.trouble(nowhere, []) == "Pod ingress-1: 0/1 nodes are available"
