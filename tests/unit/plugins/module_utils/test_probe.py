# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe: what is read from its options, and what one request to a server tells. Only the loopback is used."""

from __future__ import annotations

import base64
import contextlib
import http.server
import re
import socket
import threading

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _probe
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._probe import Probe, probes

SECRETS = {"pw": "bär", "token": "t0k"}
URL = "http://127.0.0.1:10000/status/200"


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("given", "probe"),
    [
        ({}, Probe("probe[0]", URL, 200, {}, None)),
        ({"status": 401, "ca_file": __file__}, Probe("probe[0]", URL, 401, {}, __file__)),
        ({"status": "204", "headers": {}}, Probe("probe[0]", URL, 204, {}, None)),
        (
            {"headers": {"host": "x", "t": "a ${secret.token}"}},
            Probe("probe[0]", URL, 200, {"host": "x", "t": "a t0k"}, None),
        ),
        ({"headers": {"t": "$${secret.token}"}}, Probe("probe[0]", URL, 200, {"t": "${secret.token}"}, None)),
        ({"basic_auth": "foo:${secret.pw}"}, Probe("probe[0]", URL, 200, {"Authorization": basic("foo:bär")}, None)),
        ({"basic_auth": "foo:"}, Probe("probe[0]", URL, 200, {"Authorization": basic("foo:")}, None)),
        ({"basic_auth": "foo:a:b\n"}, Probe("probe[0]", URL, 200, {"Authorization": basic("foo:a:b\n")}, None)),
    ],
)
def test_reads(given, probe):
    # Ansible fills in what was left out.
    empty = {"status": 200, "headers": None, "basic_auth": None, "ca_file": None}
    assert probes([{"url": URL, **empty, **given}], SECRETS) == [probe]


def test_there_may_be_none_or_several():
    assert probes([], {}) == []
    assert [probe.path for probe in probes([{"url": URL}, {"url": URL}], {})] == ["probe[0]", "probe[1]"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": None}, "probe[0].url: found nothing, expected"),
        ({"url": ""}, "probe[0].url: found '' (str), expected"),
        ({"url": "x"}, "probe[0].url: found 'x' (str), expected an http or https URL"),
        ({"url": "/status"}, "probe[0].url: found '/status' (str), expected an http or https URL"),
        ({"url": "ftp://x/"}, "probe[0].url: found 'ftp://x/' (str), expected an http or https URL"),
        ({"url": "http:///x"}, "probe[0].url: found 'http:///x' (str), expected an http or https URL"),
        # What would else be noticed only after the publish.
        ({"url": "http://[::1/"}, "probe[0].url: found 'http://[::1/' (str), expected an http or https URL"),
        ({"url": "http://x:99999/"}, "probe[0].url: found 'http://x:99999/' (str), expected an http or https URL"),
        ({"url": "http://x:abc/"}, "probe[0].url: found 'http://x:abc/' (str), expected an http or https URL"),
        ({"url": "http://x/a b"}, "probe[0].url: found 'http://x/a b' (str), expected an http or https URL"),
        ({"url": "http://x/ä"}, "probe[0].url: found 'http://x/ä' (str), expected an http or https URL"),
        ({"headers": {"a b": "x"}}, "probe[0].headers.a b: found "),
        ({"headers": {"": "x"}}, "probe[0].headers.: found "),
        ({"headers": {"a": "x\r\nb: y"}}, "probe[0].headers.a: found "),
        ({"headers": {"a": "\u20ac"}}, "probe[0].headers.a: found "),
        ({"headers": ["a"]}, "probe[0].headers: found a list of 1, expected a mapping."),
        ({"headers": {"a": 1}}, "probe[0].headers.a: found 1 (int), expected a string."),
        (
            {"headers": {"a": "${secret.no}"}},
            "probe[0].headers.a: found a reference to the secret 'no', expected one of",
        ),
        ({"basic_auth": "foo"}, "probe[0].basic_auth: found 'foo' (str), expected user:password, the password as"),
        ({"basic_auth": ":bar"}, "probe[0].basic_auth: found ':bar' (str), expected user:password, the password as"),
        (
            {"basic_auth": "f:${secret.no}"},
            "probe[0].basic_auth: found a reference to the secret 'no', expected one of",
        ),
        (
            {"basic_auth": "f:x", "headers": {"authorization": "y"}},
            "probe[0].headers.authorization: found ",
        ),
        ({"status": 99}, "probe[0].status: found 99 (int), expected an integer from 100 to 599."),
        ({"status": "x"}, "probe[0].status: found 'x' (str), expected an integer from 100 to 599."),
        ({"ca_file": "/nowhere/ca.pem"}, "probe[0].ca_file: found no file at /nowhere/ca.pem, expected"),
        ({"ca_file": 7}, "probe[0].ca_file: found 7 (int), expected"),
        ({"method": "POST"}, "probe[0].method: found an unknown key, expected one of url, status, headers"),
    ],
)
def test_refuses(given, message):
    with pytest.raises(Failure, match="^" + re.escape(message)) as caught:
        probes([{"url": URL, **given}], SECRETS)
    assert caught.value.code == "invalid_option"


