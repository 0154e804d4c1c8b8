# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection plugin: this machine, until it is lost. A file says how many commands are still let through."""

# ruff: noqa: E402

from __future__ import annotations

DOCUMENTATION = r"""
name: fragile
short_description: This machine, until it is lost
description: Like ansible.builtin.local, until the file runs down.
author: moe.gateway contributors
options:
  fuse:
    description: The file.
    type: path
    vars:
      - name: fragile_fuse
extends_documentation_fragment: [connection_pipelining]
"""

import pathlib
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local


class Connection(Local):
    transport = "fragile"

    def exec_command(self, *arguments: t.Any, **keywords: t.Any) -> tuple[int, bytes, bytes]:
        fuse = pathlib.Path(self.get_option("fuse"))
        if fuse.exists():
            left = int(fuse.read_text())
            if left == 0:
                raise AnsibleConnectionFailure("the host is lost")
            fuse.write_text(str(left - 1))
        return super().exec_command(*arguments, **keywords)
