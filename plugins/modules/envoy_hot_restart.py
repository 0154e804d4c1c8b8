#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a gateway to another Envoy by hot restart."""

from __future__ import annotations

DOCUMENTATION = r"""
module: envoy_hot_restart
short_description: Bring a gateway under systemd to another Envoy, bootstrap or command line by hot restart
version_added: 0.2.0
description:
  - Puts another unit in place and reloads the service, whose supervisor (of the role C(moe.gateway.envoy)) then starts
    the next epoch from it. The old Envoy hands its sockets over, and ends when its connections have drained. No request
    fails.
  - Where the Envoy that serves was started from the same, and no filter, listener or cluster is to change, it does
    nothing.
  - The new Envoy first has to load, in a throwaway process, everything that it will read.
  - Reports success only once the new epoch serves with the filters that are on disk. If it doesn't, the old Envoy stays
    in service, the old unit comes back, and the module fails with Envoy's reason.
  - While it runs, no other module changes this gateway. They wait for it as long as their C(timeout).
options:
  service:
    description: The systemd service.
    type: str
    default: envoy
  unit:
    description: The file of its unit.
    type: path
    default: /etc/systemd/system/envoy.service
  content:
    description: What that file is to hold. Its C(ExecReload) asks the supervisor for the new epoch.
    type: str
    required: true
  previous:
    description: Where the old unit is kept meanwhile, so that a run which is killed can still be undone by the next.
    type: path
    default: /opt/envoy/envoy.service.previous
  envoy_binary:
    description: The new Envoy.
    type: path
    required: true
  version:
    description: The version that the new Envoy is expected to tell.
    type: str
    required: true
  bootstrap:
    description:
      - The new bootstrap, already in place under a name of its own. Other files C(bootstrap-*.json) beside it are
        removed once it serves.
    type: path
    required: true
  start:
    description: What the environment variable C(MOE_GATEWAY_START) holds in the new unit.
    type: str
    required: true
  directory:
    description: The directory that Envoy reads its configuration from.
    type: path
    default: /etc/envoy/xds
  extensions:
    description:
      - Paths of compiled libraries that filters are to have under the new Envoy, by the names of the filters.
      - The old Envoy keeps the ones that it has, so each of the two runs what was built for it. All else of these
        filters stays as it is.
    type: dict
    default: {}
  desired:
    description:
      - What the gateway should run under the new Envoy. What is not named stays as it is. The way of the config source
        V(static), whose filters, listeners and clusters are a part of the bootstrap.
    type: dict
    suboptions:
      filters:
        description: The filters, as for M(moe.gateway.envoy_info).
        type: list
        elements: dict
        default: []
      listeners:
        description: All listeners, as for M(moe.gateway.envoy_config). With O(desired.clusters) only.
        type: list
        elements: dict
      clusters:
        description: All clusters, as for M(moe.gateway.envoy_config).
        type: list
        elements: dict
  control_plane:
    description:
      - The new Envoy gets filters, listeners and clusters from a control plane, not from O(directory), whose files are
        neither read nor changed. It becomes ready once it has what it needs from there.
    type: bool
    default: false
  versions:
    description:
      - Kept versions to go back to, as M(moe.gateway.envoy_info) tells them, by C(clusters), C(listeners), or C(filter)
        and the name of a filter.
    type: dict
    default: {}
  secrets:
    description: What O(desired) refers to, as a mapping of names to strings.
    type: raw
    default: {}
  run_dir:
    description: The directory of the supervisor's socket.
    type: path
    default: /run/envoy
  admin_socket:
    description: The Unix socket of Envoy's admin interface.
    type: path
    default: /run/envoy/admin.sock
  keep:
    description: How many generations of each filter to keep on disk, the one in service included.
    type: int
    default: 5
  origin:
    description: Who makes this change, for the notes beside each generation. See M(moe.gateway.envoy_filter).
    type: dict
    default: {}
    suboptions:
      by:
        description: The person.
        type: str
      play:
        description: The play.
        type: str
      reason:
        description: The reason.
        type: str
  wait:
    description:
      - Seconds to wait for the Envoy before the last hot restart, if its connections still drain. A third one would
        make it end at once. If it has not ended then, the module fails with V(still_draining), and nothing has changed.
    type: float
    default: 120.0
  timeout:
    description:
      - Seconds to wait for the service manager, and afterwards for the new Envoy to confirm. The supervisor has a limit
        of its own for an epoch to become ready.
    type: float
    default: 180.0
extends_documentation_fragment: [moe.gateway.host, moe.gateway.probe]
notes:
  - Needs root on the gateway (C(become)), Python 3.9 or later, and systemd.
seealso:
  - module: moe.gateway.envoy_process
    description: Restarts an Envoy that runs without a service manager.
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Hot restart Envoy from another unit
  moe.gateway.envoy_hot_restart:
    content: "{{ lookup('ansible.builtin.template', 'envoy.service.j2') }}"
    envoy_binary: /opt/envoy/envoy-1.40.0
    version: 1.40.0
    bootstrap: /etc/envoy/bootstrap-3f0a9c5be1d04c55.json
    start: 3f0a9c5be1d04c55
"""

