#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the clusters and listeners of a running Envoy to a state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: envoy_config
short_description: Bring the listeners and clusters of a running Envoy to a state, and prove that Envoy runs it
version_added: 0.1.0
description:
  - Publishes clusters (CDS), then listeners (LDS), each by the transaction that M(moe.gateway.envoy_filter) uses
    for a filter.
  - A throwaway Envoy judges both before the running one sees them. What the running one refuses is taken back.
  - Every filter that has no revision yet first gets one that refuses all traffic, so a new listener is never open.
  - A cluster that is no longer wanted is removed after the listeners that used it have changed.
options:
  clusters:
    description:
      - The upstreams, all of them. One that is not in the list is removed. The keys of each are
      - C(name), required, which routes use.
      - C(endpoints), a list of C(host:port).
      - C(type), one of V(STATIC), V(STRICT_DNS), V(LOGICAL_DNS). Default is V(STATIC) if all hosts are IP addresses,
        else V(STRICT_DNS).
      - C(connect_timeout), a duration such as V(5s). Default is Envoy's, 5 seconds.
      - C(http2), whether to speak HTTP/2 to the endpoints. Default is V(false).
      - C(tls), to speak TLS to the endpoints, whose certificates are verified, with C(sni) and C(ca_file), a path on
        the
        gateway.
      - C(envoy), anything else that Envoy's C(Cluster) has, merged over the result. A whole one needs only C(name)
        beside it.
    type: list
    elements: dict
    default: []
  listeners:
    description:
      - The listeners, all of them. One that is not in the list is removed, and its connections drain. The keys of each
        are
      - C(name), required.
      - C(port), the TCP port to bind, and C(address), the IP address. Default is V(0.0.0.0).
      - C(filters), names from O(filters) in the order in which a request meets them. It has to be said, even if it is
        the empty
        list, since a listener without a filter serves everybody.
      - C(virtual_hosts), a list of mappings with C(domains) and C(routes). A route has one of C(path), C(prefix),
        C(regex), one of
        C(cluster), C(redirect), C(status), and may have C(body), C(timeout), C(prefix_rewrite).
      - C(tls), to serve TLS, with C(certificate_chain) and C(private_key), paths on the gateway.
      - C(http_connection_manager), anything else that Envoy's C(HttpConnectionManager) has, merged over the result.
      - C(envoy), anything else that Envoy's C(Listener) has, merged over the result. A whole one needs only C(name)
        beside it.
    type: list
    elements: dict
    default: []
  filters:
    description:
      - The filters that listeners may name.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the filter, as for M(moe.gateway.envoy_filter).
        type: str
        required: true
      engine:
        description: The engine, as for M(moe.gateway.envoy_filter).
        type: str
        required: true
        choices: [dynamic_module, golang, native]
      type:
        description: For O(filters[].engine=native), the type of the stock filter, as in its C(@type).
        type: str
extends_documentation_fragment: [moe.gateway.gateway]
seealso:
  - module: moe.gateway.envoy_filter
  - name: Envoy's listeners
    description: What the key C(envoy) of a listener may hold.
    link: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener.proto
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Serve httpbin behind Basic Auth
  moe.gateway.envoy_config:
    clusters:
      - name: httpbin
        endpoints: ["127.0.0.1:8000"]
    filters:
      - name: basic_auth
        engine: dynamic_module
    listeners:
      - name: ingress
        port: 10000
        filters: [basic_auth]
        virtual_hosts:
          - domains: [httpbin.example.com]
            routes:
              - prefix: /status
                cluster: httpbin
"""

RETURN = r"""
clusters:
  description: What was done to the clusters.
  returned: success
  type: dict
  contains: &outcome
    action:
      description: V(none), V(published) or V(healed), as for M(moe.gateway.envoy_filter).
      type: str
    version:
      description: What Envoy reports as C(version_text).
      type: str
    previous_version:
      description: The version that was on disk before.
      type: str
    propagation_ms:
      description: Milliseconds from the rename of the file to the moment when Envoy's counters showed that it runs it.
      type: float
    found:
      description: What was not as it should be, and is now.
      type: list
      elements: str
listeners:
  description: What was done to the listeners.
  returned: success
  type: dict
  contains: *outcome
denied:
  description: Filters that had no revision and now refuse all traffic.
  returned: success
  type: list
  elements: str
failure:
  description: Why it failed, as for M(moe.gateway.envoy_filter).
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _arguments, _config, _routing
from ansible_collections.moe.gateway.plugins.module_utils._engines import filter_type
from ansible_collections.moe.gateway.plugins.module_utils._failure import invalid
from ansible_collections.moe.gateway.plugins.module_utils._kinds import filter_kind
from ansible_collections.moe.gateway.plugins.module_utils._transaction import Gateway


def apply(params: dict[str, t.Any], gateway: Gateway) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    types: dict[str, str] = {}
    for index, item in enumerate(params["filters"]):
        if item["name"] in types:
            raise invalid(f"filters[{index}].name", repr(item["name"]) + " twice", "each filter once")
        filter_kind(item["name"], f"filters[{index}].name")
        types[item["name"]] = filter_type(item["engine"], item["type"], f"filters[{index}]")
    clusters = _routing.clusters(params["clusters"])
    names = [cluster["name"] for cluster in clusters]
    listeners = _routing.listeners(params["listeners"], types, gateway.store.directory, names)
    return _config.bring(gateway, clusters, listeners, list(types))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.OPTIONS,
            # Their keys are read by _routing, whose errors say which item is wrong.
            "clusters": {"type": "list", "elements": "dict", "default": []},
            "listeners": {"type": "list", "elements": "dict", "default": []},
            "filters": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "engine": {"type": "str", "required": True, "choices": ["dynamic_module", "golang", "native"]},
                    "type": {"type": "str"},
                },
            },
        },
        supports_check_mode=True,
    )
    _arguments.run(module, apply)


if __name__ == "__main__":
    main()
