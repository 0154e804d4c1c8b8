# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of reading a file that need neither pyelftools nor a compiler. Real files are read in tests/integration."""

from __future__ import annotations

import os
import socket

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _elf
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure


def code(text):
    return bytes.fromhex(text)


# As compilers wrote them, each cut after the function or running on into the next one.
X86_64 = [
    ("488d05b90e0000 c3", 0x1140, 0x2000),  # gcc -O2
    ("554889e5 488d05bc0e0000 5dc3", 0x1139, 0x2000),  # gcc -O0
    ("f30f1efa 488d05b50e0000 c3", 0x1140, 0x2000),  # with -fcf-protection
    ("554889e5 488d0551ecffff 5dc3 0f1f00554889e55dc3", 0x13A4, 0x0),  # zig cc -O2: a constant before the code
    ("488d050a0a0a0a c3", 0x1000, 0x0A0A0A0A + 0x1007),  # a displacement of newlines
]
NOT_X86_64 = [
    "",
    "c3",
    "488d05b90e00",  # cut within the displacement
    "488d05b90e0000",  # cut before the return
    "488d05b90e0000 5dc3",  # pops what it did not push
    "554889e5 488d05bc0e0000 c3",  # does not pop what it pushed
    "488b05b90e0000 c3",  # loads a pointer from there, which only the loader knows
    "4883ec08 e800000000 488d05b90e0000 4883c408 c3",  # calls something first
]


@pytest.mark.parametrize(("text", "address", "expected"), X86_64)
def test_reads_x86_64(text, address, expected):
    assert _elf.returned_address_x86_64(code(text), address) == expected


@pytest.mark.parametrize("text", NOT_X86_64)
def test_leaves_other_x86_64(text):
    assert _elf.returned_address_x86_64(code(text), 0x1000) is None


AARCH64 = [
    ("1f2003d5 e0bce850 c0035fd6", 0x32E54, 0x32E54 + 4 - 0x2E862),  # zig cc -O0: nop; adr
    ("60eaf710 c0035fd6", 0x12340, 0x12340 - 0x102B4),  # adr backwards
    ("00000010 c0035fd6", 0x1000, 0x1000),  # adr to itself
    ("00000090 00c03f91 c0035fd6", 0x1234, 0x1FF0),  # adrp; add
    ("e0ffffb0 00400091 c0035fd6", 0x5000, 0x2010),  # adrp backwards; add 16
    ("5f2403d5 00000090 00044091 c0035fd6", 0x1234, 0x2000),  # bti c; adrp; add shifted by 12
]
NOT_AARCH64 = [
    "",
    "c0035fd6",  # returns its argument
    "00000090 00c03f91",  # cut before the return
    "01000090 20c03f91 c0035fd6",  # by way of x1
    "00000090 000040f9 c0035fd6",  # loads a pointer from there
    "fd7bbfa9 00000090 00c03f91 c0035fd6",  # makes a stack frame first
]


@pytest.mark.parametrize(("text", "address", "expected"), AARCH64)
def test_reads_aarch64(text, address, expected):
    assert _elf.returned_address_aarch64(code(text), address) == expected


@pytest.mark.parametrize("text", NOT_AARCH64)
def test_leaves_other_aarch64(text):
    assert not _elf.returned_address_aarch64(code(text), 0x1000)


MODULES = "\n".join(
    [
        "path\texample.com/auth",
        "mod\texample.com/auth\t(devel)\t",
        "dep\tgolang.org/x/crypto\tv0.31.0\th1:abc=",
        "dep\tgolang.org/x/sys\tv0.1.0",
        "=>\texample.com/sys\tv0.2.0\th1:def=",
        "build\t-buildmode=c-shared",
        'build\t-ldflags="-s -w \\"-X=a=b\\""',
        'build\tCGO_CFLAGS="\\a"',
        "build\tvcs.modified=false",
    ]
)


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def build_info(version, modules, flags=2):
    marked = b"<" * 16 + modules + b">" * 16 if modules else b""
    strings = varint(len(version)) + version + varint(len(marked)) + marked
    return b"\xff Go buildinf:\x08" + bytes([flags]) + bytes(16) + strings


def test_reads_go_build_info():
    assert _elf.go_build_info(build_info(b"go1.27.3", MODULES.encode())) == {
        "version": "go1.27.3",
        "path": "example.com/auth",
        "main": {"path": "example.com/auth", "version": "(devel)", "sum": None},
        "deps": [
            {"path": "golang.org/x/crypto", "version": "v0.31.0", "sum": "h1:abc="},
            {
                "path": "golang.org/x/sys",
                "version": "v0.1.0",
                "sum": None,
                "replace": {"path": "example.com/sys", "version": "v0.2.0", "sum": "h1:def="},
            },
        ],
        "settings": {
            "-buildmode": "c-shared",
            "-ldflags": '-s -w "-X=a=b"',
            "CGO_CFLAGS": '"\\a"',
            "vcs.modified": "false",
        },
    }


def test_reads_go_build_info_without_modules():
    info = _elf.go_build_info(build_info(b"go1.18", b""))
    assert info == {"version": "go1.18", "path": None, "main": None, "deps": [], "settings": {}}


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (b"", "no header"),
        (b"x" * 64, "no header"),
        (build_info(b"go1.17", b"", flags=0), "before 1.18"),
        (build_info(b"go1.27.3", b"")[:36], "within a string"),
        (build_info(b"go1.27.3", MODULES.encode())[:-1], "within a string"),
        (build_info(b"", b"")[:32] + b"\xff" * 20, "within a string"),
    ],
)
def test_refuses_damaged_go_build_info(section, reason):
    with pytest.raises(_elf._Damaged, match=reason):
        _elf.go_build_info(section)


def refusal(path):
    with pytest.raises(Failure) as error:
        _elf.read(str(path), ())
    assert error.value.code == "invalid_option"
    assert error.value.details["key"] == "path"
    assert str(path) in error.value.message
    return error.value.details["found"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"\x7fEL", "not ELF"),
        (b"package main\n", "not ELF"),
        (b"!<arch>\n", "not ELF"),
        (b"\x7fELF", "truncated ELF"),
        (b"\x7fELF\x02\x01\x01" + bytes(56), "truncated ELF"),
        (b"\x7fELF\x01\x01\x01" + bytes(57), "32-bit"),
        (b"\x7fELF\x02\x02\x01" + bytes(57), "big-endian"),
    ],
)
def test_refuses_what_is_not_a_64_bit_elf_file(tmp_path, content, found):
    path = tmp_path / "a.so"
    path.write_bytes(content)
    assert found in refusal(path)


def test_refuses_what_is_not_a_file(tmp_path):
    assert "no file" in refusal(tmp_path / "missing.so")
    assert "a directory" in refusal(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    assert "can't be read (Not a directory)" in refusal(tmp_path / "file" / "x")
    os.mkfifo(tmp_path / "pipe")
    assert "a device, pipe or socket" in refusal(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert "a device, pipe or socket" in refusal(tmp_path / "socket")
    (tmp_path / "loop").symlink_to("loop")
    assert "can't be read" in refusal(tmp_path / "loop")
