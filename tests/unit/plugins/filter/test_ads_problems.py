# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates are judged on the controller, before anything is changed for them."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.moe.gateway.plugins.filter.ads_bootstrap import FilterModule as Bootstrap
from ansible_collections.moe.gateway.plugins.filter.ads_problems import FilterModule, certificate_problems

NOW = datetime.datetime(2030, 1, 31, 12, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
IDENTITY = "spiffe://cluster.local/ns/istio-system/sa/gateway"
ADS: dict[str, t.Any] = {
    "istiods": ["192.0.2.7"],
    "plaintext": False,
    "ca_certificate": "ca.pem",
    "certificate": "gateway.pem",
    "private_key": "gateway.key",
    "server_name": "istiod.istio-system.svc",
    "namespace": "istio-system",
    "name": "gateway1",
    "labels": {"istio": "ingressgateway"},
    "cluster_id": "Kubernetes",
    "address": "192.0.2.1",
    "istio_version": "1.31.0",
    "directory": "/etc/envoy/ads",
}
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def certificate(
    begin: datetime.datetime = NOW - DAY, end: datetime.datetime = NOW + DAY, uris: tuple[str, ...] = (IDENTITY,)
) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway1")])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 7, begin, end)
    if uris:
        names = x509.SubjectAlternativeName(map(x509.UniformResourceIdentifier, uris))
        builder = builder.add_extension(names, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def pem(key: t.Any, passphrase: bytes = b"") -> str:
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, protection).decode()


GOOD = {"ca_certificate": certificate(uris=()), "certificate": certificate(), "private_key": pem(KEY)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"certificate": certificate() + certificate(end=NOW - DAY / 2)}, []),
        ({"certificate": certificate(uris=("https://x", "spiffe://other/ns/a/sa/b", IDENTITY))}, []),
        ({"private_key": pem(OTHER)}, ["private_key: found another key than that of the certificate gateway.pem in"]),
        ({"private_key": pem(KEY, b"passphrase")}, ["private_key: found a key that a passphrase protects in"]),
        ({"private_key": "something"}, ["private_key: found no private key that can be read in gateway.key"]),
        ({"private_key": ""}, ["private_key: found no file to read at gateway.key"]),
        ({"certificate": "something"}, ["certificate: found no certificate in gateway.pem"]),
        ({"certificate": None}, ["certificate: found no file to read at gateway.pem"]),
        (
            {"certificate": certificate(end=NOW - DAY / 2)},
            ["certificate: found a certificate (CN=gateway1) that has expired at 2030-01-31T00:00:00Z in gateway.pem"],
        ),
        (
            {"certificate": certificate(begin=NOW + DAY / 2)},
            ["certificate: found a certificate (CN=gateway1) that is not valid before 2030-02-01T00:00:00Z in"],
        ),
        (
            {"ca_certificate": certificate() + certificate(end=NOW - DAY / 2)},
            ["ca_certificate: found a certificate (CN=gateway1) that has expired at 2030-01-31T00:00:00Z in ca.pem"],
        ),
        ({"certificate": certificate(uris=())}, ["certificate: found no identity in gateway.pem, expected spiffe://"]),
        (
            {"certificate": certificate(uris=("spiffe://cluster.local/ns/default/sa/gateway",))},
            ["certificate: found spiffe://cluster.local/ns/default/sa/gateway in gateway.pem, expected spiffe://"],
        ),
        (
            {"certificate": certificate(uris=("spiffe://cluster.local/gateway",))},
            ["certificate: found spiffe://cluster.local/gateway in gateway.pem"],
        ),
    ],
)
def test_certificates(changes: dict[str, t.Any], expected: list[str]) -> None:
    texts = {**GOOD, **changes}
    found = certificate_problems(ADS, texts, NOW)
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected):
        assert line.startswith(f"envoy_ads_{beginning}")
        assert "PRIVATE" not in line


def test_without_tls_nothing_is_read() -> None:
    plain = {**ADS, "plaintext": True, "ca_certificate": "", "certificate": "", "private_key": ""}
    problems = FilterModule().filters()["ads_problems"]
    assert problems(plain, {}) == []
    assert len(t.cast(t.Any, problems({**plain, "certificate": "gateway.pem"}, {}))) == 1


def test_the_bootstrap_filter_names_what_it_lacks() -> None:
    from ansible.errors import AnsibleFilterError

    compose = Bootstrap().filters()["ads_bootstrap"]
    assert t.cast(t.Any, compose({}, ADS))["node"]["id"].startswith("router~192.0.2.1~gateway1.")
    with pytest.raises(AnsibleFilterError, match="found no address in ads"):
        compose({}, {name: value for name, value in ADS.items() if name != "address"})
    with pytest.raises(AnsibleFilterError, match="found the istiod x:y, expected HOST:PORT"):
        compose({}, {**ADS, "istiods": ["x:y"]})
