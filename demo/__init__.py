# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the main job on this machine: a real Envoy, a real extension, real traffic, and a credential that changes."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: what the demo makes; git-ignored
BUILD = ROOT / "build"

# The modules' own view of Envoy's admin interface is used here too.
sys.path.insert(0, str(BUILD / "collections"))
