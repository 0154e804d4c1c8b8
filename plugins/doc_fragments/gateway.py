# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options in ``module_utils/_arguments.py``."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  directory:
    description:
      - The directory that Envoy reads its configuration from, as the C(moe.gateway.envoy) role makes it.
      - It holds C(clusters.json), C(listeners.json), C(filters/) and, in C(state/), the last good generations.
      - It has to be on one file system and private to Envoy's user.
    type: path
    default: /etc/envoy/xds
  admin_socket:
    description:
      - The Unix socket of Envoy's admin interface.
      - What this module reports comes from the Envoy behind this socket, which must be the one that reads O(directory).
    type: path
    default: /run/envoy/admin.sock
  envoy_binary:
    description:
      - The Envoy that judges a configuration before the running one sees it.
      - Default is the binary of the running process.
    type: path
  owner:
    description:
      - The user that owns the files, which are always private (mode 0600).
      - Default is the owner of O(directory).
    type: str
  timeout:
    description:
      - Seconds to wait for each answer of the admin interface, for the lock of the gateway, and for Envoy to take
        an update.
      - From 0.1 to 600.
    type: float
    default: 5.0
  keep:
    description:
      - How many generations that Envoy was seen to run are kept in O(directory), with the one in service.
      - From 1 to 1000.
    type: int
    default: 5
  origin:
    description:
      - Who asks for what changes. It is kept beside each generation, and M(moe.gateway.envoy_info) tells it.
      - It shows in output, so it must not hold secrets.
    type: dict
    default: {}
    suboptions:
      by:
        description: A person or a machine, such as P(moe.gateway.operator#lookup) tells it.
        type: str
      play:
        description: The play.
        type: str
      reason:
        description: Why, such as a ticket or a commit.
        type: str
attributes:
  check_mode:
    description: Can run in check mode and return the status prediction without changing the gateway.
    support: full
    details:
      - A throwaway Envoy judges the configuration in check mode too; nothing is written.
  diff_mode:
    description: Returns details on what has changed, in diff mode.
    support: full
    details:
      - Secrets appear as digests that are keyed with a key that never leaves the host.
notes:
  - Needs Python 3.9 or later and nothing else on the gateway.
  - Runs as Envoy's user, or as root (C(become)).
  - In check mode no state is made, so a version predicted for a gateway without state is a placeholder.
"""
