# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says of processes, read from real ones."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import socket
import subprocess
import sys

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _process
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._process import Intruder


@contextlib.contextmanager
def child(code, *arguments):
    """Another process that runs ``code``, has said one line, and waits; its PID and that line."""
    command = [sys.executable, "-c", code + "\nimport sys; sys.stdin.read()", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.pid, process.stdout.readline().strip()
    finally:
        process.communicate("")


def nobody():
    """The PID of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_start_of_a_process_stays_and_tells_it_from_others():
    first = _process.started(os.getpid())
    assert first > 0
    with child("print(1, flush=True)") as (pid, _line):
        assert _process.started(pid) >= first
    assert _process.started(os.getpid()) == first


def test_a_process_that_is_not_there_has_no_start():
    assert _process.started(nobody()) == 0


@pytest.mark.parametrize("name", ["a) S 1 2 (b", "a b", "((", "))", "1) 2"])
def test_the_start_is_read_whatever_the_process_calls_itself(name):
    code = "import sys; open('/proc/self/comm', 'w').write(sys.argv[1]); print(1, flush=True)"
    with child("print(1, flush=True)") as (before, _line), child(code, name) as (pid, _line):
        assert 0 <= _process.started(pid) - _process.started(before) < 1000


# Executables


@pytest.fixture
def runs(tmp_path):
    """A process that runs a file of its own; its PID and that file."""
    path = tmp_path / "sleep"
    shutil.copy(shutil.which("sleep"), path)
    process = subprocess.Popen([str(path), "60"])
    yield process.pid, path
    process.kill()
    process.wait()


def test_an_executable_that_is_still_there(runs):
    pid, _path = runs
    assert _process.replaced(pid) is None


def test_an_executable_that_was_removed_and_put_there_again(runs, tmp_path):
    pid, path = runs
    path.unlink()
    assert _process.replaced(pid) is None
    shutil.copy(shutil.which("sleep"), path)
    assert _process.replaced(pid) is None


def test_an_executable_that_was_replaced(runs, tmp_path):
    pid, path = runs
    (tmp_path / "new").write_text("garbled")
    (tmp_path / "new").rename(path)
    assert _process.replaced(pid) == str(path)


def test_the_executable_of_a_process_that_is_not_there():
    assert _process.replaced(nobody()) is None


# Libraries


@contextlib.contextmanager
def mapped(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        yield os.fstat(file.fileno()).st_ino


def found(path):
    return [library for library in _process.libraries(os.getpid()) if library.path == str(path)]


def seen(path, inode, deleted):
    """Without the device, of which a file system may have another idea than ``stat``."""
    return [(library.path, library.inode, library.deleted) for library in found(path)] == [(str(path), inode, deleted)]


@pytest.mark.parametrize("name", ["x.so", "x.so.1", "x y.so", "ä.so", "x (deleted).so"])
def test_a_library_in_memory(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"x")
    with mapped(path) as inode:
        assert seen(path, inode, False)
    assert found(path) == []


def test_what_is_no_library(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"x")
    with mapped(path):
        assert found(path) == []


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_library_whose_file_is_another_by_now(tmp_path, how):
    path = tmp_path / "x.so"
    path.write_bytes(b"x")
    with mapped(path) as inode:
        if how == "removed":
            path.unlink()
        else:
            (tmp_path / "new").write_bytes(b"y")
            (tmp_path / "new").rename(path)
        assert seen(path, inode, True)


def test_both_of_two_under_one_path(tmp_path):
    path = tmp_path / "x.so"
    path.write_bytes(b"x")
    with mapped(path) as one:
        (tmp_path / "new").write_bytes(b"y")
        (tmp_path / "new").rename(path)
        with mapped(path) as two:
            assert {(library.inode, library.deleted) for library in found(path)} == {(one, True), (two, False)}


def test_the_libraries_of_an_ended_process():
    with pytest.raises(Failure, match="has ended in the meantime") as caught:
        _process.libraries(nobody())
    assert caught.value.code == "envoy_down"


# Sockets

LISTEN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
sock = socket.socket(family)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
if family == socket.AF_INET6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind((sys.argv[1], int(sys.argv[2])))
sock.listen()
print(sock.getsockname()[1], flush=True)
"""


@contextlib.contextmanager
def listening(address="127.0.0.1"):
    """A socket of this process that shares its port with whoever wants to, as Envoy's do."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_alone_on_a_port():
    with listening() as port:
        assert _process.intruders(os.getpid(), [("127.0.0.1", port)]) == []


def test_no_port_no_intruder():
    assert _process.intruders(os.getpid(), []) == []


@pytest.mark.parametrize(
    ("mine", "other", "shown"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0", "0.0.0.0"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "::", "::"),
    ],
)
def test_another_process_on_the_same_port(mine, other, shown):
    with listening(mine) as port, child(LISTEN, other, str(port)) as (pid, line):
        assert line == str(port)
        assert _process.intruders(os.getpid(), [(mine, port)]) == [Intruder(shown, port, pid)]


def test_another_process_on_another_address_or_port():
    with child(LISTEN, "127.0.0.2", "0") as (_pid, line):
        port = int(line)
        assert _process.intruders(os.getpid(), [("127.0.0.1", port)]) == []
        assert _process.intruders(os.getpid(), [("127.0.0.2", port + 1)]) == []


def test_a_port_that_is_yet_to_be_taken():
    """As of a listener that is about to be published."""
    with child(LISTEN, "127.0.0.1", "0") as (pid, line):
        assert _process.intruders(os.getpid(), [("127.0.0.1", int(line))]) == [Intruder("127.0.0.1", int(line), pid)]


def test_a_bound_socket_that_does_not_listen_takes_nothing():
    with listening() as port, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        assert _process.intruders(os.getpid(), [("127.0.0.1", port)]) == []


@pytest.fixture
def running(tmp_path):
    """A process of an executable of its own."""
    executable = tmp_path / "sleeper"
    shutil.copyfile(shutil.which("sleep"), str(executable))
    executable.chmod(0o755)
    process = subprocess.Popen([str(executable), "60"])
    yield executable, process.pid
    process.kill()
    process.wait()


def test_the_binary_of_a_process(running):
    executable, pid = running
    assert _process.binary(pid) == str(executable)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_binary_that_was_removed_or_replaced(running, replaced):
    """Another version under the same path would judge by other rules."""
    executable, pid = running
    executable.unlink()
    if replaced:
        executable.write_bytes(b"another")
    assert _process.binary(pid) == f"/proc/{pid}/exe"
