# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: istiod_problems
short_description: What is wrong with the certificates of an istiod
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - Judges certificates on the controller, so that nothing is changed for those that gateways would refuse.
  - For the role C(moe.gateway.istiod), whose variables C(istiod_*) these are.
positional: _input
options:
  _input:
    description: >-
      The variables C(ca_certificate), C(certificate), C(private_key) and C(server_name), by their names without
      C(istiod_).
    type: dict
    required: true
  texts:
    description: What the files hold that the first three name. Nothing for one that can't be read.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Judge
  ansible.builtin.debug:
    msg: "{{ certificates | moe.gateway.istiod_problems(texts={}) }}"
  vars:
    certificates:
      ca_certificate: ""
      certificate: ""
      private_key: ""
      server_name: istiod.istio-system.svc
"""

RETURN = r"""
_value:
  description: One line for each mistake. Nothing of a private key.
  type: list
  elements: str
"""

import datetime
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.filter import ads_problems

try:
    from cryptography import x509
except ImportError:
    x509 = None


def istiod_problems(istiod: dict[str, t.Any], texts: dict[str, str | None]) -> list[str]:
    if ads_problems.CRYPTOGRAPHY_ERROR:
        raise AnsibleFilterError(f"istiod_problems needs cryptography: {ads_problems.CRYPTOGRAPHY_ERROR}.")
    missing = [key for key in ("ca_certificate", "certificate", "private_key") if not istiod[key]]
    if missing:
        return [f"istiod_{key}: found nothing, expected a file on the controller in PEM form." for key in missing]
    found, leaf = ads_problems.pair_problems("istiod_", istiod, texts, datetime.datetime.now(datetime.timezone.utc))
    names = _names(leaf) if leaf is not None else []
    if leaf is not None and istiod["server_name"] not in names:
        found.append(
            f"istiod_certificate: found {', '.join(names) or 'no name'} in {istiod['certificate']}, expected the DNS "
            f"name {istiod['server_name']} (istiod_server_name), by which gateways and the API server know istiod."
        )
    return found


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        return []


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"istiod_problems": istiod_problems}
