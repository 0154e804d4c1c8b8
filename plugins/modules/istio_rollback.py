#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one HTTP filter of every gateway of an istiod back to a generation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_rollback
short_description: Bring one HTTP filter of every gateway of an istiod back to a generation that was kept
version_added: 0.2.0
description:
  - Takes a generation from the Secret in which M(moe.gateway.istio_filter) keeps them, and publishes it as that module
    does. So nobody has to know the old secrets.
  - Without O(generation), O(version) and O(at), that is what ran before the last change that was no rollback. Repeated,
    it changes nothing.
options:
  generation:
    description: The number of a generation, which is the last part of a version.
    type: int
  version:
    description: The version of a generation.
    type: str
  at:
    description: The generation that was in service at this time, such as V(2030-01-31T12:00:00Z).
    type: str
extends_documentation_fragment:
  - moe.gateway.mesh
  - moe.gateway.mesh.change
  - moe.gateway.probe
  - moe.gateway.host
seealso:
  - module: moe.gateway.istio_filter
  - module: moe.gateway.envoy_rollback
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Bring the last change of basic_auth back
  moe.gateway.istio_rollback:
    name: basic_auth
    istiods: [http://127.0.0.1:15014]
  run_once: true
  delegate_to: istiod1.example.com
"""

RETURN = r"""
action:
  description:
    - V(none), V(rolled_back), V(healed) or V(restored), as in M(moe.gateway.istio_filter).
  returned: always
  type: str
  sample: rolled_back
version:
  description: The version that the gateways run.
  returned: success
  type: str
  sample: 9b1d22c07ae34f10-13
source_version:
  description: The version whose content that is.
  returned: success
  type: str
  sample: 9b1d22c07ae34f10-11
source_at:
  description: When that was published, if it was noted; UTC.
  returned: success
  type: str
  sample: "2030-01-31T12:00:00Z"
previous_version:
  description: The version that was confirmed before.
  returned: success
  type: str
  sample: 3f0a9c5be1d04c55-12
gateways:
  description: The names that istiod has for the gateways that run it.
  returned: success
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
  description: Why it failed, as C(code), C(message) and C(details). The code is V(no_generation) where none was kept.
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import (
    _envoy_filter,
    _mesh_arguments,
    _options,
    _way_back,
)
from ansible_collections.moe.gateway.plugins.module_utils._envoy_filter import Target
from ansible_collections.moe.gateway.plugins.module_utils._generations import Generations
from ansible_collections.moe.gateway.plugins.module_utils._mesh import Desired
from ansible_collections.moe.gateway.plugins.module_utils._resolve import kept_secrets
from ansible_collections.moe.gateway.plugins.module_utils._revision import check_secrets


def apply(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    place = Target(params["name"], params["namespace"], {}, False)
    _envoy_filter.check(place)
    secrets = check_secrets(params["secrets"])
    probe = _options.probes(params, secrets)
    at = params["at"] and _way_back.moment(params["at"], "at")
    wanted = _way_back.Wanted(params["generation"], params["version"], at)
    mesh = _mesh_arguments.mesh(params, write)
    look = mesh.look(place)
    generations = Generations(mesh.api, place)
    generations.load(params["timeout"])
    kept = generations.all()
    good = generations.last_good()
    source = _way_back.choose(
        [item.kept for item in kept], good.kept if good else None, wanted, f"filter {params['name']}"
    )
    (chosen,) = [item for item in kept if item.kept.version == source.version]
    content = source.content["typed_config"]
    desired = Desired(
        Target(**source.content["target"]),
        content,
        chosen.type_name,
        source.view,
        secrets=[*kept_secrets(content, source.view), *secrets.values()],
        at_least=params["min_gateways"],
        check_after=probe,
        source=source,
    )
    outcome = mesh.bring(generations, desired, look)
    action = outcome.plan.action
    return {
        **_mesh_arguments.result(outcome, desired, "rolled_back" if action == "published" else action),
        "source_version": source.origin[0],
        "source_at": source.origin[1],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_mesh_arguments.OPTIONS,
            "generation": {"type": "int"},
            "version": {"type": "str"},
            "at": {"type": "str"},
        },
        mutually_exclusive=[("generation", "version", "at")],
        supports_check_mode=True,
    )
    _mesh_arguments.run(module, apply)


if __name__ == "__main__":
    main()