RETURN = r"""
restart_epoch:
  description: The hot restart epoch that serves now, or in check mode would serve.
  returned: success
  type: int
  sample: 1
pid:
  description: The process that serves now.
  returned: success
  type: int
  sample: 4711
previous_pid:
  description: The process that served before. It ends when its connections have drained.
  returned: success
  type: int
  sample: 4242
previous_version:
  description: The version of the Envoy that served before.
  returned: success
  type: str
  sample: 1.39.3
versions:
  description: The version of each thing that the gateway runs, or in check mode would run.
  returned: success
  type: dict
  sample: {"listeners": "3f0a9c5be1d04c55-12"}
failure:
  description:
    - Why it failed, as C(code), C(message) and C(details).
    - C(code) is V(not_connected), V(refused_in_validation), V(wrong_abi), V(still_draining), V(refused_by_envoy),
      V(not_confirmed), V(no_supervisor), or one that M(moe.gateway.envoy_filter) has.
  returned: failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _epoch
from ansible_collections.moe.gateway.plugins.module_utils._arguments import OPTIONS
from ansible_collections.moe.gateway.plugins.module_utils._failure import conclude
from ansible_collections.moe.gateway.plugins.module_utils._options import ORIGIN, PROBE


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "default": "envoy"},
            "unit": {"type": "path", "default": "/etc/systemd/system/envoy.service"},
            "content": {"type": "str", "required": True},
            "previous": {"type": "path", "default": "/opt/envoy/envoy.service.previous"},
            "envoy_binary": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "bootstrap": {"type": "path", "required": True},
            "start": {"type": "str", "required": True},
            "directory": {"type": "path", "default": "/etc/envoy/xds"},
            "extensions": {"type": "dict", "default": {}},
            "desired": {
                "type": "dict",
                "options": {
                    "filters": {"type": "list", "elements": "dict", "default": []},
                    "listeners": {"type": "list", "elements": "dict"},
                    "clusters": {"type": "list", "elements": "dict"},
                },
                "required_together": [("listeners", "clusters")],
            },
            "control_plane": {"type": "bool", "default": False},
            "versions": {"type": "dict", "default": {}},
            # Ansible would make a dict of a text, and print that: it only hides the text as it came.
            "secrets": {"type": "raw", "default": {}, "no_log": True},
            "probe": PROBE,
            "keep": OPTIONS["keep"],
            "origin": ORIGIN,
            "run_dir": {"type": "path", "default": "/run/envoy"},
            "admin_socket": {"type": "path", "default": "/run/envoy/admin.sock"},
            "wait": {"type": "float", "default": 120.0},
            "timeout": {"type": "float", "default": 180.0},
        },
        supports_check_mode=True,
    )
    conclude(module, lambda: _epoch.run(module.params, write=not module.check_mode))


if __name__ == "__main__":
    main()
