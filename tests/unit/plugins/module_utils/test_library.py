# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the compiled library on the gateway what its name says, and is it what a process runs?"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import signal
import struct

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _library, _process
from ansible_collections.moe.gateway.plugins.module_utils._decision import Process
from ansible_collections.moe.gateway.plugins.module_utils._engines import Extension
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._library import Look, Use

CODE = b"\x7fELF code" * 300_000  # more than is read at once


def me():
    """This process; ansible-test runs each test in one of its own."""
    return Process(os.getpid(), _process.started(os.getpid()))


def extension(folder, data=CODE):
    digest = hashlib.sha256(data).hexdigest()
    return Extension(str(folder / f"x-{digest}.so"), digest)


@pytest.fixture
def library(tmp_path):
    found = extension(tmp_path)
    with open(found.path, "wb") as file:
        file.write(CODE)
    return found


@contextlib.contextmanager
def loaded(library):
    with open(library.path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        yield


@contextlib.contextmanager
def within(seconds):
    """Fail instead of waiting for ever."""

    def expired(_signal, _frame):
        raise AssertionError(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refused(code, call, *arguments):
    with pytest.raises(Failure) as caught:
        call(*arguments)
    assert caught.value.code == code
    return caught.value


def test_a_whole_file(library):
    _library.check_file(library)


def test_a_file_behind_a_link(library, tmp_path):
    (tmp_path / "link").mkdir()
    os.symlink(library.path, tmp_path / "link" / os.path.basename(library.path))
    _library.check_file(Extension(str(tmp_path / "link" / os.path.basename(library.path)), library.sha256))


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"\0" + data[1:]],
    ids=["empty", "cut", "longer", "one byte"],
)
def test_a_damaged_file(library, damage):
    data = damage(CODE)
    with open(library.path, "wb") as file:
        file.write(data)
    failure = refused("extension_damaged", _library.check_file, library)
    digest = hashlib.sha256(data).hexdigest()
    assert failure.message.startswith(
        f"extension: found SHA-256 {digest} at {library.path}, expected {library.sha256} as"
    )
    assert "Nothing has changed." in failure.message
    assert failure.details == {"path": library.path, "found": digest, "expected": library.sha256}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory"),
        (os.mkdir, "Is a directory"),
        (lambda path: os.symlink("/nowhere", path), "No such file or directory"),
        (lambda path: os.symlink(path, path), "Too many levels of symbolic links"),
    ],
    ids=["missing", "directory", "dangling link", "endless link"],
)
def test_no_file(tmp_path, make, reason):
    library = extension(tmp_path)
    make(library.path)
    failure = refused("extension_missing", _library.check_file, library)
    assert failure.message.startswith(f"extension: found no readable file at {library.path} ({reason}), expected the")
    assert "Nothing has changed." in failure.message


def test_a_named_pipe_is_not_waited_for(tmp_path):
    library = extension(tmp_path)
    os.mkfifo(library.path)
    with within(2), pytest.raises(Failure, match="^extension: found something that is not a regular file at "):
        _library.check_file(library)


# What a process runs


def test_the_library_is_loaded(library):
    with loaded(library):
        Look(library, me()).check_not_replaced()
        _library.check_loaded(library, me())


def test_the_library_is_not_loaded_yet(library):
    Look(library, me()).check_not_replaced()
    failure = refused("extension_not_loaded", _library.check_loaded, library, me())
    assert str(os.getpid()) in failure.message
    assert library.path in failure.message


def replace(library, data=CODE):
    with open(library.path + ".new", "wb") as file:
        file.write(data)
    os.rename(library.path + ".new", library.path)


@pytest.fixture
def told(monkeypatch):
    """Say what the kernel tells of what a process has mapped."""
    return lambda digest: monkeypatch.setattr(_process, "sha256", lambda _pid, _library: digest)


@pytest.mark.parametrize("digest", [hashlib.sha256(b"another").hexdigest(), None], ids=["another", "not told"])
def test_the_process_runs_what_was_there_before(library, told, digest):
    """The same path is never read again: Envoy would go on with the old code and report success."""
    with loaded(library):
        replace(library)
        told(digest)
        failure = refused("extension_replaced", Look(library, me()).check_not_replaced)
        assert library.path in failure.message
        assert "Nothing has changed." in failure.message
        refused("extension_not_loaded", _library.check_loaded, library, me())


def test_the_process_runs_the_same_from_a_file_that_was_removed(library, told):
    """What was removed and copied again is the same code: there is nothing to refuse."""
    with loaded(library):
        (before,) = [found for found in _process.libraries(os.getpid()) if found.path == library.path]
        replace(library)
        told(library.sha256)
        Look(library, me()).check_not_replaced()
        assert _library.check_loaded(library, me()).inode == before.inode


def test_what_was_replaced_is_judged_by_the_kernel(library):
    wrong = CODE[::-1]
    replace(library, wrong)
    with loaded(library):
        replace(library)
        (mapped,) = [found for found in _process.libraries(os.getpid()) if found.path == library.path]
        if _process.sha256(os.getpid(), mapped) is None:
            pytest.skip("the kernel lets none but root read what a process has mapped")
        refused("extension_replaced", Look(library, me()).check_not_replaced)
        refused("extension_not_loaded", _library.check_loaded, library, me())


