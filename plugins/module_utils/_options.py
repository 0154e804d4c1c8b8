# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of all modules that bring something to a revision, what is made of them, and how such a module ends."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._revision import literal_secrets

#: Who asks for a change.
ORIGIN: dict[str, t.Any] = {
    "type": "dict",
    "default": {},
    "options": {"by": {"type": "str"}, "play": {"type": "str"}, "reason": {"type": "str"}},
}

#: The option ``probe`` (see ``_probe``).
PROBE: dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "url": {"type": "str", "required": True},
        "status": {"type": "int", "default": 200},
        "headers": {"type": "dict"},
        "basic_auth": {"type": "str"},
        "ca_file": {"type": "path"},
    },
}


def conclude(module: AnsibleModule, work: t.Callable[[], dict[str, t.Any]]) -> None:
    """End a module of a transaction, which also tells its ``action`` where it failed."""
    try:
        outcome: dict[str, t.Any] | Failure = work()
    except Failure as failure:
        outcome = failure
    # Not in an exception handler: Ansible can print tracebacks, and what caused a failure may quote a secret.
    if isinstance(outcome, Failure):
        action = "restored" if "restored" in outcome.details else "none"
        module.fail_json(msg=outcome.message, failure=outcome.as_dict(), action=action)
    else:
        module.exit_json(**outcome)


def warn(module: AnsibleModule) -> None:
    """Warn of what looks like a secret in the option ``config``."""
    for path in literal_secrets(module.params["config"]):
        module.warn(
            f"{path} looks like a secret written in clear; it shows in output. Move it to secrets and refer to it."
        )


def probes(params: dict[str, t.Any], secrets: dict[str, str]) -> t.Callable[[], None]:
    """What makes the requests of the option ``probe``, which is read here."""
    if not params["probe"]:
        return lambda: None
    # Most filters have none, and every import costs each run some milliseconds.
    from ansible_collections.moe.gateway.plugins.module_utils import _probe

    found = _probe.probes(params["probe"], secrets)

    def run() -> None:
        for probe in found:
            _probe.run(probe, params["timeout"])

    return run
