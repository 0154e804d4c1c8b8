#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give the Pods of a gateway in Kubernetes the files of extensions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_mounts
short_description: Give the Pods of a gateway in Kubernetes the files of extensions
version_added: 0.2.0
description:
  - Mounts each file from the node (C(hostPath) of type C(File), read-only) at the path that it has there, or from an
    image, and waits until every Pod of the Deployment has it and no Pod without it is left.
  - If the Pods don't come up, what they had before is put back and waited for, and the module fails with what the Pods
    and their events say.
  - Changes its own volumes and mounts alone, by server-side apply. All else in the Deployment stays as it is.
  - Pods start anew for a file that they lack, and for nothing else. Only then go older files that no EnvoyFilter names
    any more. So the file of the version before is still there to go back to.
options:
  state:
    description:
      - V(present) mounts O(extensions).
      - V(absent) takes away all that this module has mounted. It refuses while an EnvoyFilter names such a file.
    type: str
    choices: [present, absent]
    default: present
  deployment:
    description: The name of the Deployment. It has to be there.
    type: str
    required: true
  namespace:
    description: Its namespace.
    type: str
    default: istio-system
  container:
    description: The container that gets the files.
    type: str
    default: istio-proxy
  extensions:
    description: The files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description:
          - Where the container has it, and without O(extensions[].image) each node that may run such a Pod.
          - The file is called C(NAME-SHA256.so), as the role C(moe.gateway.envoy_extensions) puts it on hosts. Of an
            image, it is in a directory C(NAME-SHA256), on which the image is mounted as a whole.
        type: path
        required: true
      image:
        description:
          - An image that holds the file in its topmost directory, under that name. Nothing is needed on the nodes then.
          - Kubernetes and the container runtime have to know volumes of images. Tested with Kubernetes 1.36 and
            containerd 2.4.
          - Name it by its digest (C(registry.example.com/extensions@sha256:...)), so that it never changes.
        type: str
      init_container:
        description:
          - Have an init container copy the file out of O(extensions[].image), which has the program C(cp) then, instead
            of mounting the image. Any Kubernetes can do that.
        type: bool
        default: false
      sha256:
        description: The digest, which has to be the one in O(extensions[].path).
        type: str
  filter_namespaces:
    description:
      - Where EnvoyFilters are looked for, besides O(namespace). A file that one of them names stays mounted.
      - The mesh's root namespace should be among them.
    type: list
    elements: str
    default: [istio-system]
  leaving_filters:
    description:
      - Filters of M(moe.gateway.istio_filter), by their names, that do not count.
      - For check mode, where what takes them away is only predicted.
    type: list
    elements: str
    default: []
  kubeconfig:
    description:
      - The way to the Kubernetes API.
      - Default is what C(KUBECONFIG) names, or C(~/.kube/config).
    type: path
  context:
    description: Which of its contexts. Default is its current one.
    type: str
  timeout:
    description:
      - Seconds that the Pods may take to come up, and those of before to end. Undoing it may take as long again.
      - From 0.1 to 3600.
    type: float
    default: 300.0
extends_documentation_fragment: [moe.gateway.host]
requirements:
  - kubernetes (the Python library), on the host that runs the module
seealso:
  - module: moe.gateway.istio_filter
    description: Changes what the extension does, without any Pod starting anew.
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Let the ingress gateway have the extension
  moe.gateway.istio_mounts:
    deployment: istio-ingressgateway
    extensions:
      - path: /opt/envoy/extensions/basic_auth-2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae.so
  delegate_to: localhost
"""

RETURN = r"""
action:
  description: V(none), V(rolled_out), or on failure V(restored) if the Deployment was changed and changed back.
  returned: always
  type: str
  sample: rolled_out
files:
  description: The files that the Pods have from this module. In check mode, those that they would have.
  returned: success
  type: list
  elements: str
previous_files:
  description: Those that they had before.
  returned: success
  type: list
  elements: str
selector:
  description: The labels of its Pods.
  returned: success
  type: dict
  sample: {istio: ingressgateway}
replicas:
  description: How many Pods there have to be.
  returned: success
  type: int
  sample: 2
available:
  description: How many of them serve.
  returned: success
  type: int
  sample: 2
gap:
  description: Why none of them may serve while they start anew, which is a warning too. Empty unless that may be.
  returned: success
  type: str
  sample: its strategy is Recreate
failure:
  description: Why it failed, as C(code), C(message) and C(details).
  returned: failure
  type: dict
  contains:
    code:
      description:
        - A word to compare, such as V(not_rolled_out), V(in_use), V(paused), V(changed_meanwhile), V(api_down),
          V(api_forbidden), V(api_refused), V(invalid_option).
      type: str
    message:
      description: The same as C(msg).
      type: str
    details:
      description: What else is known, such as the C(reasons), or C(restored), the files that the Pods had before.
      type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _kubernetes, _mesh_arguments, _mounts
from ansible_collections.moe.gateway.plugins.module_utils._failure import invalid
from ansible_collections.moe.gateway.plugins.module_utils._rollout import Rollout


def apply(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    timeout, namespace, absent = params["timeout"], params["namespace"], params["state"] == "absent"
    if not 0.1 <= timeout <= 3600:
        raise invalid("timeout", f"{timeout:g}", "seconds from 0.1 to 3600")
    wanted = _mounts.files(params["extensions"])
    api = _kubernetes.Api(params["kubeconfig"], params["context"], min(timeout, 30.0))
    rollout = Rollout(api, namespace, params["deployment"], params["container"], timeout, write)
    leaving = params["leaving_filters"]
    done = rollout.bring(wanted, [namespace, *params["filter_namespaces"]], leaving, absent)
    changed = done.after != done.before
    return {
        "changed": changed,
        "action": "rolled_out" if changed else "none",
        "files": list(map(str, done.after)),
        "previous_files": list(map(str, done.before)),
        "selector": done.selector,
        "replicas": done.replicas,
        "available": done.available,
        "gap": done.gap,
        "diff": {
            "before_header": f"files of {rollout.place}",
            "after_header": f"files of {rollout.place}",
            "before": "".join(f"{file}\n" for file in done.before),
            "after": "".join(f"{file}\n" for file in done.after),
        },
    }


def main() -> None:
    def run(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
        result = apply(params, write)
        if result["gap"]:
            module.warn(f"While Pods start anew, none may serve: {result['gap']}.")
        return result

    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "deployment": {"type": "str", "required": True},
            "namespace": {"type": "str", "default": "istio-system"},
            "container": {"type": "str", "default": "istio-proxy"},
            "extensions": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "image": {"type": "str"},
                    "init_container": {"type": "bool", "default": False},
                    "sha256": {"type": "str"},
                },
            },
            "filter_namespaces": {"type": "list", "elements": "str", "default": ["istio-system"]},
            "leaving_filters": {"type": "list", "elements": "str", "default": []},
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "timeout": {"type": "float", "default": 300.0},
        },
        supports_check_mode=True,
    )
    _mesh_arguments.run(module, run)


if __name__ == "__main__":
    main()
