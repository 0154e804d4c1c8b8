# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for programs of one host: what each says, and when it is made anew. Pure: a table of cases tests it."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import invalid

#: What a file name, and a name in a certificate, may be here.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9:._-]{0,62}[A-Za-z0-9])?")
_FILE = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class Wanted(t.NamedTuple):
    """One certificate.

    :param authority: the name of the one that signs it.
    :param user: its common name, which Kubernetes takes for a user.
    :param group: its organization, which Kubernetes takes for a group; may be empty.
    :param hosts: names and addresses of the server that shows it.
    """

    name: str
    authority: str
    user: str
    group: str
    hosts: tuple[str, ...]


class Note(t.NamedTuple):
    """What was written down when a certificate was made."""

    #: all fields of :class:`Wanted`, or the name of an authority
    subject: list[t.Any]
    #: SHA-256 of the certificate, and of that of its authority
    digest: str
    authority: str
    #: seconds since 1970
    end: float


def read(item: dict[str, t.Any], at: str, authorities: t.Collection[str]) -> Wanted:
    """One of the option ``certificates``; a ``Failure`` for one that won't do."""
    for key, pattern in (("name", _FILE), ("user", _NAME), ("group", _NAME)):
        if (key != "group" or item[key]) and not pattern.fullmatch(item[key]):
            raise invalid(
                f"{at}.{key}", repr(item[key]), "letters, digits and some of .:_- (in a name, lower case and -)"
            )
    if item["authority"] not in authorities:
        raise invalid(f"{at}.authority", repr(item["authority"]), "one of " + ", ".join(sorted(authorities)))
    for index, host in enumerate(item["hosts"]):
        if not (_is_address(host) or _HOST.fullmatch(host)):
            raise invalid(f"{at}.hosts[{index}]", repr(host), "a DNS name or an IP address")
    return Wanted(item["name"], item["authority"], item["user"], item["group"], tuple(item["hosts"]))


def read_authority(name: str, at: str) -> str:
    if not _FILE.fullmatch(name):
        raise invalid(at, repr(name), "lower-case letters, digits and -")
    return name


def is_due(subject: t.Sequence[t.Any], note: Note | None, found: str, authority: str, now: float, renew: float) -> bool:
    """Whether a certificate has to be made: there is none, it is another one, or it ends soon.

    :param subject: what it has to say.
    :param found: the digest of the certificate that is there with its key, or nothing.
    :param authority: the digest of its authority's certificate.
    :param renew: seconds before its end.
    """
    if note is None or not found:
        return True
    same = (list(subject), found, authority) == (note.subject, note.digest, note.authority)
    return not same or now > note.end - renew


def subject(wanted: Wanted) -> list[t.Any]:
    return [*wanted[:-1], list(wanted.hosts)]


def configuration(user: str, group: str, hosts: t.Sequence[str], is_authority: bool) -> str:
    """What ``openssl`` reads to make one."""
    names = [f"O = {group}"] if group else []
    if is_authority:
        extensions = ["basicConstraints = critical,CA:TRUE", "keyUsage = critical,keyCertSign,cRLSign"]
    else:
        extensions = ["basicConstraints = critical,CA:FALSE", "keyUsage = critical,digitalSignature"]
        extensions += ["extendedKeyUsage = serverAuth,clientAuth", "authorityKeyIdentifier = keyid"]
    extensions.append("subjectKeyIdentifier = hash")
    if hosts:
        kinds = (f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts)
        extensions.append("subjectAltName = " + ",".join(kinds))
    lines = ["[req]", "prompt = no", "distinguished_name = name", "[name]", *names, f"CN = {user}"]
    return "\n".join([*lines, "[extensions]", *extensions, ""])


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False