@pytest.mark.parametrize(
    ("items", "message"),
    [("x", "probe: found 'x'"), ({}, "probe: found a mapping of 0"), (["x"], "probe[0]: found 'x'")],
)
def test_the_option_itself_is_named(items, message):
    with pytest.raises(Failure, match="^" + re.escape(message)):
        probes(items, {})


def test_a_header_that_holds_a_secret_is_refused_without_showing_it():
    """Ansible cuts a secret out of its output only where it stands as it is, and an error quotes it."""
    with pytest.raises(Failure, match=r"^probe\[0\]\.headers\.a: found ") as caught:
        probes([{"url": URL, "headers": {"a": "${secret.s}"}}], {"s": "HIDDEN\r\nx"})
    assert "HIDDEN" not in str(caught.value.as_dict())


# Requests


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers.items())))
        self.send_response(int(self.path.strip("/").partition("?")[0] or 200))
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(host="127.0.0.1", family=socket.AF_INET):
    class Server(http.server.HTTPServer):
        address_family = family

    server = Server((host, 0), Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def probe(server, path="/200", **keys):
    (found,) = probes([{"url": f"http://127.0.0.1:{server.server_port}{path}", **keys}], SECRETS)
    return found


@pytest.mark.parametrize("status", [200, 204, 302, 401, 503])
def test_the_expected_status_is_enough(status):
    with serving() as server:
        _probe.run(probe(server, f"/{status}", status=status), 5)


def test_what_is_sent():
    with serving() as server:
        _probe.run(probe(server, "/200?a=b%20c&d", headers={"Host": "x.example"}, basic_auth="foo:${secret.pw}"), 5)
        _probe.run(probe(server, ""), 5)
    path, headers = server.seen[0]
    assert path == "/200?a=b%20c&d"
    assert headers["Host"] == "x.example"
    assert headers["Authorization"] == basic("foo:bär")
    assert server.seen[1][0] == "/"


def test_another_status_fails_with_both():
    with serving() as server, pytest.raises(Failure) as caught:
        _probe.run(probe(server, "/401", basic_auth="foo:${secret.pw}"), 5)
    url = f"http://127.0.0.1:{server.server_port}/401"
    assert caught.value.code == "probe_failed"
    assert caught.value.message == f"probe[0]: {url} answered 401, expected 200."
    assert caught.value.details == {"url": url, "found": 401, "expected": 200}


def unanswered(port, timeout=5):
    with pytest.raises(Failure) as caught:
        _probe.run(Probe("probe[3]", f"http://127.0.0.1:{port}/", 200, {"a": "HIDDEN"}, None), timeout)
    assert caught.value.code == "probe_failed"
    assert "HIDDEN" not in caught.value.message
    assert caught.value.message.startswith(f"probe[3]: http://127.0.0.1:{port}/ gave no answer (")
    assert caught.value.message.endswith("), expected 200.")
    return caught.value.message


def test_nobody_there():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert "Connection refused" in unanswered(sock.getsockname()[1])


def test_no_answer_in_time():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        unanswered(sock.getsockname()[1], timeout=0.05)


def test_something_else_than_http():
    def answer(sock):
        connection = sock.accept()[0]
        connection.recv(1000)
        connection.sendall(b"220 mail.example ESMTP\r\n")
        connection.close()

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        thread = threading.Thread(target=answer, args=(sock,))
        thread.start()
        unanswered(sock.getsockname()[1])
        thread.join()
