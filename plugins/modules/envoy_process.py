#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start or stop an Envoy that runs without a service manager."""

from __future__ import annotations

DOCUMENTATION = r"""
module: envoy_process
short_description: Start or stop an Envoy that runs without a service manager
version_added: 0.1.0
description:
  - Starts Envoy as a process of its own, as the user that runs the module, and waits until it serves.
  - Nothing starts it again after a crash or a reboot. Use systemd where there is one.
options:
  state:
    description:
      - V(started) leaves a running Envoy alone, V(restarted) ends it first. Ending it closes its connections.
    type: str
    choices: [started, restarted, stopped]
    default: started
  command:
    description: An executable without arguments that becomes Envoy, by exec.
    type: path
    required: true
  lock:
    description:
      - A file that Envoy holds locked while it lives, and that tells its PID.
    type: path
    required: true
  output:
    description: The file that Envoy's standard output and error are appended to.
    type: path
    required: true
  admin_socket:
    description: The Unix socket of Envoy's admin interface.
    type: path
    default: /run/envoy/admin.sock
  control_plane:
    description:
      - Envoy gets its configuration from a control plane, and may wait for that. It counts as started once it answers
        on the admin interface.
    type: bool
    default: false
    version_added: 0.2.0
  timeout:
    description: Seconds to wait until it serves, and until it has ended. Then it is killed.
    type: float
    default: 30.0
attributes:
  check_mode:
    description: Can run in check mode and return the status prediction without changing the host.
    support: full
  diff_mode:
    description: Has no diff to show.
    support: none
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Start Envoy
  moe.gateway.envoy_process:
    command: /srv/gateway/config/run
    lock: /srv/gateway/run/envoy.lock
    output: /srv/gateway/run/envoy.out
    admin_socket: /srv/gateway/run/admin.sock
"""

RETURN = r"""
action:
  description: What was done, or in check mode would be done. V(none), V(started), V(restarted) or V(stopped).
  returned: success
  type: str
  sample: started
pid:
  description: The PID of the Envoy that runs now, null if there is none.
  returned: success
  type: int
  sample: 4711
previous_pid:
  description: The PID of the Envoy that ran before, null if there was none.
  returned: success
  type: int
  sample: 4242
failure:
  description: Why it failed, as C(code), C(message) and C(details).
  returned: failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils._detached import Detached, reach
from ansible_collections.moe.gateway.plugins.module_utils._failure import conclude


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "restarted", "stopped"], "default": "started"},
            "command": {"type": "path", "required": True},
            "lock": {"type": "path", "required": True},
            "output": {"type": "path", "required": True},
            "admin_socket": {"type": "path", "default": "/run/envoy/admin.sock"},
            "control_plane": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    state = params.pop("state")
    conclude(module, lambda: reach(Detached(**params), state, write=not module.check_mode))


if __name__ == "__main__":
    main()
