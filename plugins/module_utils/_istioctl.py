# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: ``istioctl validate``, which has istiod's types and asks nobody."""

from __future__ import annotations

import json
import subprocess
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _envoy_filter
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._mask import mask

_TIMEOUT = 60.0


def validate(istioctl: str, manifest: dict[str, t.Any], secrets: t.Collection[str]) -> None:
    """Raise a ``Failure`` unless it takes an object, field by field."""
    command = [istioctl, "validate", "--filename", "-"]
    try:
        # By standard input, so that a secret never becomes a file.
        result = subprocess.run(
            command, input=json.dumps(manifest), capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except OSError as error:
        raise Failure("no_validator", f"istioctl: {istioctl} can't be run: {error.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise Failure("validation_timeout", f"istioctl: {istioctl} took longer than {_TIMEOUT:g} s.") from None
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    objections = lines if result.returncode else _envoy_filter.objections(lines)
    if objections:
        reason = mask(" ".join(" ".join(objections).split()), secrets)
        raise Failure(
            "refused_in_validation", f"config: istioctl refuses it: {reason}. Nothing has changed.", reason=reason
        )
