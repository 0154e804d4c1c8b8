# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures that the README gives, measured on this machine. Each module named in ``bench.__main__`` gives some.

All are ratios or differences within one run, and what is compared is interleaved, so that a machine that is busy
with something else moves both sides.
"""

import sys

from ansible.plugins.loader import init_plugin_loader

from demo import BUILD, ROOT

# Ansible has to find the collection before Python does: it can't pack what Python has imported by itself.
init_plugin_loader([str(BUILD / "collections")])
# The gateway of the integration tests is the one that is measured.
sys.path.insert(0, str(ROOT / "tests" / "integration"))
