# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads an extension's file. Nothing of it is ever run: all is taken from its bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import struct
import traceback
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._extension import PROGRAM_INIT, Description, numbers
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid

try:
    from elftools.elf.elffile import ELFFile

    ELFTOOLS_ERROR = None
except ImportError:
    ELFTOOLS_ERROR = traceback.format_exc()

_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_DF_1_NODELETE = 8

# A feature of the loader that linkers write as if it were a version, and the first glibc that has it.
_GLIBC_OF_FEATURE = {"GLIBC_ABI_DT_RELR": "2.36"}
_ARCHITECTURES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}
_WHOLE = "a whole 64-bit ELF shared object"
_AGAIN = "Build it again, or copy it again."


class _Damaged(Exception):
    """The file is ELF, but what it says of itself can't be true."""


def read(path: str, known_abis: t.Collection[str]) -> Description:
    """All that is known of the file, or a :class:`Failure` that says why it is not an extension.

    :param known_abis: strings that may be taken for the ABI version when the code that returns it can't be read.
    """
    data = _bytes(path)
    if data[:4] != b"\x7fELF":
        kind = "an empty file" if not data else "a file that is not ELF"
        raise _unfit(path, kind, "Give the .so that the compiler wrote, not its source or an archive.")
    try:
        return _Library(path, data).describe(known_abis)
    except Failure:
        raise
    except _Damaged as error:
        raise _unfit(path, f"a damaged or truncated ELF file ({error})", _AGAIN) from None
    except Exception as error:  # pylint: disable=broad-except
        # pyelftools trusts every offset and count in the file, and stumbles in many ways over one that is wrong.
        raise _unfit(path, f"a damaged or truncated ELF file ({type(error).__name__}: {error})", _AGAIN) from error


def _unfit(path: str, kind: str, fix: str) -> Failure:
    return invalid("path", f"{kind} at {path}", _WHOLE, fix)


def _bytes(path: str) -> bytes:
    """The content, read once, so that what is judged is what the digest names."""
    try:
        # Looked at before it is opened: opening a named pipe would wait for its writer.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise _unfit(path, "a directory" if stat.S_ISDIR(mode) else "a device, pipe or socket", "")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise _unfit(path, "no file", "Build the extension first, or correct the path.") from None
    except OSError as error:
        raise _unfit(path, f"a file that can't be read ({error.strerror})", "") from error


