# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options in ``module_utils/_mesh_arguments.py``."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  istiods:
    description:
      - The URL of every istiod that a gateway can be connected to, with the port that serves C(/debug) and C(/metrics),
        which is 15014 unless istiod's C(--monitoringAddr) says otherwise.
      - Or V(pods://NAMESPACE/LABELS), such as V(pods://istio-system/app=istiod), for istiods in Kubernetes. Each Pod
        that runs with these labels is asked over the Kubernetes API, as by C(kubectl port-forward), which needs no
        token. C(:PORT) may follow.
      - A gateway is connected to one of them. One that does not answer is left out while another does.
    type: list
    elements: str
    required: true
  istiod_token:
    description:
      - A token of a service account of istiod's own namespace, for the header C(Authorization).
      - istiod asks for one wherever a request does not come from its own host. It is not sent to a C(pods://).
    type: str
  istiod_ca_file:
    description: Certificates to trust where O(istiods) is C(https), as a path. Default is the system's.
    type: path
  kubeconfig:
    description:
      - The way to the Kubernetes API that istiod reads from.
      - Default is what C(KUBECONFIG) names, or C(~/.kube/config).
    type: path
  context:
    description: Which of its contexts. Default is its current one.
    type: str
"""

    CHANGE = r"""
options:
  name:
    description:
      - The name of the filter. The EnvoyFilter is called so too, with C(-) for C(_) and C(.).
      - Lower-case letters, digits and C(. _ -), 63 at most.
    type: str
    required: true
  namespace:
    description: Of the EnvoyFilter. In the mesh's root namespace it is for gateways of all namespaces.
    type: str
    default: istio-system
  min_gateways:
    description:
      - How many of the gateways have to be connected, at least, before anything changes.
      - With V(0) and without any, the EnvoyFilter is written, and nobody has confirmed it. So it is there before the
        first gateway, which then never serves without it. The next run confirms it.
    type: int
    default: 1
  secrets:
    description:
      - What references such as C(${secret.NAME}) stand for, as a mapping of names to strings. Others may be in it.
      - Whoever may read EnvoyFilters, or istiod's debug pages, can read them.
    type: raw
    default: {}
  istioctl:
    description:
      - A program C(istioctl) of istiod's version, which judges the EnvoyFilter where the API server does not ask
        istiod's webhook.
    type: path
  timeout:
    description:
      - Seconds to wait for each answer, and for all gateways to acknowledge.
      - From 0.1 to 3600.
    type: float
    default: 30.0
  keep:
    description: How many of the last good generations to keep, from 1 to 100.
    type: int
    default: 5
  origin:
    description: Who asks for this change, for the notes beside each generation.
    type: dict
    default: {}
    suboptions:
      by:
        description: Who.
        type: str
      play:
        description: The name of the play.
        type: str
      reason:
        description: Why.
        type: str
requirements:
  - kubernetes (the Python library), on the host that runs the module
"""
