# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: a folder of certificates, their keys, and kubeconfigs that hold both. The program openssl makes them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _certificates
from ansible_collections.moe.gateway.plugins.module_utils._certificates import Note, Wanted
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._files import Files

_DAY = 86400.0
_TIMEOUT = 60.0
_KINDS = (".key", ".pem", ".json")


class Folder:
    """Keys, certificates, and a note beside each of what it was made of; whole or not there, for its owner alone.

    :param days: how long a certificate is good for, and one of an authority ten times that.
    :param renew: days before its end at which it is made anew.
    """

    def __init__(self, path: str, days: int, renew: int, write: bool) -> None:
        self.path = path
        self.days = days
        self.renew = renew
        self.write = write
        self.made: list[str] = []
        self._files = Files(os.geteuid(), os.getegid())

    def authority(self, name: str) -> str:
        """The digest of its certificate; nothing where check mode would make it."""
        due = self._due([name], name, "", 10)
        return (
            self._make(name, [name], None, _certificates.configuration(name, "", [], True))
            if due
            else self._digest(name)
        )

    def certificate(self, wanted: Wanted, authority: str) -> str:
        subject = _certificates.subject(wanted)
        if not self._due(subject, wanted.name, authority, 1):
            return self._digest(wanted.name)
        text = _certificates.configuration(wanted.user, wanted.group, wanted.hosts, False)
        return self._make(wanted.name, subject, wanted.authority, text)

    def kubeconfig(self, path: str, server: str, wanted: Wanted) -> None:
        """A kubeconfig with which a client of a certificate reaches an API server of the same authority."""
        if not self._digest(wanted.name):
            self.made.append(path)
            return
        ca, certificate, key = (
            base64.b64encode(self._read(name)).decode()
            for name in (f"{wanted.authority}.pem", f"{wanted.name}.pem", f"{wanted.name}.key")
        )
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "istiod", "cluster": {"server": server, "certificate-authority-data": ca}}],
            "users": [{"name": wanted.user, "user": {"client-certificate-data": certificate, "client-key-data": key}}],
            "contexts": [{"name": "istiod", "context": {"cluster": "istiod", "user": wanted.user}}],
            "current-context": "istiod",
        }
        data = (json.dumps(config, indent=1) + "\n").encode()
        with contextlib.suppress(FileNotFoundError):
            if self._files.read(path) == data and os.stat(path).st_mode & 0o777 == 0o600:
                return
        self.made.append(path)
        if self.write:
            self._place(path, data)

    def _due(self, subject: list[t.Any], name: str, authority: str, times: int) -> bool:
        note = None
        with contextlib.suppress(OSError, ValueError, TypeError):
            note = Note(**json.loads(self._read(f"{name}.json")))
        renew = self.renew * times * _DAY
        return _certificates.is_due(subject, note, self._digest(name), authority, time.time(), renew)

    def _digest(self, name: str) -> str:
        """Of the certificate, where there is one with its key."""
        with contextlib.suppress(FileNotFoundError):
            self._read(f"{name}.key")
            return hashlib.sha256(self._read(f"{name}.pem")).hexdigest()
        return ""

    def _read(self, name: str) -> bytes:
        return self._files.read(os.path.join(self.path, name))

    def _make(self, name: str, subject: list[t.Any], authority: str | None, text: str) -> str:
        self.made.append(name)
        if not self.write:
            return ""
        days = self.days * (1 if authority else 10)
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        # Which nobody else may look into.
        scratch = tempfile.mkdtemp(prefix=".new-", dir=self.path)
        try:
            self._sign(scratch, authority, text, days)
            with open(os.path.join(scratch, "pem"), "rb") as file:
                certificate = file.read()
            with open(os.path.join(scratch, "key"), "rb") as file:
                key = file.read()
        finally:
            shutil.rmtree(scratch)
        digest = hashlib.sha256(certificate).hexdigest()
        by = self._digest(authority) if authority else ""
        note = Note(subject, digest, by, time.time() + days * _DAY)
        # The note is last: a run that ends in between makes it once more.
        for kind, data in zip(_KINDS, (key, certificate, (json.dumps(note._asdict()) + "\n").encode())):
            self._place(os.path.join(self.path, name + kind), data)
        return digest

    def _sign(self, scratch: str, authority: str | None, text: str, days: int) -> None:
        config, key, request, made = (os.path.join(scratch, name) for name in ("config", "key", "request", "pem"))
        with open(config, "x", encoding="utf-8") as file:
            file.write(text)
        new = ["req", "-new", "-config", config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        new += ["-sha256", "-keyout", key]
        if authority is None:
            _openssl(*new, "-x509", "-extensions", "extensions", "-days", str(days), "-out", made)
            return
        _openssl(*new, "-out", request)
        by = os.path.join(self.path, authority)
        sign = ["x509", "-req", "-sha256", "-in", request, "-CA", f"{by}.pem", "-CAkey", f"{by}.key"]
        sign += ["-set_serial", str(secrets.randbits(120)), "-days", str(days)]
        _openssl(*sign, "-extfile", config, "-extensions", "extensions", "-out", made)

    def _place(self, path: str, data: bytes) -> None:
        new = os.path.join(os.path.dirname(path), f".new-{secrets.token_hex(8)}")
        try:
            self._files.create(new, data)
            self._files.rename(new, path)
        finally:
            self._files.remove(new)


def _openssl(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["openssl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise Failure(
            "no_openssl", "found no program openssl on this host, expected one. Install its package."
        ) from None
    if done.returncode:
        reason = " ".join(done.stderr.split())[-500:]
        raise Failure("openssl_failed", f"openssl {arguments[0]} ended with status {done.returncode}: {reason}")
