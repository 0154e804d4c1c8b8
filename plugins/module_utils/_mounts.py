# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of extensions a gateway's Pods have, and how far a rollout is. Pure: tables of cases test it."""

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


class File(t.NamedTuple):
    """What a container has mounted under a path that never changes its code."""

    path: str
    #: the image that has it, in its topmost directory, and is mounted as a whole on a directory that is the file's own:
    #: no runtime mounts a single file of one. Empty where it is on the node, under the same path.
    image: str = ""
    #: an init container copies it out of the image into a directory of the Pod's own: nothing of the image is mounted
    copied: bool = False

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def mount(self) -> str:
        """Where its volume is mounted."""
        return posixpath.dirname(self.path) if self.image else self.path

    @property
    def digest(self) -> str:
        parsed = _retention.parse(self.name)
        return parsed[1] if parsed else ""

    @property
    def volume(self) -> str:
        """What its volume is called: of one path always the same."""
        name = re.sub(r"[^a-z0-9]+", "-", self.name.rpartition("-")[0].lower()).strip("-")
        return f"{_PREFIX}{name[:32].strip('-')}-{hashlib.sha256(self.path.encode()).hexdigest()[:16]}"

    def source(self) -> Object:
        if self.copied:
            return {"emptyDir": {}}
        if self.image:
            return {"image": {"reference": self.image}}
        return {"hostPath": {"path": self.path, "type": "File"}}

    def copier(self) -> Object:
        """The init container. It is allowed nothing that a restricted namespace forbids."""
        return {
            "name": self.volume,
            "image": self.image,
            # Where the Pod is started anew, the file is there already, and nobody has it open.
            "command": ["cp", "-f", f"/{self.name}", self.path],
            "volumeMounts": [{"name": self.volume, "mountPath": self.mount}],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
        }

    def __str__(self) -> str:
        how = " copied out" if self.copied else ""
        return f"{self.path}{how} of the image {self.image}" if self.image else self.path


def files(extensions: list[dict[str, t.Any]]) -> list[File]:
    """Read the option ``extensions``."""
    found: list[File] = []
    for index, item in enumerate(extensions):
        path, at = item["path"], f"extensions[{index}]"
        parsed = _retention.parse(posixpath.basename(path))
        if parsed is None or not path.startswith("/") or posixpath.normpath(path) != path:
            expected = "an absolute path of a file NAME-SHA256.so, as the role envoy_extensions makes it"
            raise invalid(f"{at}.path", describe(path), expected)
        if item.get("sha256") not in (None, parsed[1]):
            raise invalid(f"{at}.sha256", str(item["sha256"]), f"{parsed[1]}, the digest in its path")
        file = File(path, item.get("image") or "", bool(item.get("init_container")))
        if file.copied and not file.image:
            raise invalid(f"{at}.init_container", "true and no image", "an image that it copies the file out of")
        if file.image and f"{posixpath.basename(file.mount)}.so" != file.name:
            expected = f"{file.mount}/{file.name[:-3]}/{file.name}, since the image takes a directory"
            raise invalid(f"{at}.path", path, expected)
        if any(path == other.path for other in found):
            raise invalid(f"{at}.path", f"{path} twice", "each once")
        found.append(file)
    return found


def _pod(deployment: Object) -> Object:
    return deployment["spec"]["template"]["spec"]


def container(deployment: Object, name: str) -> Object:
    """One of the containers; a ``Failure`` if there is none of that name."""
    found = {item["name"]: item for item in _pod(deployment)["containers"]}
    if name not in found:
        raise invalid("container", name, f"one of the Deployment's: {', '.join(found)}")
    return found[name]


def ours(deployment: Object, name: str) -> list[File]:
    """The files that a container has from this collection, in order."""
    return [file for file, volume in _mounted(deployment, name) if volume == file.volume]


