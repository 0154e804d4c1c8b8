# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What certificates of a control plane say, when they are made anew, and that openssl makes them so."""

from __future__ import annotations

import json
import os
import stat
import subprocess

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _certificates
from ansible_collections.moe.gateway.plugins.module_utils._certificates import Note, Wanted
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._openssl import Folder

ITEM = {"name": "etcd", "authority": "ca", "user": "etcd", "group": "", "hosts": ["127.0.0.1", "localhost", "::1"]}
WANTED = Wanted("etcd", "ca", "etcd", "", ("127.0.0.1", "localhost", "::1"))
SUBJECT = _certificates.subject(WANTED)
NOTE = Note(SUBJECT, "digest", "authority", 1000.0)


def test_a_certificate_is_read():
    assert _certificates.read(ITEM, "certificates[0]", ["ca"]) == WANTED


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"name": "../etcd"}, "certificates[0].name"),
        ({"user": "a\nb"}, "certificates[0].user"),
        ({"group": "a,b"}, "certificates[0].group"),
        ({"authority": "other"}, "certificates[0].authority"),
        ({"hosts": ["localhost", "DNS:other,IP:1"]}, "certificates[0].hosts[1]"),
    ],
)
def test_what_could_mean_something_else_to_openssl_is_refused(changed, key):
    with pytest.raises(Failure, match=key.replace("[", r"\[")):
        _certificates.read({**ITEM, **changed}, "certificates[0]", ["ca"])


@pytest.mark.parametrize(
    ("why", "note", "found", "authority", "now", "due"),
    [
        ("it is good", NOTE, "digest", "authority", 0.0, False),
        ("there is none", None, "", "authority", 0.0, True),
        ("nobody knows what it is", None, "digest", "authority", 0.0, True),
        ("its key or it is gone", NOTE, "", "authority", 0.0, True),
        ("it is another one", NOTE, "other", "authority", 0.0, True),
        ("its authority is another one", NOTE, "digest", "other", 0.0, True),
        ("it says something else", NOTE._replace(subject=["other"]), "digest", "authority", 0.0, True),
        ("it ends soon", NOTE, "digest", "authority", 901.0, True),
        ("it doesn't end soon", NOTE, "digest", "authority", 900.0, False),
    ],
)
def test_when_one_is_made(why, note, found, authority, now, due):
    assert _certificates.is_due(SUBJECT, note, found, authority, now, 100.0) is due


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_openssl_makes_what_was_meant(tmp_path):
    pki = tmp_path / "pki"
    folder = Folder(str(pki), days=10, renew=2, write=True)
    authority = folder.authority("ca")
    folder.certificate(WANTED, authority)
    folder.kubeconfig(str(tmp_path / "kubeconfig"), "https://127.0.0.1:6443", WANTED)
    assert folder.made == ["ca", "etcd", str(tmp_path / "kubeconfig")]
    assert _names(pki) == ["ca.json", "ca.key", "ca.pem", "etcd.json", "etcd.key", "etcd.pem"]
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in [*pki.iterdir(), tmp_path / "kubeconfig"]} == {0o600}
    verified = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_ip", "127.0.0.1", "-CAfile"]
    subprocess.run([*verified, str(pki / "ca.pem"), str(pki / "etcd.pem")], check=True)
    user = json.loads((tmp_path / "kubeconfig").read_text(encoding="utf-8"))["users"][0]
    assert user["name"] == "etcd"


def test_a_second_run_makes_nothing_and_another_authority_makes_all_anew(tmp_path):
    def run(write=True):
        folder = Folder(str(tmp_path / "pki"), days=10, renew=2, write=write)
        folder.certificate(WANTED, folder.authority("ca"))
        return folder.made

    assert run(write=False) == ["ca", "etcd"]
    assert not (tmp_path / "pki").exists()
    assert run() == ["ca", "etcd"]
    assert run() == []
    (tmp_path / "pki" / "etcd.key").unlink()
    assert run() == ["etcd"]
    (tmp_path / "pki" / "ca.json").unlink()
    assert run(write=False) == ["ca", "etcd"]
    assert run() == ["ca", "etcd"]
    assert run() == []


def test_what_openssl_says_is_told(tmp_path):
    folder = Folder(str(tmp_path / "pki"), days=10, renew=2, write=True)
    authority = folder.authority("ca")
    (tmp_path / "pki" / "ca.key").write_text("damaged", encoding="ascii")
    with pytest.raises(Failure, match="openssl x509 ended with status 1"):
        folder.certificate(WANTED, authority)
    assert _names(tmp_path / "pki") == ["ca.json", "ca.key", "ca.pem"]
