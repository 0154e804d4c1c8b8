# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The digest of a controller's file."""

from __future__ import annotations

import os

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.filter.file_sha256 import FilterModule

file_sha256 = FilterModule().filters()["file_sha256"]

# Of no byte and of "abc", from FIPS 180-2; of a million "a", the same standard's long example.
KNOWN = [
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
]


@pytest.mark.parametrize(("content", "digest"), KNOWN)
def test_digests_a_file(tmp_path, content, digest):
    path = tmp_path / "a.so"
    path.write_bytes(content)
    assert file_sha256(str(path)) == digest


def test_digests_a_file_larger_than_one_read(tmp_path):
    path = tmp_path / "a.so"
    path.write_bytes(bytes(3 << 20))
    assert file_sha256(str(path)) == "bbd05cf6097ac9b1f89ea29d2542c1b7b67ee46848393895f5a9e43fa1f621e5"


def test_takes_home_and_working_directory(tmp_path, monkeypatch):
    (tmp_path / "a.so").write_bytes(b"abc")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert file_sha256("~/a.so") == file_sha256("a.so") == KNOWN[1][1]


def test_names_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(AnsibleFilterError, match=f"found no file at {tmp_path}/a.so, expected"):
        file_sha256(str(tmp_path / "a.so"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AnsibleFilterError, match=f"found no file at a.so in {tmp_path}, expected"):
        file_sha256("a.so")


def test_refuses_what_is_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(AnsibleFilterError, match="something other than a file"):
            file_sha256(str(path))
    (tmp_path / "loop").symlink_to("loop")
    for path in (str(tmp_path / "loop"), "a\0b"):
        with pytest.raises(AnsibleFilterError, match="can't read"):
            file_sha256(path)


@pytest.mark.parametrize("value", ["", None, 7, ["a.so"], b"a.so"])
def test_refuses_what_is_not_a_path(value):
    with pytest.raises(AnsibleFilterError, match="expected the path of a file"):
        file_sha256(value)