def _mounted(deployment: Object, name: str) -> list[tuple[File, str]]:
    """The files that a container has as :func:`manifest` mounts them, whoever saw to it, with the names of volumes."""
    volumes = {item["name"]: item for item in _pod(deployment).get("volumes") or []}
    copiers = {item["name"]: item["image"] for item in _pod(deployment).get("initContainers") or []}
    found = []
    for mount in container(deployment, name).get("volumeMounts") or []:
        volume, path = volumes[mount["name"]], mount["mountPath"]
        if image := (volume.get("image") or {}).get("reference"):
            found.append((File(f"{path}/{posixpath.basename(path)}.so", image), mount["name"]))
        elif "emptyDir" in volume and mount["name"] in copiers:
            copied = File(f"{path}/{posixpath.basename(path)}.so", copiers[mount["name"]], True)
            found.append((copied, mount["name"]))
        elif (volume.get("hostPath") or {}).get("path") == path:
            found.append((File(path), mount["name"]))
    return found


def plan(deployment: Object, name: str, wanted: list[File], named: t.Collection[str]) -> list[File]:
    """Which files the Pods should have from this collection.

    Nothing is taken away for its own sake, since that ends Pods too: what is not needed any more goes when another file
    comes. What a filter names stays.

    :param name: of the container.
    :param wanted: files that the container has to have.
    :param named: digests of files that a filter names.
    """
    before, mounted = ours(deployment, name), {file for file, _volume in _mounted(deployment, name)}
    missing = [file for file in wanted if file not in mounted]
    if not missing:
        return before
    new = {file.path for file in missing}
    kept = [file for file in before if file.path not in new and (file in wanted or file.digest in named)]
    return [*kept, *missing]


def needed(files: list[File], filters: t.Iterable[Object]) -> dict[str, str]:
    """The paths of those that a filter names, each with one of the EnvoyFilters."""
    found: dict[str, str] = {}
    for item in filters:
        digests, where = named([item]), item["metadata"]
        for file in files:
            if file.digest in digests:
                found.setdefault(file.path, f"{where['namespace']}/{where['name']}")
    return found


def named(filters: t.Iterable[Object]) -> set[str]:
    """Digests of files that any of these EnvoyFilters may name."""
    found: set[str] = set()
    for item in filters:
        found |= _retention.digests(json.dumps(item.get("spec")).encode())
    return found


def manifest(namespace: str, deployment: str, name: str, files: list[File]) -> Object:
    """What of the Deployment is this collection's, for server-side apply. Everything else stays as it is.

    :param name: of the container.
    """
    found: Object = {"apiVersion": VERSION, "kind": "Deployment"}
    found["metadata"] = {"name": deployment, "namespace": namespace}
    if files:
        mounts = [{"name": file.volume, "mountPath": file.mount, "readOnly": True} for file in files]
        volumes = [{"name": file.volume, **file.source()} for file in files]
        pod = {"containers": [{"name": name, "volumeMounts": mounts}], "volumes": volumes}
        if copiers := [file.copier() for file in files if file.copied]:
            pod["initContainers"] = copiers
        found["spec"] = {"template": {"spec": pod}}
    return found


def check(deployment: Object) -> None:
    """Raise a ``Failure`` for a Deployment that no change would reach, or whose Pods can't be told from others."""
    if not selector(deployment) or deployment["spec"]["selector"].get("matchExpressions"):
        raise invalid("deployment", "one that finds its Pods by expressions", "one that does by labels alone")
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


def available(deployment: Object) -> int:
    """How many of its Pods serve."""
    return (deployment.get("status") or {}).get("availableReplicas", 0)


def unfinished(deployment: Object, pods: list[Object]) -> str:
    """Why its rollout is not at its end; empty if it is, and no Pod of before is left."""
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return "Kubernetes has not taken it up yet"
    updated = status.get("updatedReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} Pods are new"
    if unavailable := status.get("unavailableReplicas", 0) or max(wanted - available(deployment), 0):
        return f"{unavailable} of its Pods {'is' if unavailable == 1 else 'are'} not available"
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