class _Library:
    def __init__(self, path: str, data: bytes) -> None:
        if len(data) < 64:
            raise _Damaged(f"{len(data)} bytes are less than an ELF header")
        if data[4] != 2:
            raise _unfit(path, "a 32-bit ELF file", "Envoy is a 64-bit program: build the extension for it.")
        if data[5] != 1:
            raise _unfit(path, "a big-endian ELF file", "Build the extension for x86_64 or aarch64, as Envoy is.")
        self.data = data
        self.elf = ELFFile(io.BytesIO(data))
        header = self.elf.header
        if header["e_type"] != "ET_DYN":
            kinds = {"ET_REL": "an object file that is not linked", "ET_EXEC": "a program", "ET_CORE": "a core dump"}
            kind = kinds.get(header["e_type"], "an ELF file of another type")
            raise _unfit(path, kind, "Link it with -shared, or in Go with -buildmode=c-shared.")
        # The table of sections is the last thing in the file, so this alone finds nearly every truncation.
        self._inside("the table of sections", header["e_shoff"], header["e_shnum"] * header["e_shentsize"])
        self._inside("the table of segments", header["e_phoff"], header["e_phnum"] * header["e_phentsize"])
        self.segments = [segment for segment in self.elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        for segment in self.segments:
            self._inside("a segment", segment["p_offset"], segment["p_filesz"])
        if any(segment["p_type"] == "PT_INTERP" for segment in self.elf.iter_segments()):
            raise _unfit(path, "a program", "Link it with -shared, or in Go with -buildmode=c-shared.")
        self.sections = list(self.elf.iter_sections())
        for section in self.sections:
            if section["sh_type"] != "SHT_NOBITS":
                self._inside(f"section {section.name!r}", section["sh_offset"], section["sh_size"])

    def _inside(self, what: str, offset: int, size: int) -> None:
        if offset + size > len(self.data):
            raise _Damaged(f"{what} ends at byte {offset + size} of {len(self.data)}")

    def describe(self, known_abis: t.Collection[str]) -> Description:
        functions = self._functions()
        needed, nodelete = self._dynamic()
        abi = self._abi_from_code(functions.get(PROGRAM_INIT))
        abi_from = "code" if abi else None
        if abi is None and PROGRAM_INIT in functions:
            abi = self._abi_from_strings(known_abis)
            abi_from = "string" if abi else None
        machine = self.elf["e_machine"]
        return Description(
            architecture=_ARCHITECTURES.get(machine) or str(machine).replace("EM_", "").lower(),
            exports=frozenset(functions),
            abi_version=abi,
            abi_version_from=abi_from,
            glibc=self._glibc(),
            needed=needed,
            nodelete=nodelete,
            go=self._go(),
            size=len(self.data),
            sha256=hashlib.sha256(self.data).hexdigest(),
        )

    def _typed(self, kind: str) -> t.Any:
        sections = [section for section in self.sections if section["sh_type"] == kind]
        return sections[0] if sections else None

    def _functions(self) -> dict[str, int]:
        """Address by name of each function of Envoy's that ``dlsym`` would find."""
        table = self._typed("SHT_DYNSYM")
        if table is None:
            raise _Damaged("it has no table of dynamic symbols")
        found = {}
        for symbol in table.iter_symbols():
            if (
                symbol.name.startswith("envoy")
                and symbol["st_shndx"] != "SHN_UNDEF"
                and symbol["st_info"]["type"] in ("STT_FUNC", "STT_NOTYPE")
                and symbol["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")
                and symbol["st_other"]["visibility"] in ("STV_DEFAULT", "STV_PROTECTED")
            ):
                found[symbol.name] = symbol["st_value"]
        return found

    def _dynamic(self) -> tuple[list[str], bool]:
        section = self._typed("SHT_DYNAMIC")
        if section is None:
            raise _Damaged("it has no dynamic section")
        needed, nodelete = [], False
        for tag in section.iter_tags():
            if tag.entry.d_tag == "DT_NEEDED":
                needed.append(tag.needed)
            elif tag.entry.d_tag == "DT_FLAGS_1":
                nodelete = bool(tag.entry.d_val & _DF_1_NODELETE)
        return needed, nodelete

    def _glibc(self) -> str | None:
        section = self._typed("SHT_GNU_verneed")
        if section is None:
            return None
        if section["sh_info"] * 16 > section["sh_size"]:
            raise _Damaged(f"its table of needed versions can't hold {section['sh_info']} entries")
        found = []
        for _library, versions in section.iter_versions():
            for version in versions:
                match = re.fullmatch(r"GLIBC_(\d{1,4}(?:\.\d{1,4})+)", version.name)
                if match or version.name in _GLIBC_OF_FEATURE:
                    found.append(match[1] if match else _GLIBC_OF_FEATURE[version.name])
        return max(found, key=numbers, default=None)

    def _at(self, address: int, size: int) -> bytes:
        """The bytes that the loader would put at an address; fewer where a segment ends, none outside of all."""
        for segment in self.segments:
            within = address - segment["p_vaddr"]
            if 0 <= within < segment["p_filesz"]:
                start = segment["p_offset"] + within
                return self.data[start : start + min(size, segment["p_filesz"] - within)]
        return b""

    def _abi_from_code(self, address: int | None) -> str | None:
        if address is None:
            return None
        decode = _DECODERS.get(self.elf["e_machine"])
        returned = decode(self._at(address, 64), address) if decode else None
        if returned is None:
            return None
        text, end, _rest = self._at(returned, 129).partition(b"\0")
        return text.decode("ascii") if end and re.fullmatch(rb"[!-~]+", text) else None

    def _abi_from_strings(self, known_abis: t.Collection[str]) -> str | None:
        """The one known ABI string among the constants; None if there is none, or more than one."""
        constants = [
            section.data()
            for section in self.sections
            if section["sh_type"] == "SHT_PROGBITS"
            and section["sh_flags"] & (_SHF_WRITE | _SHF_ALLOC | _SHF_EXECINSTR) == _SHF_ALLOC
        ]
        # A printable character before it would make it the end of some other text.
        patterns = {abi: re.compile(rb"(?<![ -~])%b\0" % re.escape(abi.encode())) for abi in known_abis}
        found = [abi for abi, pattern in patterns.items() if any(pattern.search(data) for data in constants)]
        return found[0] if len(found) == 1 else None

    def _go(self) -> dict[str, t.Any] | None:
        for section in self.sections:
            if section.name == ".go.buildinfo":
                return go_build_info(section.data())
        return None


def returned_address_x86_64(code: bytes, address: int) -> int | None:
    """What a function returns that only loads a constant's address, as gcc and clang write it; else None."""
    shape = re.match(
        rb"(?:\xf3\x0f\x1e\xfa)?"  # endbr64
        rb"(\x55\x48\x89\xe5)?"  # push rbp; mov rbp, rsp
        rb"\x48\x8d\x05(.{4})"  # lea rax, [rip + displacement]
        rb"(?(1)\x5d)"  # pop rbp
        rb"\xc3",  # ret
        code,
        re.DOTALL,
    )
    return None if shape is None else address + shape.end(2) + struct.unpack("<i", shape[2])[0]


def returned_address_aarch64(code: bytes, address: int) -> int | None:
    """As for x86-64: ``adrp`` and ``add``, or the ``adr`` into which a linker turns them, both to x0."""
    value = None
    for index, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) & ~3])):
        here = address + 4 * index
        if word & 0xFFFFF01F == 0xD503201F:  # a hint: nop, bti, paciasp
            continue
        if word & 0x1F00001F == 0x10000000 and value is None:  # adr or adrp x0
            offset = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
            offset -= (offset & 1 << 20) << 1
            value = (here & ~0xFFF) + (offset << 12) if word >> 31 else here + offset
        elif word & 0xFF8003FF == 0x91000000 and value is not None:  # add x0, x0, #n, perhaps shifted
            value += (word >> 10 & 0xFFF) << (12 if word >> 22 & 1 else 0)
        elif word == 0xD65F03C0:  # ret
            return value
        else:
            return None
    return None


