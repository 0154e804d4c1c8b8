# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example extension in a real Envoy: what it answers, what it survives, and that its builds are the same."""

from __future__ import annotations

import hashlib
import http.client
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest
from real import HOST, REPOSITORY, content_addressed, request, run_module, wait_until

FILTER = {"name": "basic_auth", "engine": "dynamic_module"}
#: bcrypt of "bar", at a cost that takes long enough to be seen waiting
HASH = "$2a$12$N92UsilBQUhKPO/M.jQwb.RzJKiIP1q9U.Or0d7jBQRrsxwb5yWF."


def build(source: pathlib.Path, target: pathlib.Path, *options: str) -> pathlib.Path:
    builder = REPOSITORY / "tools" / "build_extension.py"
    subprocess.run([sys.executable, str(builder), str(source), "-o", str(target), *options], check=True)
    return target


def publish(gateway, library, users, secrets=None):
    extension = content_addressed(library, gateway.extensions)
    options = {"engine": "dynamic_module", "extension": str(extension), "config": {"users": users}}
    result = gateway.filter("basic_auth", **options, secrets=secrets or {})
    assert not result.failed, result
    return result


@pytest.fixture
def served(gateway, basic_auth):
    gateway.serve(FILTER)
    publish(gateway, basic_auth, [{"username": "foo", "password": "${secret.foo}"}], {"foo": "bar"})
    return gateway


def raw(gateway, head: bytes) -> bytes:
    """The status line that a request gets whose headers no client library would send."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n" + head + b"\r\n\r\n")
        return connection.recv(4096).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"authorization: Basic Zm9vOmJhcg==", 200),
        (b"authorization: bAsIc Zm9vOmJhcg==", 200),
        (b"Authorization: Basic  Zm9vOmJhcg==", 200),
        (b"authorization: Bearer Zm9vOmJhcg==", 401),
        (b"authorization: Basic", 401),
        (b"authorization:", 401),
        (b"authorization: Basic Zm9vOmJhcg", 200),
        (b"authorization: Basic ====", 401),
        (b"authorization: Basic Zm9v", 401),
        (b"authorization: Basic \xff\xfe\xfd", 401),
        (b"authorization: Basic /////w==", 401),
        (b"authorization: Basic " + b"A" * 40_000, 401),
        (b"authorization: Basic Zm9vOmJhcg==\r\nauthorization: Basic Zm9vOmJhcg==", 401),
        (b"authorization: Basic Zm9vOmJhcg==, Basic Zm9vOmJhcg==", 401),
    ],
)
def test_headers(served, head, status):
    """401 for whatever is not the credential, and never a crash."""
    line = raw(served, head)
    assert int(line.split()[1]) == status, line
    assert served.get("foo:bar") == 200
    assert served.process.poll() is None


def test_the_challenge_and_the_counters(served):
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    connection.request("GET", "/", headers={"Host": HOST})
    response = connection.getresponse()
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="Restricted"')
    assert served.get("foo:bar") == 200
    counters = served.admin.stats(r"^dynamicmodulescustom\.basic_auth\.")
    assert counters["dynamicmodulescustom.basic_auth.allowed"] == 1
    assert counters["dynamicmodulescustom.basic_auth.denied"] == 1


def test_bcrypt_does_not_hold_up_the_worker(served, basic_auth):
    """While a credential is being checked for the first time, others on the same worker are answered."""
    users = [{"username": "foo", "password_hash": HASH}, {"username": "fast", "password": "${secret.fast}"}]
    publish(served, basic_auth, users, {"fast": "word"})
    fast = http.client.HTTPConnection("127.0.0.1", served.port)
    assert request(fast, "fast:word") == 200
    statuses = []
    slow = threading.Thread(target=lambda: statuses.append(served.get("foo:bar")))
    slow.start()
    meanwhile = 0
    while slow.is_alive():
        assert request(fast, "fast:word") == 200
        meanwhile += 1
    slow.join()
    assert statuses == [200]
    assert meanwhile > 1, "bcrypt of cost 12 takes far longer than a request"
    assert [served.get("foo:bar"), served.get("foo:baz"), served.get("nobody:bar")] == [200, 401, 401]


def test_a_credential_that_ends_while_it_is_in_use(served, basic_auth):
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    publish(served, basic_auth, [{"username": "foo", "password": "${secret.foo}", "not_after": until}], {"foo": "baz"})
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    assert request(connection, "foo:baz") == 200
    wait_until(lambda: request(connection, "foo:baz") == 401, "the credential has ended")


def test_rotations_with_one_library(served, basic_auth):
    """Each configuration is new, the code is loaded once."""
    for number in range(30):
        publish(served, basic_auth, [{"username": "foo", "password": "${secret.foo}"}], {"foo": str(number)})
        assert [served.get(f"foo:{number}"), served.get(f"foo:{number - 1}")] == [200, 401]
    assert len(run_module("envoy_info", served.where())["libraries"]) == 1


def test_two_builds_have_one_digest(tmp_path, basic_auth):
    """From another folder, with no stamp of an earlier build."""
    copy = tmp_path / "elsewhere" / "basic_auth"
    shutil.copytree(REPOSITORY / "examples" / "basic_auth", copy)
    again = build(copy, tmp_path / "again.so")
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(basic_auth.read_bytes()).digest()


def test_a_build_without_a_compiler_of_the_machine(gateway):
    """What the registry's Go and Zig make runs on hosts with an old C library."""
    source = REPOSITORY / "examples" / "basic_auth"
    portable = REPOSITORY / "build" / "extensions" / "portable" / "basic_auth.so"
    build(source, portable, "--toolchain", "pypi")
    target = {"envoy_version": "1.40.0", "glibc": "2.28", "engine": "dynamic_module"}
    result = run_module("extension_info", {"path": str(portable), "target": target})
    assert not result.failed, result
    gateway.serve(FILTER)
    publish(gateway, portable, [{"username": "foo", "password": "${secret.foo}"}], {"foo": "bar"})
    assert [gateway.get(), gateway.get("foo:bar")] == [401, 200]
