# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""envoy_config: clusters and listeners by the same transaction, and what binds the two together."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import ipaddress
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from real import HOST, NATIVE, free_port, htpasswd, native_users

BROKEN = {"listener_filters": [{"name": "no such filter"}]}


@contextlib.contextmanager
def upstream(body):
    """A real HTTP server; yields its ``host:port``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def route_to(gateway, cluster):
    listener = gateway.listener()
    listener["virtual_hosts"][0]["routes"] = [{"prefix": "/", "cluster": cluster}]
    return listener


def test_check_run_check_run(gateway):
    with upstream(b"one") as one:
        clusters = [{"name": "one", "endpoints": [one]}]
        listeners = [route_to(gateway, "one")]
        for check, changed in ((True, True), (False, True), (True, False), (False, False)):
            files = gateway.files()
            result = gateway.config(check=check, diff=True, clusters=clusters, listeners=listeners)
            assert result["changed"] is changed
            for kind in ("clusters", "listeners"):
                assert result[kind]["action"] == ("published" if changed else "none")
            assert [part["before"] == part["after"] for part in result["diff"]] == [not changed] * 2
            if check or not changed:
                assert gateway.files() == files
        assert gateway.get() == 200


def test_a_cluster_leaves_after_its_last_route(gateway):
    """Requests never meet a route without its cluster, which would be a 503."""
    with upstream(b"one") as one, upstream(b"two") as two:
        first, second = {"name": "one", "endpoints": [one]}, {"name": "two", "endpoints": [two]}
        gateway.config(clusters=[first], listeners=[route_to(gateway, "one")])
        statuses: dict[int, int] = {}
        stopping = threading.Event()

        def ask():
            while not stopping.is_set():
                status = gateway.get()
                statuses[status] = statuses.get(status, 0) + 1

        client = threading.Thread(target=ask)
        client.start()
        try:
            for cluster in (second, first, second):
                result = gateway.config(clusters=[cluster], listeners=[route_to(gateway, cluster["name"])])
                assert result["clusters"]["action"] == "published"
        finally:
            stopping.set()
            client.join()
        assert set(statuses) == {200}, statuses
        assert b"one" not in (gateway.directory / "clusters.json").read_bytes()


def test_refused_listeners_bring_the_clusters_back(gateway):
    """Both come back as they were, so that the two always fit."""
    with upstream(b"one") as one, upstream(b"two") as two:
        gateway.config(clusters=[{"name": "one", "endpoints": [one]}], listeners=[route_to(gateway, "one")])
        broken = route_to(gateway, "one")
        broken["envoy"] = BROKEN
        changed = [{"name": "one", "endpoints": [two]}]
        for options, code in (
            ({}, "refused_in_validation"),
            ({"envoy_binary": str(gateway.blind)}, "refused_by_envoy"),
        ):
            result = gateway.config(clusters=changed, listeners=[broken], **options)
            assert result.code == code
            assert "no such filter" in result["msg"]
            assert gateway.get() == 200
            endpoints = (gateway.directory / "clusters.json").read_text()
            assert one.partition(":")[2] in endpoints
            assert two.partition(":")[2] not in endpoints
        assert (
            gateway.config(clusters=[{"name": "one", "endpoints": [one]}], listeners=[route_to(gateway, "one")])[
                "changed"
            ]
            is False
        )


def test_a_port_that_another_process_holds(gateway):
    with socket.socket() as other:
        other.bind(("127.0.0.1", gateway.port))
        other.listen()
        result = gateway.serve(NATIVE)
        assert result.code == "port_shared"
        assert f"127.0.0.1:{gateway.port}" in result["msg"]
        assert gateway.files().keys() == {"clusters.json", "listeners.json"}
    assert gateway.serve(NATIVE)["changed"] is True


def test_a_first_listener_that_is_refused_leaves_none(gateway):
    broken = {**gateway.listener(), "envoy": BROKEN}
    result = gateway.config(listeners=[broken], envoy_binary=str(gateway.blind))
    assert (result.code, result["action"]) == ("refused_by_envoy", "restored")
    assert "the empty configuration is in service again" in result["msg"]
    assert gateway.serve(NATIVE)["listeners"]["action"] == "published"


def certificate(folder, key):
    """A certificate of its own for the host, valid for a day; returns the paths of certificate and key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(*encoding))
    private.chmod(0o600)
    return chain, private


def test_tls(gateway):
    chain, private = certificate(gateway.root, ec.generate_private_key(ec.SECP256R1()))
    listener = {**gateway.listener(NATIVE), "tls": {"certificate_chain": str(chain), "private_key": str(private)}}
    assert gateway.config(filters=[NATIVE], listeners=[listener])["changed"] is True
    url = f"https://127.0.0.1:{gateway.port}/"
    asks = [
        {"url": url, "headers": {"host": HOST}, "basic_auth": "foo:${secret.foo}", "ca_file": str(chain)},
        {"url": url, "headers": {"host": HOST}, "status": 401, "ca_file": str(chain)},
    ]
    options = native_users(htpasswd("foo", "bar"), probe=asks)
    options["secrets"]["foo"] = "bar"
    assert gateway.filter("users", **options)["action"] == "published"
    context = ssl.create_default_context(cafile=str(chain))
    with socket.create_connection(("127.0.0.1", gateway.port)) as plain:
        context.set_alpn_protocols(["h2", "http/1.1"])
        with context.wrap_socket(plain, server_hostname=HOST) as secure:
            assert secure.selected_alpn_protocol() == "h2"
            assert secure.version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        ({"certificate_chain": "{root}/none.pem", "private_key": "{root}/none.pem"}, "none.pem"),
        ({"certificate_chain": "{root}/chain.pem", "private_key": "{root}/other.pem"}, "KEY_VALUES_MISMATCH"),
    ],
    ids=["missing", "of another certificate"],
)
def test_a_certificate_that_can_not_be_served(gateway, tls, reason):
    certificate(gateway.root, ec.generate_private_key(ec.SECP256R1()))
    other = gateway.root / "other"
    other.mkdir()
    certificate(other, ec.generate_private_key(ec.SECP256R1()))[1].rename(gateway.root / "other.pem")
    paths = {key: value.format(root=gateway.root) for key, value in tls.items()}
    result = gateway.config(filters=[NATIVE], listeners=[{**gateway.listener(NATIVE), "tls": paths}])
    assert result.code == "refused_in_validation"
    assert reason in result["msg"]


def test_a_filter_of_another_listener_keeps_serving(gateway):
    """A second listener comes and goes; the first one's connections stay."""
    gateway.serve(NATIVE)
    gateway.filter("users", **native_users(htpasswd("foo", "bar")))
    second = {**gateway.listener(NATIVE), "name": "second", "port": free_port()}
    for listeners in ([gateway.listener(NATIVE), second], [gateway.listener(NATIVE)]):
        assert not gateway.config(filters=[NATIVE], listeners=listeners).failed
        assert [gateway.get("foo:bar"), gateway.get()] == [200, 401]
    assert gateway.filter("users", **native_users(htpasswd("foo", "bar")))["action"] == "none"