def test_a_library_that_was_copied_again_and_loaded_again(library, told):
    with loaded(library):
        replace(library)
        with loaded(library):
            told(None)
            refused("extension_replaced", Look(library, me()).check_not_replaced)
            _library.check_loaded(library, me())
            told(library.sha256)
            Look(library, me()).check_not_replaced()
            assert _library.check_loaded(library, me()).inode == os.stat(library.path).st_ino


@pytest.fixture
def linked(library, tmp_path):
    """The same library by a path with a link in it, as below /var/run: the kernel tells the path without the link."""
    os.symlink(tmp_path, tmp_path / "current")
    return Extension(str(tmp_path / "current" / os.path.basename(library.path)), library.sha256)


def test_a_library_behind_a_link_is_loaded(linked):
    with loaded(linked):
        Look(linked, me()).check_not_replaced()
        _library.check_loaded(linked, me())


def test_a_library_behind_a_link_was_replaced(linked, told):
    with loaded(linked):
        replace(linked)
        told(None)
        refused("extension_replaced", Look(linked, me()).check_not_replaced)


# Go


def elf(*sections):
    """A 64-bit ELF file with the names of these sections, and no more."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    table = 64 + len(names)
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 2, 1
    )
    strings = struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, 64, len(names), 0, 0, 1, 0)
    return header + names + b"\0" * 64 + strings


GO = elf(".text", ".go.buildinfo", ".data")
C = elf(".text", ".data")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (GO, True),
        (C, False),
        (elf(".not.go.buildinfo"), False),
        (b"", False),
        (b"\x7fELF", False),
        (GO[:40], False),
        (GO[:-1], False),
        (b"\x7fELF\1" + GO[5:], False),
        (b"#!/bin/sh\n.go.buildinfo\n" * 10, False),
    ],
    ids=["go", "c", "a longer name", "empty", "magic", "cut header", "cut table", "32-bit", "text"],
)
def test_what_go_built(tmp_path, data, expected):
    (tmp_path / "x.so").write_bytes(data)
    assert _library.is_go(str(tmp_path / "x.so")) is expected


def placed(folder, data):
    found = extension(folder, data)
    with open(found.path, "wb") as file:
        file.write(data)
    return found


@pytest.mark.parametrize("removed", [False, True])
def test_a_second_go_runtime_is_refused_or_not(tmp_path, removed):
    old, new = placed(tmp_path, GO), placed(tmp_path, GO + b"new")
    with loaded(old):
        if removed:
            os.unlink(old.path)
        failure = refused("hot_restart_needed", Look(new, me()).check_runtime, "hot_restart")
        assert f"(PID {os.getpid()}), of {old.path}, expected none beside that of {new.path}" in failure.message
        assert failure.details == {"loaded": old.path, "wanted": new.path, "pid": os.getpid()}
        Look(new, me()).check_runtime("side_by_side")
        with loaded(new):
            Look(new, me()).check_runtime("hot_restart")


@pytest.mark.parametrize(("old", "new"), [(GO, C), (C, GO), (C, C + b"new")])
def test_what_brings_no_second_go_runtime(tmp_path, old, new):
    old, new = placed(tmp_path, old), placed(tmp_path, new)
    with loaded(old):
        Look(new, me()).check_runtime("hot_restart")


def test_the_first_go_runtime(tmp_path):
    Look(placed(tmp_path, GO), me()).check_runtime("hot_restart")


def test_the_proof(library):
    with loaded(library):
        proof = _library.check_loaded(library, me())
    assert (proof.path, proof.sha256, proof.pid) == (library.path, library.sha256, os.getpid())
    assert proof.inode == os.stat(library.path).st_ino
    assert re.fullmatch("[0-9a-f]{2,}:[0-9a-f]{2,}", proof.device)


def test_one_look_before_serves_for_the_proof(library, monkeypatch):
    looks = []
    libraries = _process.libraries
    use = Use(library, "hot_restart")
    with loaded(library):
        monkeypatch.setattr(_process, "libraries", lambda pid: looks.append(pid) or libraries(pid))
        use.check_before(me())
        count = len(looks)
        assert use.loaded() == _library.check_loaded(library, me())
        assert len(looks) == 2 * count


def test_the_look_after_is_the_one_that_proves(library):
    use = Use(library, "hot_restart")
    use.check_before(me())
    refused("extension_not_loaded", use.loaded)
    refused("extension_not_loaded", use.check_after, me())
    with loaded(library):
        use.check_after(me())
        assert use.loaded() == _library.check_loaded(library, me())


def test_no_library_needs_no_proof():
    use = Use(None, "hot_restart")
    use.check_before(me())
    use.check_after(me())
    assert use.loaded() is None


def test_an_empty_file_is_one_that_nobody_has_mapped(tmp_path):
    empty = extension(tmp_path, b"")
    open(empty.path, "wb").close()
    Use(empty, "hot_restart").check_before(me())
    refused("extension_not_loaded", _library.check_loaded, empty, me())
