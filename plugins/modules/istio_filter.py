#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one HTTP filter of every gateway of an istiod to a revision."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_filter
short_description: Bring one HTTP filter of every gateway of an istiod to a revision, and prove that each runs it
version_added: 0.2.0
description:
  - Writes one EnvoyFilter, and waits until every gateway that it selects has acknowledged a configuration that contains
    this revision. C(SYNCED) alone does not tell that, since istiod drops an EnvoyFilter that it can't read.
  - istiod's own webhook has to take it first, without a warning about a field that it does not know.
  - If a gateway refuses it, or is late, the last good configuration is put back, and the module fails with the reason
    and the names of the gateways.
  - The last good generations, their secrets included, are kept in a Secret C(moe-gateway.NAME) beside the EnvoyFilter.
  - It runs once for a whole fleet, on a host that reaches the Kubernetes API and every istiod, such as the controller.
options:
  state:
    description:
      - V(present) brings the filter to the revision that the other options describe.
      - V(absent) takes that away. The filter then refuses all traffic, unless O(purge=true).
    type: str
    choices: [present, absent]
    default: present
  purge:
    description:
      - With O(state=absent), remove the EnvoyFilter and its generations. The gateways then serve without the filter.
    type: bool
    default: false
  workload_selector:
    description:
      - The labels that a gateway has to have.
    type: dict
    default: {istio: ingressgateway}
  canary_selector:
    description:
      - Bring only those gateways to the revision that have these labels too.
      - They get their filter from an EnvoyFilter of their own then, C(NAME.canary), and the others see nothing of it.
        The next run without this option brings all gateways to one revision, these too. That EnvoyFilter stays.
      - If one of them refuses it, or is late, they get the last good configuration back.
      - With O(state=absent), they are brought back to what the others run.
    type: dict
    default: {}
  inline:
    description:
      - Put the configuration into the listener, as the field C(HTTP_FILTER) does it, instead of sending it by itself
        (ECDS). Then each change drains the connections of all gateways, and one that is kept open gets one more request
        through with the old credential.
    type: bool
    default: false
  engine:
    description:
      - How the gateways run the filter. Required with O(state=present).
      - V(dynamic_module) is a compiled library with Envoy's dynamic modules ABI, for a stock Envoy or Istio's proxy of
        1.31 and later.
      - V(golang) is a compiled library for C(envoy.filters.http.golang), which Istio's proxy has, and a stock Envoy has
        not.
      - V(native) is any filter that the gateways bring along.
    type: str
    choices: [dynamic_module, golang, native]
  extension:
    description:
      - The path of the compiled library on every gateway. Its file name has to hold the SHA-256 of the file, as
        C(moe.gateway.envoy_extensions) names it.
    type: path
  filter_name:
    description:
      - Which of the library's filters, for O(engine=dynamic_module). Default is O(name).
    type: str
  config:
    description:
      - The filter's configuration, as in M(moe.gateway.envoy_filter).
      - C(${secret.NAME}) in any string stands for an entry of O(secrets). C($${secret.) is a literal C(${secret.).
    type: dict
    default: {}
  redact:
    description:
      - As in M(moe.gateway.envoy_filter), so that the admin interfaces of the gateways print C([redacted]).
    type: bool
    default: true
extends_documentation_fragment:
  - moe.gateway.mesh
  - moe.gateway.mesh.change
  - moe.gateway.probe
  - moe.gateway.host
notes:
  - A gateway with a stock Envoy of the role C(moe.gateway.envoy) was tested, with O(engine=dynamic_module) and
    O(engine=native). With O(engine=golang) it was tested that istiod takes the configuration, and that
    what it would send to a gateway is what was meant; a stock Envoy refuses it.
seealso:
  - module: moe.gateway.envoy_filter
  - module: moe.gateway.istio_sync_info
  - name: EnvoyFilter
    description: Istio's way to give a configuration to Envoy that Istio itself knows nothing of.
    link: https://istio.io/latest/docs/reference/config/networking/envoy-filter/
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Rotate the password of foo on every gateway
  moe.gateway.istio_filter:
    name: basic_auth
    engine: dynamic_module
    extension: "/opt/envoy/extensions/basic_auth-{{ digest }}.so"
    config:
      users:
        - username: foo
          password: ${secret.foo_password}
    secrets:
      foo_password: "{{ vault_foo_password }}"
    istiods: [http://127.0.0.1:15014]
  run_once: true
  delegate_to: istiod1.example.com

- name: Try a filter on some of the gateways
  moe.gateway.istio_filter:
    name: basic_auth
    canary_selector:
      canary: "true"
    engine: native
    config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.basic_auth.v3.BasicAuth
      users:
        inline_string: ${secret.htpasswd}
    secrets:
      htpasswd: "{{ vault_htpasswd }}"
    istiods: [http://127.0.0.1:15014]
"""

RETURN = r"""
action:
  description:
    - What was done, or in check mode would be done.
    - V(none), V(published) a new revision, V(healed) the same revision, which was not in service as it should be,
      V(removed) the revision with O(state=absent), V(restored) the last good one, after a failure.
  returned: always
  type: str
  sample: published
version:
  description: The version that the gateways run, a keyed digest of the content and the number of the publish.
  returned: success, unless there is no EnvoyFilter
  type: str
  sample: 3f0a9c5be1d04c55-12
previous_version:
  description: The version that was confirmed before.
  returned: success, if there was one
  type: str
  sample: 9b1d22c07ae34f10-11
gateways:
  description: The names that istiod has for the gateways that run it.
  returned: success, unless there is no EnvoyFilter
  type: list
  elements: str
  sample: [gateway1.istio-system, gateway2.istio-system]
propagation_ms:
  description: Milliseconds from the answer of the Kubernetes API to the acknowledgement of the last gateway.
  returned: when something was published
  type: float
  sample: 164.2
found:
  description: What was not as it should be, and is now.
  returned: always
  type: list
  elements: str
failure:
  description: Why it failed, as C(code), C(message) and C(details).
  returned: failure
  type: dict
  contains:
    code:
      description:
        - A word to compare, such as V(refused_in_validation), V(refused_by_envoy), V(not_confirmed),
          V(too_few_gateways), V(gateways_left), V(no_validator), V(webhook_down), V(istiod_down), V(api_down),
          V(api_forbidden), V(foreign_object), V(invalid_option).
      type: str
    message:
      description: The same as C(msg).
      type: str
    details:
      description:
        - What else is known, such as Envoy's C(reason), the C(gateways) concerned, or C(restored), the version that was
          put back.
      type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import (
    _engines,
    _envoy_filter,
    _mesh_arguments,
    _options,
)
from ansible_collections.moe.gateway.plugins.module_utils._envoy_filter import Found, Target
from ansible_collections.moe.gateway.plugins.module_utils._failure import invalid
from ansible_collections.moe.gateway.plugins.module_utils._generations import Generations
from ansible_collections.moe.gateway.plugins.module_utils._mesh import Desired
from ansible_collections.moe.gateway.plugins.module_utils._resolve import revision
from ansible_collections.moe.gateway.plugins.module_utils._revision import check_secrets


def apply(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    target = Target(params["name"], params["namespace"], params["workload_selector"], params["inline"])
    _envoy_filter.check(target)
    _envoy_filter.check_labels("canary_selector", params["canary_selector"])
    secrets = check_secrets(params["secrets"])
    if params["purge"] and params["canary_selector"]:
        raise invalid("canary_selector", "one", "none with purge, which is for all gateways")
    probe = _options.probes(params, secrets)
    # What is wrong with the options is told before anybody is asked.
    revision(params, secrets, b"")
    mesh = _mesh_arguments.mesh(params, write)
    look = mesh.look(target)
    generations = Generations(mesh.api, target)
    generations.load(params["timeout"])
    absent, canary = params["state"] == "absent", params["canary_selector"]
    if absent and params["purge"]:
        removed = mesh.remove(generations, target)
        return {"changed": removed, "action": "removed" if removed else "none", "found": []}
    if absent and look.whole is None and look.canary is None:
        return {"changed": False, "action": "none", "found": []}
    wanted = revision(params, secrets, generations.key)
    type_name = _engines.type_name(wanted.content)
    if absent:
        # What refuses all traffic comes under the name that the gateways know.
        found, good = look.canary if canary else look.whole, generations.last_good()
        type_name = found.type_name if isinstance(found, Found) else good.type_name if good else type_name
    desired = Desired(
        target,
        wanted.content,
        type_name,
        {**wanted.view, "namespace": target.namespace, "workload_selector": target.labels, "inline": target.inline},
        secrets=tuple(secrets.values()),
        at_least=params["min_gateways"],
        check_after=probe,
        canary=canary,
    )
    if absent and canary:
        changed = mesh.give_up(generations, desired, look)
        return {"changed": changed, "action": "restored" if changed else "none", "found": []}
    outcome = mesh.bring(generations, desired, look)
    action = outcome.plan.action
    return _mesh_arguments.result(outcome, desired, "removed" if absent and action == "published" else action)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_mesh_arguments.OPTIONS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "bool", "default": False},
            "workload_selector": {"type": "dict", "default": {"istio": "ingressgateway"}},
            "canary_selector": {"type": "dict", "default": {}},
            "inline": {"type": "bool", "default": False},
            "engine": {"type": "str", "choices": ["dynamic_module", "golang", "native"]},
            "extension": {"type": "path"},
            "filter_name": {"type": "str"},
            "config": {"type": "dict", "default": {}},
            "redact": {"type": "bool", "default": True},
        },
        required_if=[("state", "present", ("engine",))],
        supports_check_mode=True,
    )
    _options.warn(module)
    _mesh_arguments.run(module, apply)


if __name__ == "__main__":
    main()
