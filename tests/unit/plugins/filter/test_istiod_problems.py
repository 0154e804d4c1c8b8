# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of an istiod are judged on the controller, before anything is changed for them."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.moe.gateway.plugins.filter.istiod_problems import FilterModule

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
NAME = "istiod.istio-system.svc"
VARIABLES = {
    "ca_certificate": "ca.pem",
    "certificate": "istiod.pem",
    "private_key": "istiod.key",
    "server_name": NAME,
}
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def certificate(*hosts: str, end: datetime.datetime = NOW + DAY) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "istiod")])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 7, NOW - 2 * DAY, end)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, hosts)), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


GOOD = {"ca_certificate": certificate(), "certificate": certificate("localhost", NAME), "private_key": pem(KEY)}
problems = FilterModule().filters()["istiod_problems"]


def test_what_is_well_is_told_as_such() -> None:
    assert problems(VARIABLES, GOOD) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"private_key": pem(OTHER)}, "istiod_private_key: found another key than that of the certificate istiod.pem"),
        ({"certificate": certificate("localhost")}, f"found localhost in istiod.pem, expected the DNS name {NAME}"),
        ({"certificate": certificate()}, "istiod_certificate: found no name in istiod.pem"),
        ({"certificate": certificate(NAME, end=NOW - DAY)}, "istiod_certificate: found a certificate (CN=istiod) that"),
        ({"ca_certificate": ""}, "istiod_ca_certificate: found no file to read at ca.pem"),
    ],
)
def test_what_would_not_do_is_named(changed: dict[str, str], words: str) -> None:
    (problem,) = problems(VARIABLES, {**GOOD, **changed})
    assert words in problem


def test_all_three_have_to_be_named() -> None:
    found = problems({**VARIABLES, "ca_certificate": "", "private_key": ""}, GOOD)
    assert [line.partition(":")[0] for line in found] == ["istiod_ca_certificate", "istiod_private_key"]
