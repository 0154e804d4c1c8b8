# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way in which anything here refuses: a code for playbooks, a message for people, details for both."""

from __future__ import annotations

import typing as t


class Failure(Exception):
    """A refusal that a module turns into ``fail_json(msg=..., failure={code, message, details})``.

    :param code: a stable snake_case word that a playbook can compare, e.g. ``refused_by_envoy``.
    :param message: one or two sentences: the key that is wrong, what was found, what was expected, what to do.
    :param details: JSON values for the playbook. Never a secret.
    """

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def as_dict(self) -> dict[str, object]:
        return {"code": self.code, "message": self.message, "details": self.details}


def invalid(path: str, found: str, expected: str, fix: str = "") -> Failure:
    """The failure for a wrong input.

    :param path: where it stands, from the option down, e.g. ``listeners[0].routes[2].cluster``.
    :param found: what stands there, as a phrase; never the value of a secret.
    :param expected: what would be right, as a phrase.
    :param fix: what to do, as a sentence, where that isn't plain from ``expected``.
    """
    message = f"{path}: found {found}, expected {expected}."
    return Failure("invalid_option", f"{message} {fix}".rstrip(), key=path, found=found, expected=expected)


def conclude(module: t.Any, work: t.Callable[[], dict[str, t.Any]]) -> None:
    """End an ``AnsibleModule`` with the result of ``work``, or with the failure that it raises."""
    try:
        outcome: dict[str, t.Any] | Failure = work()
    except Failure as failure:
        outcome = failure
    except OSError as error:
        outcome = Failure("file_error", f"{error.filename}: {error.strerror}.", errno=error.errno or 0)
    # Not in an exception handler: Ansible can print tracebacks, and what caused a failure may quote a secret.
    if isinstance(outcome, Failure):
        module.fail_json(msg=outcome.message, failure=outcome.as_dict())
    else:
        module.exit_json(**outcome)
