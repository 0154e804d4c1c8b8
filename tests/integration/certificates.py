# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority for one test session: what it signs is as real as any, and lasts a day."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
import typing as t

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Pair(t.NamedTuple):
    """The files of a certificate and of its key."""

    certificate: pathlib.Path
    key: pathlib.Path


def write_private(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """Write a file that nobody else may ever read."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def _name(common: str, organizations: t.Iterable[str] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """A CA that signs certificates of servers and clients into a folder."""

    def __init__(self, folder: pathlib.Path, name: str = "test") -> None:
        self.folder = folder
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._subject = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        limits = x509.BasicConstraints(ca=True, path_length=None)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = self._builder(self._subject, self._key).add_extension(limits, critical=True)
        builder = builder.add_extension(usage, critical=True)
        self._id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._certificate = builder.add_extension(self._id, critical=False).sign(self._key, hashes.SHA256())
        #: the CA's own certificate, for those that check what it signed
        self.certificate = write_private(folder / "ca.pem", _pem(self._certificate))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def issue(
        self, name: str, *, organizations: t.Iterable[str] = (), hosts: t.Iterable[str] = (), uris: t.Iterable[str] = ()
    ) -> Pair:
        """Sign a certificate, of a server for ``hosts`` (names and addresses) and of a client.

        :param organizations: groups, by Kubernetes' reading.
        :param uris: such as a SPIFFE identity.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._id)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._builder(_name(name, organizations), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(issuer, critical=False)
        )
        names = [*map(_host, hosts), *map(x509.UniformResourceIdentifier, uris)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        stem = name.replace(":", "-").replace("/", "-")
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        signed = builder.sign(self._key, hashes.SHA256())
        return Pair(
            write_private(self.folder / f"{stem}.pem", _pem(signed)),
            write_private(self.folder / f"{stem}.key", private),
        )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(**used: bool) -> x509.KeyUsage:
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    every += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: used.get(name, False) for name in every})


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
