# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ads_problems
short_description: What is wrong with the variables of an Envoy that gets everything from an istiod
version_added: 0.2.0
author:
  - moe.gateway contributors (@moe-gateway)
description:
  - Judges variables and certificates on the controller, so that nothing is changed for those that istiod or Envoy
    would refuse.
  - For the role C(moe.gateway.envoy), whose variables C(envoy_ads_*) these are.
positional: _input
options:
  _input:
    description: The variables by their names without C(envoy_ads_).
    type: dict
    required: true
  texts:
    description:
      - What the files hold that C(ca_certificate), C(certificate) and C(private_key) name, by these names. Nothing for
        one that can't be read.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Judge
  ansible.builtin.debug:
    msg: "{{ ads | moe.gateway.ads_problems(texts={}) }}"
  vars:
    ads:
      istiods: []
      plaintext: true
      ca_certificate: ""
      certificate: ""
      private_key: ""
      namespace: istio-system
      name: gateway1
      labels: {istio: ingressgateway}
      cluster_id: Kubernetes
      address: 192.0.2.1
      istio_version: 1.31.0
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

from ansible_collections.moe.gateway.plugins.module_utils import _ads

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    CRYPTOGRAPHY_ERROR = None
except ImportError as error:
    CRYPTOGRAPHY_ERROR = error


def ads_problems(ads: dict[str, t.Any], texts: dict[str, str | None]) -> list[str]:
    found = _ads.problems(ads)
    if ads["plaintext"]:
        return found
    if CRYPTOGRAPHY_ERROR:
        raise AnsibleFilterError(f"ads_problems needs cryptography, as ansible-core does: {CRYPTOGRAPHY_ERROR}.")
    now = datetime.datetime.now(datetime.timezone.utc)
    return [*found, *certificate_problems(ads, texts, now)]


def certificate_problems(ads: dict[str, t.Any], texts: dict[str, str | None], now: datetime.datetime) -> list[str]:
    """What is wrong with certificates at a time; those that are not named at all are left out."""
    found, leaf = pair_problems("envoy_ads_", ads, texts, now)
    if leaf is None:
        return found
    identities = _identities(leaf)
    wanted = f"spiffe://TRUST_DOMAIN/ns/{ads['namespace']}/sa/NAME"
    if not any(
        len(parts) == 7 and parts[3:6:2] == ["ns", "sa"] and parts[4] == ads["namespace"] for parts in identities
    ):
        what = " and ".join("/".join(parts) for parts in identities) or "no identity"
        found.append(
            f"envoy_ads_certificate: found {what} in {ads['certificate']}, expected {wanted}, since istiod knows a "
            "gateway of that namespace (envoy_ads_namespace) by it."
        )
    return found


def pair_problems(
    prefix: str, variables: dict[str, t.Any], texts: dict[str, str | None], now: datetime.datetime
) -> tuple[list[str], x509.Certificate | None]:
    """What is wrong with a certificate, its key and the authorities beside it; and that certificate, if it can be read.

    :param prefix: of the variables' names.
    :param variables: the paths, as ``ca_certificate``, ``certificate`` and ``private_key``.
    """
    found: list[str] = []

    def wrong(key: str, what: str, expected: str) -> None:
        found.append(f"{prefix}{key}: found {what} in {variables[key]}, expected {expected}.")

    certificates: dict[str, list[x509.Certificate]] = {}
    key: t.Any = None
    for name in ("ca_certificate", "certificate", "private_key"):
        text = texts.get(name)
        if not variables[name]:
            continue
        if not text:
            found.append(f"{prefix}{name}: found no file to read at {variables[name]}, expected one in PEM form.")
        elif name == "private_key":
            try:
                key = _key(text)
            except _Unusable as error:
                wrong(name, str(error), "a private key in PEM form, without a passphrase")
        else:
            try:
                certificates[name] = _certificates(text)
            except ValueError:
                wrong(name, "no certificate", "one or more in PEM form")
    for name, chain in certificates.items():
        for certificate in chain if name == "ca_certificate" else chain[:1]:
            problem = _time(certificate, now)
            if problem:
                wrong(name, f"a certificate ({certificate.subject.rfc4514_string()}) that {problem}", "a valid one")
    if "certificate" not in certificates:
        return found, None
    leaf = certificates["certificate"][0]
    if key is not None and _public(key.public_key()) != _public(leaf.public_key()):
        wrong("private_key", f"another key than that of the certificate {variables['certificate']}", "its key")
    return found, leaf


class _Unusable(Exception):
    """Why a key won't do, without a word of it."""


def _key(text: str) -> t.Any:
    try:
        return serialization.load_pem_private_key(text.encode(), None)
    except TypeError:
        raise _Unusable("a key that a passphrase protects") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _Unusable("no private key that can be read") from None


def _certificates(text: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(text.encode())


def _public(key: t.Any) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _time(certificate: x509.Certificate, now: datetime.datetime) -> str:
    begin, end = (_utc(certificate, name) for name in ("not_valid_before", "not_valid_after"))
    if now < begin:
        return f"is not valid before {begin:%Y-%m-%dT%H:%M:%SZ}"
    if now > end:
        return f"has expired at {end:%Y-%m-%dT%H:%M:%SZ}"
    return ""


def _utc(certificate: x509.Certificate, name: str) -> datetime.datetime:
    # Before version 42, cryptography has them without a zone only.
    at = getattr(certificate, f"{name}_utc", None)
    return at or getattr(certificate, name).replace(tzinfo=datetime.timezone.utc)


def _identities(certificate: x509.Certificate) -> list[list[str]]:
    """The SPIFFE identities of a certificate, each in its parts."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [uri.split("/") for uri in uris if uri.startswith("spiffe://")]


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., object]]:
        return {"ads_problems": ads_problems}
