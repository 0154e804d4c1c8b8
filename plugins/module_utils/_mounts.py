# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of the nodes a gateway's Pods have, and how far a rollout is. Pure: tables of cases test it."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _retention
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import describe

VERSION = "apps/v1"
PLURAL = "deployments"
_PREFIX = "moe-gateway-"
#: What the kubelet says of a path where no file is, be it empty or a directory. It won't change by itself.
_NO_FILE = "hostPath type check failed"

Object = dict[str, t.Any]


def paths(extensions: list[dict[str, t.Any]]) -> list[str]:
    """Read the option ``extensions``."""
    found: list[str] = []
    for index, item in enumerate(extensions):
        path, at = item["path"], f"extensions[{index}]"
        parsed = _retention.parse(posixpath.basename(path))
        if parsed is None or not path.startswith("/") or posixpath.normpath(path) != path:
            expected = "an absolute path of a file NAME-SHA256.so, as the role envoy_extensions puts it on nodes"
            raise invalid(f"{at}.path", describe(path), expected)
        if item.get("sha256") not in (None, parsed[1]):
            raise invalid(f"{at}.sha256", str(item["sha256"]), f"{parsed[1]}, the digest in its path")
        if path in found:
            raise invalid(f"{at}.path", f"{path} twice", "each once")
        found.append(path)
    return found


def volume_name(path: str) -> str:
    """What the volume of a file is called: of one path always the same."""
    name = re.sub(r"[^a-z0-9]+", "-", posixpath.basename(path).rpartition("-")[0].lower()).strip("-")
    return f"{_PREFIX}{name[:32].strip('-')}-{hashlib.sha256(path.encode()).hexdigest()[:16]}"


def _pod(deployment: Object) -> Object:
    return deployment["spec"]["template"]["spec"]


def _volumes(deployment: Object) -> list[Object]:
    return _pod(deployment).get("volumes") or []


def container(deployment: Object, name: str) -> Object:
    """One of the containers; a ``Failure`` if there is none of that name."""
    found = {item["name"]: item for item in _pod(deployment)["containers"]}
    if name not in found:
        raise invalid("container", name, f"one of the Deployment's: {', '.join(found)}")
    return found[name]


def ours(deployment: Object) -> list[str]:
    """The files that the Pods have from this collection, in order."""
    found = [(item["name"], (item.get("hostPath") or {}).get("path", "")) for item in _volumes(deployment)]
    return [path for name, path in found if path and name == volume_name(path)]


def _mounted(deployment: Object, name: str) -> set[str]:
    """The files that a container has at the path that they have on the node, whoever saw to it."""
    sources = {item["name"]: (item.get("hostPath") or {}).get("path") for item in _volumes(deployment)}
    mounts = container(deployment, name).get("volumeMounts") or []
    return {item["mountPath"] for item in mounts if sources.get(item["name"]) == item["mountPath"]}


def plan(deployment: Object, name: str, wanted: list[str], named: t.Collection[str]) -> list[str]:
    """Which files the Pods should have from this collection.

    Nothing is taken away for its own sake, since that ends Pods too: what is not needed any more goes when another file
    comes. What a filter names stays.

    :param name: of the container.
    :param wanted: files that the container has to have.
    :param named: digests of files that a filter names.
    """
    before, mounted = ours(deployment), _mounted(deployment, name)
    missing = [path for path in wanted if path not in mounted]
    if not missing:
        return before
    kept = [path for path in before if path not in missing and (path in wanted or _digest(path) in named)]
    return [*kept, *missing]


def needed(deployment: Object, filters: t.Iterable[Object]) -> dict[str, str]:
    """The files from this collection that a filter names, each with one of the EnvoyFilters."""
    found = {}
    for item in filters:
        digests = named([item])
        for path in ours(deployment):
            if _digest(path) in digests:
                where = item["metadata"]
                found.setdefault(path, f"{where['namespace']}/{where['name']}")
    return found


