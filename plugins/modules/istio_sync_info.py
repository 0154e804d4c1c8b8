#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what istiods have sent to their gateways, and what these acknowledged."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_sync_info
short_description: Tell what istiods have sent to their gateways, and what each acknowledged
version_added: 0.2.0
description:
  - Reads the debug pages of one or several istiods. Changes nothing.
  - Can wait until every gateway has acknowledged all that it was sent, or a filter's revision in it.
requirements:
  - kubernetes (the Python library), on the host that runs the module, for istiods in Kubernetes
options:
  namespace:
    description: Only gateways of this namespace.
    type: str
  workload_selector:
    description: Only gateways with these labels.
    type: dict
    default: {}
  version:
    description:
      - The version of a filter, as M(moe.gateway.istio_filter) returns it. RV(gateways[].holds) then tells whether what
        istiod has for a gateway has it.
    type: str
  timeout:
    description:
      - Seconds to wait until RV(reached). V(0) looks once. The state is returned in any case.
      - Each answer of an istiod may take 5 seconds more.
    type: float
    default: 0.0
extends_documentation_fragment:
  - moe.gateway.mesh
  - moe.gateway.info
seealso:
  - module: moe.gateway.istio_filter
  - name: Debugging Envoy and Istiod
    description: What istiod's words for a gateway's state mean.
    link: https://istio.io/latest/docs/ops/diagnostic-tools/proxy-cmd/
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Wait until every gateway runs what it was told
  moe.gateway.istio_sync_info:
    istiods: [http://127.0.0.1:15014]
    workload_selector: {istio: ingressgateway}
    timeout: 30
  register: sync
  failed_when: not sync.reached
  delegate_to: istiod1.example.com
"""

RETURN = r"""
reached:
  description:
    - Whether at least one gateway is connected, and each has acknowledged all that it was sent, with O(version) in it,
      if given.
  returned: success
  type: bool
gateways:
  description: Each gateway that is connected to one of the istiods.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: istiod's name for it.
      type: str
      sample: gateway1.istio-system
    namespace:
      description: Its namespace.
      type: str
    labels:
      description: Its labels.
      type: dict
    istiod:
      description: Which of O(istiods) it is connected to.
      type: str
    synced:
      description: Whether it has acknowledged all that it was sent.
      type: bool
    holds:
      description: Whether O(version) is in what istiod has for it. Null without O(version).
      type: bool
    types:
      description: By type of resource, such as C(Listener).
      type: dict
      contains:
        sent:
          description: The nonce of what it was sent last, which begins with time and number of the push.
          type: str
        acked:
          description: The nonce of what it acknowledged last.
          type: str
        error:
          description:
            - Why it refused what it was sent last. Empty if it did not. Once anything else was sent, istiod has
              forgotten it.
          type: str
istiods:
  description: Each istiod.
  returned: success
  type: list
  elements: dict
  contains:
    url:
      description: As in O(istiods).
      type: str
    error:
      description: Why it does not answer. Empty if it does.
      type: str
    gateways:
      description: How many of these gateways are connected to it.
      type: int
failure:
  description: Why it failed, as C(code), C(message) and C(details).
  returned: failure
  type: dict
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.moe.gateway.plugins.module_utils import _kubernetes, _mesh_arguments, _sync
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, conclude, invalid
from ansible_collections.moe.gateway.plugins.module_utils._istiod import Istiod, istiods
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

_PAUSE = 0.1
#: Seconds for one answer of an istiod.
_ANSWER = 5.0


def run(params: dict[str, t.Any]) -> dict[str, t.Any]:
    version = Version.parse(params["version"])
    if params["version"] is not None and version is None:
        raise invalid("version", repr(params["version"]), "a version that istio_filter has returned")
    if not 0 <= params["timeout"] <= 3600:
        raise invalid("timeout", f"{params['timeout']:g}", "seconds from 0 to 3600")
    sources = istiods(
        params["istiods"], params["istiod_token"], params["istiod_ca_file"], _ANSWER, lambda: _api(params)
    )
    deadline = time.monotonic() + params["timeout"]
    while True:
        found = _look(sources, params["namespace"], params["workload_selector"], version)
        if found["reached"] or time.monotonic() >= deadline:
            return {"changed": False, **found}
        time.sleep(_PAUSE)


def _api(params: dict[str, t.Any]) -> _kubernetes.Api:
    if _kubernetes.KUBERNETES_ERROR:
        raise Failure("invalid_option", f"istiods: pods:// needs a library. {missing_required_lib('kubernetes')}")
    return _kubernetes.Api(params["kubeconfig"], params["context"], _ANSWER)


def _look(
    sources: list[Istiod], namespace: str | None, labels: dict[str, str], version: Version | None
) -> dict[str, t.Any]:
    gateways, states = [], []
    for istiod in sources:
        error, its = "", []
        try:
            for proxy in istiod.proxies():
                if namespace in (None, proxy.namespace) and labels.items() <= proxy.labels.items():
                    its.append(_state(istiod, proxy, version))
        except Failure as failure:
            if failure.code != "istiod_down":
                raise
            error = failure.message
        states.append({"url": istiod.url, "error": error, "gateways": len(its)})
        gateways += its
    reached = bool(gateways) and all(item["synced"] and item["holds"] is not False for item in gateways)
    return {"reached": reached, "gateways": sorted(gateways, key=lambda item: item["name"]), "istiods": states}


def _state(istiod: Istiod, proxy: _sync.Proxy, version: Version | None) -> dict[str, t.Any]:
    dump = istiod.config_dump(proxy.connection) if version else None
    return {
        "name": proxy.name,
        "namespace": proxy.namespace,
        "labels": proxy.labels,
        "istiod": proxy.istiod,
        "synced": all(ack.is_acked for ack in proxy.acks.values() if ack.sent),
        "holds": _sync.dump(dump, version).holds if version else None,
        "types": {url.rpartition(".")[2]: ack._asdict() for url, ack in sorted(proxy.acks.items())},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_mesh_arguments.ISTIODS,
            "namespace": {"type": "str"},
            "workload_selector": {"type": "dict", "default": {}},
            "version": {"type": "str"},
            "timeout": {"type": "float", "default": 0.0},
        },
        supports_check_mode=True,
    )
    conclude(module, lambda: run(module.params))


if __name__ == "__main__":
    main()
