# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module as Ansible sends it to a host: one Python script with everything that the module imports inside."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import typing as t

from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import module_loader
from ansible.template import Templar


class Run(t.NamedTuple):
    """One run of a module on a host, from the start of Python to its end."""

    seconds: float
    #: processor time of it and its children
    cpu_seconds: float
    result: dict[str, t.Any]


class Payload:
    """A module with its arguments, made once by ansible-core itself, since only running it is measured."""

    def __init__(self, module: str, arguments: dict[str, t.Any]) -> None:
        found = module_loader.find_plugin_with_context(module)
        built = modify_module(
            module_name=found.resolved_fqcn,
            module_path=found.plugin_resolved_path,
            module_args=arguments,
            templar=Templar(DataLoader()),
            task_vars={"ansible_python_interpreter": sys.executable},
            module_compression="ZIP_DEFLATED",
        )
        self._script = built.b_module_data

    def run(self, **replacements: str) -> Run:
        """Run it, with the words ``@NAME@`` in its arguments replaced. As with pipelining, Python reads it on stdin."""
        script = self._script
        for name, value in replacements.items():
            script = script.replace(f"@{name}@".encode(), value.encode())
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([sys.executable], input=script, capture_output=True, check=False)
        seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        text = done.stdout.decode().strip()
        if not text.startswith("{"):
            raise RuntimeError(text + done.stderr.decode())
        result = json.loads(text)
        if result.get("failed"):
            raise RuntimeError(result["msg"])
        return Run(seconds, cpu, result)