_DECODERS = {"EM_X86_64": returned_address_x86_64, "EM_AARCH64": returned_address_aarch64}


def go_build_info(section: bytes) -> dict[str, t.Any]:
    """What ``go version -m`` shows, from the section as Go 1.18 and later write it: two strings after a header."""
    if section[:14] != b"\xff Go buildinf:" or len(section) < 33:
        raise _Damaged("its Go build info has no header")
    if not section[15] & 2:
        raise _Damaged("its Go build info is that of a Go before 1.18")
    version, rest = _go_string(section[32:])
    modules, _rest = _go_string(rest)
    # The module lines stand between two marks of 16 bytes by which Go finds them in memory.
    text = modules[16:-16].decode("utf-8") if len(modules) > 32 else ""
    info: dict[str, t.Any] = {
        "version": version.decode("utf-8"),
        "path": None,
        "main": None,
        "deps": [],
        "settings": {},
    }
    for line in text.splitlines():
        kind, _tab, value = line.partition("\t")
        if kind == "path":
            info["path"] = value
        elif kind == "mod":
            info["main"] = _go_module(value)
        elif kind == "dep":
            info["deps"].append(_go_module(value))
        elif kind == "=>":
            (info["deps"][-1] if info["deps"] else info["main"])["replace"] = _go_module(value)
        elif kind == "build":
            key, _equals, setting = value.partition("=")
            info["settings"][_unquoted(key)] = _unquoted(setting)
    return info


def _go_module(fields: str) -> dict[str, str | None]:
    path, version, digest = (fields.split("\t") + ["", ""])[:3]
    return {"path": path, "version": version, "sum": digest or None}


def _unquoted(text: str) -> str:
    """Go quotes what holds blanks. Its escapes are JSON's but for a few rare ones, which stay as they are."""
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def _go_string(data: bytes) -> tuple[bytes, bytes]:
    """A string preceded by its length as a varint, and what follows it."""
    length = 0
    for index, byte in enumerate(data[:10]):
        length |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            end = index + 1 + length
            if end > len(data):
                break
            return data[index + 1 : end], data[end:]
    raise _Damaged("its Go build info ends within a string")
