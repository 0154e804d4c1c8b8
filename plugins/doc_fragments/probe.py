# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the option ``probe`` (``PROBE`` in ``module_utils/_arguments.py``)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  probe:
    description:
      - Requests to make once Envoy has taken what is new.
      - If one gets another status, what ran before is put back.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: An http or https URL that reaches this gateway.
        type: str
        required: true
      status:
        description: The status to expect, from 100 to 599.
        type: int
        default: 200
      headers:
        description: Headers to send; C(${secret.NAME}) stands for an entry of O(secrets).
        type: dict
      basic_auth:
        description: A credential to send, as C(user:${secret.NAME}).
        type: str
      ca_file:
        description: Certificates to trust for https, as a path on the gateway. Default is the system's.
        type: path
"""
