#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have objects in the Kubernetes API that an istiod reads from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_objects
short_description: Have objects in the Kubernetes API that an istiod reads from
version_added: 0.2.0
description:
  - Applies objects such as Gateways, VirtualServices and ServiceEntries on the server's side, with the field manager
    C(moe.gateway), or deletes them. What others have set in other fields stays.
  - A definition of a resource counts as applied once the API server serves it.
  - For EnvoyFilters there is M(moe.gateway.istio_filter), which also knows what the gateways make of them.
options:
  objects:
    description: Whole objects, with C(apiVersion), C(kind) and C(metadata), in the order in which they are applied.
    type: list
    elements: dict
    required: true
  state:
    description: V(absent) deletes them, in reverse order.
    type: str
    choices: [present, absent]
    default: present
  kubeconfig:
    description: The way to the Kubernetes API. Default is what C(KUBECONFIG) names, or C(~/.kube/config).
    type: path
  context:
    description: Which of its contexts. Default is its current one.
    type: str
  timeout:
    description: Seconds to wait for each answer, and until the API server serves a kind that was just defined.
    type: float
    default: 30.0
extends_documentation_fragment: [moe.gateway.host]
requirements:
  - kubernetes (the Python library), on the host that runs the module
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Let gateways listen
  moe.gateway.istio_objects:
    kubeconfig: /etc/istio/admin.kubeconfig
    objects:
      - apiVersion: networking.istio.io/v1
        kind: Gateway
        metadata: {name: ingress, namespace: istio-system}
        spec:
          selector: {istio: ingressgateway}
          servers:
            - port: {number: 80, name: http, protocol: HTTP}
              hosts: [httpbin.example.com]
  delegate_to: istiod1.example.com
"""

RETURN = r"""
applied:
  description: What was created or changed, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [Gateway istio-system/ingress]
deleted:
  description: What was deleted, or in check mode would be.
  returned: success
  type: list
  elements: str
failure:
  description: Why it failed, as C(code), C(message) and C(details). What had been applied before that stays.
  returned: failure
  type: dict
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.moe.gateway.plugins.module_utils import _kubernetes
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, conclude, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import describe
from ansible_collections.moe.gateway.plugins.module_utils._kubernetes import Api, Object, Place, Refused

_PAUSE = 0.1
_DEFINITION = "CustomResourceDefinition"
#: Of an object's metadata, what only keeps account.
_ACCOUNTS = ("managedFields", "resourceVersion", "generation")


class Objects:
    """Objects of an API, and what was done to them."""

    def __init__(self, api: Api, timeout: float, write: bool) -> None:
        self.api = api
        self.timeout = timeout
        self.write = write
        self.done: list[str] = []
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}

    def place(self, at: str, value: Object) -> Place:
        version, kind = value["apiVersion"], value["kind"]
        deadline = time.monotonic() + self.timeout
        while kind not in self._kinds.get(version, {}):
            # One that was defined a moment ago takes another moment.
            self._kinds[version] = self.api.kinds(version)
            if kind not in self._kinds[version]:
                if not self.write or time.monotonic() > deadline:
                    raise invalid(f"{at}.kind", f"{kind} of {version}", "a kind that the API server serves")
                time.sleep(_PAUSE)
        plural, namespaced = self._kinds[version][kind]
        namespace = value["metadata"].get("namespace", "default") if namespaced else ""
        return Place(version, plural, namespace, value["metadata"]["name"])

    def apply(self, at: str, value: Object) -> None:
        place = self.place(at, value)
        before = self.api.get(place)
        try:
            after = self.api.apply(place, value, dry_run=not self.write).object
        except Refused as refused:
            if not self.write and before is None and refused.status == 404:
                # In check mode its namespace is missing too.
                after = {}
            else:
                raise Failure(
                    "api_refused", f"{at}: {_name(value, place)} is refused: {refused.message}", status=refused.status
                ) from None
        if before is None or _content(before) != _content(after):
            self.done.append(_name(value, place))
        if value["kind"] == _DEFINITION and self.write:
            self._wait(place)

    def delete(self, at: str, value: Object) -> None:
        if value["kind"] not in self.api.kinds(value["apiVersion"]):
            return
        place = self.place(at, value)
        if self.api.get(place) is not None:
            self.done.append(_name(value, place))
            if self.write:
                self.api.delete(place)

    def _wait(self, place: Place) -> None:
        deadline = time.monotonic() + self.timeout
        while not _established(self.api.get(place) or {}):
            if time.monotonic() > deadline:
                raise Failure(
                    "not_established", f"The Kubernetes API does not serve {place.name} yet.", name=place.name
                )
            time.sleep(_PAUSE)


def _established(definition: Object) -> bool:
    # Until the server has looked at it, there are none, and it says null.
    conditions = definition.get("status", {}).get("conditions") or []
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


def _content(value: Object) -> Object:
    metadata = {key: item for key, item in value.get("metadata", {}).items() if key not in _ACCOUNTS}
    return {**value, "metadata": metadata, "status": None}


def _name(value: Object, place: Place) -> str:
    return f"{value['kind']} {place.namespace + '/' if place.namespace else ''}{place.name}"


def run(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    for index, value in enumerate(params["objects"]):
        for key in ("apiVersion", "kind"):
            if not value.get(key) or not isinstance(value[key], str):
                raise invalid(f"objects[{index}].{key}", describe(value.get(key)), "a string")
        name = (value.get("metadata") or {}).get("name")
        if not name or not isinstance(name, str):
            raise invalid(f"objects[{index}].metadata.name", describe(name), "a string")
    objects = Objects(
        _kubernetes.Api(params["kubeconfig"], params["context"], params["timeout"]), params["timeout"], write
    )
    numbered = list(enumerate(params["objects"]))
    present = params["state"] == "present"
    for index, value in numbered if present else reversed(numbered):
        (objects.apply if present else objects.delete)(f"objects[{index}]", value)
    names = "".join(f"{name}\n" for name in objects.done)
    return {
        "changed": bool(objects.done),
        "applied": objects.done if present else [],
        "deleted": [] if present else objects.done,
        "diff": {"before": "" if present else names, "after": names if present else ""},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "objects": {"type": "list", "elements": "dict", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    if _kubernetes.KUBERNETES_ERROR:
        module.fail_json(msg=missing_required_lib("kubernetes"), exception=_kubernetes.KUBERNETES_ERROR)
    conclude(module, lambda: run(module.params, write=not module.check_mode))


if __name__ == "__main__":
    main()
