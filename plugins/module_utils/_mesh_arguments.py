# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules for gateways of istiods have in common: options, and the way from options to a mesh."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.moe.gateway.plugins.module_utils import _kubernetes, _options
from ansible_collections.moe.gateway.plugins.module_utils._failure import invalid
from ansible_collections.moe.gateway.plugins.module_utils._istiod import istiods
from ansible_collections.moe.gateway.plugins.module_utils._kinds import filter_kind
from ansible_collections.moe.gateway.plugins.module_utils._mesh import Desired, Mesh, Outcome

#: See the doc fragment ``moe.gateway.mesh``.
ISTIODS: dict[str, t.Any] = {
    "istiods": {"type": "list", "elements": "str", "required": True},
    "istiod_token": {"type": "str", "no_log": True},
    "istiod_ca_file": {"type": "path"},
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
}

#: See the doc fragment ``moe.gateway.mesh.change``.
OPTIONS: dict[str, t.Any] = {
    **ISTIODS,
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "istio-system"},
    "min_gateways": {"type": "int", "default": 1},
    # Ansible would make a dict of a text, and print that: it only hides the text as it came.
    "secrets": {"type": "raw", "default": {}, "no_log": True},
    "probe": _options.PROBE,
    "istioctl": {"type": "path"},
    "timeout": {"type": "float", "default": 30.0},
    "keep": {"type": "int", "default": 5},
    "origin": _options.ORIGIN,
}


def mesh(params: dict[str, t.Any], write: bool) -> Mesh:
    """:param write: false in check mode."""
    timeout, keep, least = params["timeout"], params["keep"], params["min_gateways"]
    if not 0.1 <= timeout <= 3600:
        raise invalid("timeout", f"{timeout:g}", "seconds from 0.1 to 3600")
    if not 1 <= keep <= 100:
        raise invalid("keep", str(keep), "a number of generations from 1 to 100")
    if least < 0:
        raise invalid("min_gateways", str(least), "a number of gateways")
    filter_kind(params["name"])
    api = _kubernetes.Api(params["kubeconfig"], params["context"], timeout)
    sources = istiods(params["istiods"], params["istiod_token"], params["istiod_ca_file"], timeout, lambda: api)
    origin = {key: text for key, text in params["origin"].items() if text}
    return Mesh(api, sources, params["istioctl"], timeout, keep, write, origin)


def result(outcome: Outcome, desired: Desired, action: str) -> dict[str, t.Any]:
    """What a module returns.

    :param action: what to call it.
    """
    return {
        "changed": action != "none",
        "action": action,
        "version": str(outcome.version),
        "previous_version": str(outcome.previous) if outcome.previous else None,
        "gateways": outcome.gateways,
        "propagation_ms": outcome.propagation_ms,
        "found": outcome.plan.found,
        "diff": {
            "before_header": f"filter {desired.target.name} {outcome.previous or ''}".strip(),
            "after_header": f"filter {desired.target.name} {outcome.version}",
            "before": outcome.before,
            "after": desired.view,
        },
    }


def run(module: AnsibleModule, apply: t.Callable[[dict[str, t.Any], bool], dict[str, t.Any]]) -> None:
    """End the module with what ``apply`` makes of its options, or with the failure that it raises."""
    if _kubernetes.KUBERNETES_ERROR:
        module.fail_json(msg=missing_required_lib("kubernetes"), exception=_kubernetes.KUBERNETES_ERROR)
    _options.conclude(module, lambda: apply(module.params, not module.check_mode))
