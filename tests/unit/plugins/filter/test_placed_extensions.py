# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where extensions go, and how each mistake is named."""

from __future__ import annotations

import hashlib

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.filter.placed_extensions import FilterModule

DIGEST = "0" * 63 + "f"


def placed(extensions, built=None):
    return FilterModule().filters()["placed_extensions"](extensions, "/opt/ext", built)


def test_the_path_holds_the_digest(tmp_path):
    src = tmp_path / "a.so"
    src.write_bytes(b"code")
    digest = hashlib.sha256(b"code").hexdigest()
    assert placed([{"name": "a", "src": str(src)}]) == [
        {"name": "a", "src": str(src), "sha256": digest, "path": f"/opt/ext/a-{digest}.so"}
    ]


def test_a_file_whose_digest_is_given_is_not_read():
    assert placed([{"name": "a", "src": "/nowhere", "sha256": DIGEST}])[0]["path"] == f"/opt/ext/a-{DIGEST}.so"
    assert placed([]) == []


def test_a_relative_src_is_taken_from_where_ansible_was_started(tmp_path, monkeypatch):
    (tmp_path / "a.so").write_bytes(b"code")
    monkeypatch.chdir(tmp_path)
    assert placed([{"name": "a", "src": "a.so"}])[0]["src"] == str(tmp_path / "a.so")


def test_what_was_built_for_this_host(tmp_path):
    code = tmp_path / "a-x86_64.so"
    code.write_bytes(b"code")
    for host in ("one", "other"):
        (tmp_path / host).mkdir()
        (tmp_path / host / "a.so").symlink_to("../a-x86_64.so")
    # The same for each host of a kind, so that it is judged once.
    found = [placed([{"name": "a", "source": "a"}], str(tmp_path / host)) for host in ("one", "other")]
    assert found[0] == found[1]
    assert found[0][0]["src"] == str(code)
    assert placed([{"name": "a", "source": "a", "src": "/b", "sha256": DIGEST}], str(tmp_path))[0]["src"] == "/b"


def test_what_was_not_built_for_this_host(tmp_path):
    with pytest.raises(AnsibleFilterError) as caught:
        placed([{"name": "a", "source": "a"}], str(tmp_path / "host"))
    assert str(caught.value) == (
        f"envoy_extensions[0].source: found no file at {tmp_path}/host/a.so, expected the .so that was built from it. "
        "Run the playbook moe.gateway.build for this host first."
    )


@pytest.mark.parametrize(
    ("extensions", "message"),
    [
        ({}, "envoy_extensions: found a mapping of 0, expected a list."),
        (["a"], "envoy_extensions[0]: found 'a' (str), expected a mapping."),
        ([{"src": "/a"}], "envoy_extensions[0].name: found nothing, expected"),
        ([{"name": "a/b", "src": "/a"}], "envoy_extensions[0].name: found 'a/b' (str), expected"),
        ([{"name": "a"}], "envoy_extensions[0].src: found nothing, expected"),
        ([{"name": "a", "src": "/a", "path": "/b"}], "envoy_extensions[0].path: found an unknown key, expected one of"),
        ([{"name": "a", "src": "/a", "sha256": "F" * 64}], "envoy_extensions[0].sha256: found 'FFFF"),
        ([{"name": "a", "src": "/a", "sha256": DIGEST}] * 2, "envoy_extensions[1].name: found 'a' twice, expected"),
        ([{"name": "a", "src": "/nowhere"}], "found no file at /nowhere"),
    ],
)
def test_mistakes_are_named(extensions, message):
    with pytest.raises(AnsibleFilterError) as caught:
        placed(extensions)
    assert message in str(caught.value)
