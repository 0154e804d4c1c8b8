# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets many runs of ansible-playbook pack each module once.

A run packs every module that it uses with all that this imports, which takes as long as the module itself, and
forgets it at its end. In the folder that SHARED_MODULES names, packed modules stay for the runs after it. It has to be
a new one whenever a module may have changed.
"""

from __future__ import annotations

import os
import pathlib

from ansible import constants as C
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "shared_modules"

    def __init__(self) -> None:
        super().__init__()
        folder = pathlib.Path(os.environ["SHARED_MODULES"], __version__)
        folder.mkdir(parents=True, exist_ok=True)
        pathlib.Path(C.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(folder)