def named(filters: t.Iterable[Object]) -> set[str]:
    """Digests of files that any of these EnvoyFilters may name."""
    found: set[str] = set()
    for item in filters:
        found |= _retention.digests(json.dumps(item.get("spec")).encode())
    return found


def _digest(path: str) -> str:
    parsed = _retention.parse(posixpath.basename(path))
    return parsed[1] if parsed else ""


def manifest(namespace: str, deployment: str, name: str, files: list[str]) -> Object:
    """What of the Deployment is this collection's, for server-side apply. Everything else stays as it is.

    :param name: of the container.
    """
    found: Object = {"apiVersion": VERSION, "kind": "Deployment"}
    found["metadata"] = {"name": deployment, "namespace": namespace}
    if files:
        mounts = [{"name": volume_name(path), "mountPath": path, "readOnly": True} for path in files]
        volumes = [{"name": volume_name(path), "hostPath": {"path": path, "type": "File"}} for path in files]
        pod = {"containers": [{"name": name, "volumeMounts": mounts}], "volumes": volumes}
        found["spec"] = {"template": {"spec": pod}}
    return found


def check(deployment: Object) -> None:
    """Raise a ``Failure`` for a Deployment that no change would reach."""
    if deployment["spec"].get("paused"):
        raise Failure("paused", "deployment: found it paused, expected one that rolls out. Resume it first.")


def gap(deployment: Object) -> str:
    """Why a rolling update may leave no Pod that serves; empty if it doesn't."""
    spec = deployment["spec"]
    strategy, replicas = spec.get("strategy") or {}, spec.get("replicas", 1)
    if strategy.get("type") == "Recreate":
        return "its strategy is Recreate"
    unavailable = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", "25%")
    share = re.fullmatch(r"([0-9]+)%", str(unavailable))
    missing = replicas * int(share[1]) // 100 if share else int(unavailable)
    return f"maxUnavailable {unavailable} is all {replicas} of them" if replicas and missing >= replicas else ""


def selector(deployment: Object) -> dict[str, str]:
    """The labels of its Pods."""
    return dict(deployment["spec"]["selector"].get("matchLabels") or {})


def unfinished(deployment: Object, pods: list[Object]) -> str:
    """Why its rollout is not at its end; empty if it is, and no Pod of before is left."""
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return "Kubernetes has not taken it up yet"
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} Pods are new"
    if min(available, updated) < wanted or status.get("unavailableReplicas", 0):
        return f"{min(available, wanted)} of {wanted} Pods are available"
    left = len([pod for pod in pods if not _over(pod)]) - wanted
    return f"{left} Pods of before are left" if left > 0 else ""


def _over(pod: Object) -> bool:
    """Evicted and the like: only a note of it is left."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def troubled(pods: t.Iterable[Object]) -> list[Object]:
    """The Pods that should serve and don't."""
    return [pod for pod in pods if not (ready(pod) or _over(pod) or pod["metadata"].get("deletionTimestamp"))]


def trouble(pod: Object, events: t.Iterable[Object]) -> str:
    """Why a Pod does not serve, as far as its state and events tell; empty if they don't.

    :param events: warnings about Pods.
    """
    status, found = pod.get("status") or {}, []
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            found.append(condition.get("message", ""))
    for item in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        for state in (item.get("state") or {}, item.get("lastState") or {}):
            waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
            if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                found.append(f"{item['name']}: {waiting['reason']} {waiting.get('message', '')}".strip())
            if ended.get("exitCode"):
                found.append(f"{item['name']} ended with {ended['exitCode']} ({ended.get('reason', 'no reason')})")
    uid = pod["metadata"]["uid"]
    found += [event.get("message", "") for event in events if event["involvedObject"].get("uid") == uid]
    said = "; ".join(dict.fromkeys(text.strip().rstrip(".") for text in found if text.strip()))
    node = pod["spec"].get("nodeName")
    return f"Pod {pod['metadata']['name']}{f' on node {node}' if node else ''}: {said}" if said else ""


def hopeless(reason: str) -> bool:
    """Whether waiting for longer is of no use."""
    return _NO_FILE in reason
