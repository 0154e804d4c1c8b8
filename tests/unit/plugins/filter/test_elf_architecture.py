# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For which machine a program is."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.moe.gateway.plugins.filter.elf_architecture import FilterModule

HEAD = b"\x7fELF\2\1\1".ljust(16, b"\0") + b"\3\0"


def architecture(path):
    return FilterModule().filters()["elf_architecture"](path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HEAD + b"\x3e\0more", "x86_64"),
        (HEAD + b"\xb7\0more", "aarch64"),
        (HEAD + b"\xf3\0", "243"),
        (HEAD, "none"),
        (b"\x7fELF\1\1" + HEAD[6:] + b"\3\0", "none"),
        (b"", "none"),
        (b"#!/bin/sh\nexec something else\n", "none"),
    ],
)
def test_the_head_of_a_file_tells(tmp_path, data, expected):
    (tmp_path / "envoy").write_bytes(data)
    assert architecture(str(tmp_path / "envoy")) == expected


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere", "elf_architecture: found no file at /nowhere, expected a program."),
        ("/", "elf_architecture: can't read /: "),
        ("", "elf_architecture: found '' (str), expected a file's path."),
        (None, "elf_architecture: found None (NoneType), expected a file's path."),
    ],
)
def test_mistakes_are_named(path, message):
    with pytest.raises(AnsibleFilterError) as caught:
        architecture(path)
    assert str(caught.value).startswith(message)
