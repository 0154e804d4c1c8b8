# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ads_bootstrap
short_description: The bootstrap of an Envoy that gets everything from an istiod
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - Adds to a bootstrap what makes Envoy a gateway of Istio, which are the node's identity, the way to istiod, and that
    listeners and clusters come from there.
  - For the role C(moe.gateway.envoy), whose variables C(envoy_ads_*) these are.
positional: _input, ads
options:
  _input:
    description: The bootstrap, without them.
    type: dict
    required: true
  ads:
    description:
      - The variables by their names without C(envoy_ads_), with C(directory), where the certificates are on the host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the bootstrap of a gateway on this machine
  ansible.builtin.debug:
    msg: "{{ {'node': {'cluster': 'gateways'}} | moe.gateway.ads_bootstrap(ads) }}"
  vars:
    ads:
      istiods: [127.0.0.1:15010]
      plaintext: true
      namespace: istio-system
      name: gateway1
      labels: {istio: ingressgateway}
      cluster_id: Kubernetes
      address: 192.0.2.1
      istio_version: 1.31.0
"""

RETURN = r"""
_value:
  description: The bootstrap.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.module_utils import _ads


def ads_bootstrap(base: dict[str, t.Any], ads: dict[str, t.Any]) -> dict[str, t.Any]:
    try:
        return _ads.compose(base, ads)
    except KeyError as error:
        raise AnsibleFilterError(f"ads_bootstrap: found no {error.args[0]} in ads, expected it.") from None
    except ValueError as error:
        raise AnsibleFilterError(f"ads_bootstrap: found the istiod {error}, expected HOST:PORT.") from None


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"ads_bootstrap": ads_bootstrap}
