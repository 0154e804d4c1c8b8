# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input, against a gateway in service: the error names the key, what was found and what was expected, or gives
Envoy's own reason; no secret shows; and nothing changes: no file, no push to Envoy, no answer to a request.

Each row is a task that would change the gateway if it had not the one thing wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import socket
import threading
import typing as t

import pytest
from real import NATIVE, TYPE, RealGateway, content_addressed, htpasswd, native_users, run_module

GUARD = {"name": "guard", "engine": "dynamic_module"}
BASIC_AUTH = NATIVE["type"]
RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC"
BANDWIDTH_LIMIT = "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit"
BUFFER = "envoy.extensions.filters.http.buffer.v3.Buffer"
RATE_LIMIT = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
SERVED, WANTED = "foo:bar", "foo:new"
DIGEST = "0" * 64


class Stranger(http.server.BaseHTTPRequestHandler):
    """A web server that is not Envoy's admin interface."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *arguments: object) -> None:
        pass


class UnixServer(http.server.HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)


class Served:
    """A gateway with two filters in service, and things around it that options can point at by mistake."""

    def __init__(self, real: RealGateway, extension: str) -> None:
        self.real = real
        self.extension = extension
        self.root = str(real.root)
        self.file = self._make("a_file", b"x")
        self.not_elf = self._make(f"x-{hashlib.sha256(b'not ELF').hexdigest()}.so", b"not ELF")
        self.damaged = self._make(f"x-{DIGEST}.so", b"x")
        self.folder = f"{self.root}/folder-{DIGEST}.so"
        os.mkdir(self.folder)
        self.stranger = f"{self.root}/stranger.sock"
        self.abandoned = f"{self.root}/abandoned.sock"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(self.abandoned)
        self.taken = socket.socket()
        self.taken.bind(("127.0.0.1", 0))
        self.taken.listen()
        self.taken_port = self.taken.getsockname()[1]

    def _make(self, name: str, data: bytes) -> str:
        path = self.real.root / name
        path.write_bytes(data)
        return str(path)

    def publish(self) -> None:
        """Bring the gateway into the state that every row finds and leaves."""
        assert not self.real.serve(NATIVE, GUARD).failed
        assert not self.real.filter("users", **native_users(htpasswd("foo", "bar"))).failed
        assert not self.real.filter(**{**guard(users=[FOO])(self), "secrets": {"pw": "bar"}}).failed

    def state(self) -> tuple[dict[str, bytes], dict[str, t.Any], list[int]]:
        """All that a change would show in: the files, what Envoy has counted, what it answers."""
        counters = self.real.admin.stats(r"\.(update_(attempt|success|rejected|failure)|version_text)$")
        return self.real.files(), counters, [self.real.get(SERVED), self.real.get(WANTED), self.real.get()]


@pytest.fixture(scope="module")
def served(basic_auth: t.Any) -> t.Iterator[Served]:
    real = RealGateway()
    try:
        real.start()
        result = Served(real, str(content_addressed(basic_auth, real.extensions)))
        with contextlib.closing(result.taken), UnixServer(result.stranger, Stranger) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                result.publish()
                assert result.state()[2] == [200, 401, 401]
                yield result
            finally:
                server.shutdown()
                thread.join()
    finally:
        real.remove()


Options = t.Callable[[Served], dict[str, t.Any]]
FOO = {"username": "foo", "password": "${secret.pw}"}


def users(**wrong: t.Any) -> Options:
    """Envoy's own Basic Auth with another password, and what is wrong."""
    return lambda served: {"name": "users", **native_users(htpasswd(*WANTED.split(":"))), **wrong}


def native(message: str = BASIC_AUTH, secrets: dict[str, str] | None = None, **config: t.Any) -> Options:
    """A stock filter with this configuration."""
    return lambda served: {
        "name": "users",
        "engine": "native",
        "config": {"@type": TYPE + message, **config},
        "secrets": secrets or {},
    }


def guard(**config: t.Any) -> Options:
    """The example extension with this configuration."""
    return lambda served: {
        "name": "guard",
        "engine": "dynamic_module",
        "extension": served.extension,
        "config": config,
        "secrets": {"pw": "new"},
    }


def library(path: t.Callable[[Served], str | None], **more: t.Any) -> Options:
    """The example extension with another password, from this path."""
    return lambda served: {**guard(users=[FOO])(served), "extension": path(served), **more}


def golang(**config: t.Any) -> Options:
    return lambda served: {**guard()(served), "name": "users", "engine": "golang", "config": config}


def pointing(option: str, value: t.Callable[[Served], t.Any]) -> Options:
    """Envoy's own Basic Auth with another password, and a path that is known only when the gateway is there."""
    return lambda served: {**users()(served), option: value(served)}


def probe(**keys: t.Any) -> Options:
    return users(probe=[{"url": "http://127.0.0.1:1/", **keys}])


def gateway(**wrong: t.Any) -> Options:
    """The listener in service, and one more cluster, and what is wrong."""
    return lambda served: {
        "clusters": [{"name": "more", "endpoints": ["127.0.0.1:1"]}],
        "filters": [NATIVE, GUARD],
        "listeners": [served.real.listener(NATIVE, GUARD)],
        **wrong,
    }


def cluster(**wrong: t.Any) -> Options:
    return gateway(clusters=[{"name": "more", "endpoints": ["127.0.0.1:1"], **wrong}])


def listener(**wrong: t.Any) -> Options:
    return lambda served: gateway(listeners=[{**served.real.listener(NATIVE, GUARD), **wrong}])(served)


def two_listeners(second: t.Callable[[Served], dict[str, t.Any]]) -> Options:
    def options(served: Served) -> dict[str, t.Any]:
        first = served.real.listener(NATIVE, GUARD)
        return gateway(listeners=[first, {**first, "name": "other", **second(served)}])(served)

    return options


def raw(**envoy: t.Any) -> Options:
    """The listener in service, and one that is given as Envoy has it."""
    return lambda served: gateway(listeners=[served.real.listener(NATIVE, GUARD), {"name": "raw", "envoy": envoy}])(
        served
    )


def route(**keys: t.Any) -> Options:
    return listener(virtual_hosts=[{"domains": ["*"], "routes": [keys]}])


def host(**keys: t.Any) -> Options:
    return listener(virtual_hosts=[{"domains": ["*"], "routes": [{"prefix": "/", "status": 200}], **keys}])


class Row(t.NamedTuple):
    what: str
    options: Options
    #: of the failure; empty where Ansible itself refuses, before the module runs
    code: str
    #: what the message has to hold, each
    words: tuple[str, ...]
    #: what no output may hold
    hidden: str = ""
    check: bool = False


INVALID, REFUSED = "invalid_option", "refused_in_validation"

FILTER_ROWS = [
    # name, state, engine
    Row("no name", users(name=None), "", ("missing required arguments", "name")),
    Row("capitals in name", users(name="Users"), INVALID, ("name: found 'Users'", "expected lower-case letters")),
    Row("path in name", users(name="../users"), INVALID, ("name: found '../users'", "expected lower-case letters")),
    Row(
        "name that no listener has",
        users(name="nosuch"),
        "wrong_gateway",
        ("filter nosuch from no file", "expected", "/filters/nosuch.json", "config_discovery", "Nothing has changed"),
    ),
    Row("unknown state", users(state="gone"), "", ("state", "present, absent", "got: gone")),
    Row("no engine", users(engine=None), "", ("state is present", "missing: engine")),
    Row("unknown engine", users(engine="lua"), "", ("engine", "dynamic_module, golang, native", "got: lua")),
    Row(
        "unknown option", users(colour="red"), "", ("Unsupported parameters", "colour", "Supported parameters include")
    ),
    Row("redact is no bool", users(redact="maybe"), "", ("redact", "'maybe' is not a valid boolean")),
    Row(
        "purge while a listener names it",
        lambda served: {"name": "users", "state": "absent", "purge": True},
        "still_in_chain",
        ("purge: a listener still names filter users", "Take it out of the listener first", "Nothing has changed"),
    ),
    Row(
        "purge while a listener names it, in check mode",
        lambda served: {"name": "users", "state": "absent", "purge": True},
        "still_in_chain",
        ("purge: a listener still names filter users",),
        check=True,
    ),
    # engine native
    Row("native without a type", users(config={}), INVALID, ("config.@type: found nothing", "expected the type URL")),
    Row(
        "native with a bare type",
        users(config={"@type": BASIC_AUTH}),
        INVALID,
        (f"config.@type: found '{BASIC_AUTH}'", "expected the type URL"),
    ),
    Row("native with a type that Envoy lacks", native("envoy.No"), REFUSED, ("filter users", f"'{TYPE}envoy.No'")),
    Row(
        "native with a type that the listener does not allow",
        native(BUFFER, max_request_bytes=5),
        "type_changed",
        (f"found type {BUFFER}", "expected one that the listener allows", BASIC_AUTH, "Nothing has changed"),
    ),
    Row("native with an unknown key", native(userz={}), REFUSED, (BASIC_AUTH, "no such field: 'userz'")),
    Row("native with a list for a mapping", native(users=[1]), REFUSED, (".users: ", "'['; expected '{'")),
    Row("native with an empty value", native(users={"inline_string": ""}), REFUSED, ("DataSource cannot be empty",)),
    Row(
        "native with bad content",
        native(users={"inline_string": "foo"}),
        REFUSED,
        ("filter users: Envoy refuses it", "invalid htpasswd format", "Nothing has changed"),
    ),
    Row(
        "native with bad content, in check mode",
        native(users={"inline_string": "foo"}),
        REFUSED,
        ("filter users: Envoy refuses it", "invalid htpasswd format"),
        check=True,
    ),
    Row(
        "native with a value out of range, whose reason has many lines",
        native(RATE_LIMIT, stat_prefix="", token_bucket={"max_tokens": 1, "fill_interval": "1s"}),
        REFUSED,
        ("StatPrefix", "value length must be at least 1"),
    ),
    Row(
        "native with a number that would be rounded",
        native(BANDWIDTH_LIMIT, stat_prefix="x", limit_kbps=2**60),
        INVALID,
        ("config.limit_kbps: found 1152921504606846976",),
    ),
    Row("native with no number", native(users=float("nan")), INVALID, ("config.users: found nan",)),
    Row("config is a list", users(config=["x"]), "", ("config", "type list", "dict")),
    Row("config is a word", users(config="x"), "", ("config", "type str", "dict")),
    Row("native with a library", pointing("extension", lambda s: s.extension), INVALID, ("extension: found", "native")),
    Row("native with filter_name", users(filter_name="x"), INVALID, ("filter_name: found 'x'", "expected nothing")),
    # engine dynamic_module: the library
    Row("no library", library(lambda s: None), INVALID, ("extension: found nothing", "engine is dynamic_module")),
    Row("relative path", library(lambda s: "x.so"), INVALID, ("extension: found 'x.so'", "expected an absolute path")),
    Row("path without a digest", library(lambda s: "/x.so"), INVALID, ("extension: found '/x.so'", "SHA-256")),
    Row(
        "library that is not there",
        library(lambda s: f"/nosuch/x-{DIGEST}.so"),
        "extension_missing",
        (f"extension: found no readable file at /nosuch/x-{DIGEST}.so", "No such file", "Nothing has changed"),
    ),
    Row(
        "library that is a directory",
        library(lambda s: s.folder),
        "extension_missing",
        ("extension: found no readable file at", f"folder-{DIGEST}.so", "Is a directory"),
    ),
    Row(
        "damaged library",
        library(lambda s: s.damaged),
        "extension_damaged",
        (
            f"extension: found SHA-256 {hashlib.sha256(b'x').hexdigest()}",
            f"expected {DIGEST} as in its name",
            "Nothing has changed",
        ),
    ),
    Row(
        "damaged library, in check mode",
        library(lambda s: s.damaged),
        "extension_damaged",
        ("extension: found SHA-256", f"expected {DIGEST}"),
        check=True,
    ),
    Row(
        "library that is none",
        library(lambda s: s.not_elf),
        REFUSED,
        ("Failed to load dynamic module", hashlib.sha256(b"not ELF").hexdigest(), "file too short"),
    ),
    # engine dynamic_module: the extension's own reasons
    Row("no users", guard(), REFUSED, ("filter guard: Envoy refuses it", "users: required", "Nothing has changed")),
    Row("users empty", guard(users=[]), REFUSED, ("users: must not be empty",)),
    Row("unknown key of the extension", guard(userz=[], users=[FOO]), REFUSED, ("userz: unknown key", "realm, users")),
    Row("realm a number", guard(realm=1, users=[FOO]), REFUSED, ("realm: must be a string, not a number",)),
    Row(
        "bad hash",
        guard(users=[FOO, {"username": "b", "password_hash": "${secret.pw}"}]),
        REFUSED,
        ("users[1].password_hash: must be a bcrypt hash", "$2y$"),
    ),
    Row(
        "bad hash, in check mode",
        guard(users=[FOO, {"username": "b", "password_hash": "${secret.pw}"}]),
        REFUSED,
        ("users[1].password_hash: must be a bcrypt hash",),
        check=True,
    ),
    Row(
        "colon in a name",
        guard(users=[{"username": "a:b", "password": "${secret.pw}"}]),
        REFUSED,
        ("users[0].username: must not contain a colon",),
    ),
    Row(
        "bad time",
        guard(users=[{**FOO, "not_after": "tomorrow"}]),
        REFUSED,
        ("users[0].not_after: must be an RFC 3339",),
    ),
    Row(
        "not sealed and bad",
        lambda served: {**guard(users=[])(served), "redact": False},
        REFUSED,
        ("users: must not be empty",),
    ),
    # engine golang, which the stock Envoy does not have
    Row(
        "golang on a stock Envoy",
        golang(),
        "engine_missing",
        ("engine: this Envoy has no filter", "golang", "contrib", "Istio", "dynamic_module", "Nothing has changed"),
    ),
    Row("golang on a stock Envoy, in check mode", golang(), "engine_missing", ("engine:", "contrib"), check=True),
    Row("golang with another library", golang(library_path="/x.so"), INVALID, ("config.library_path: found '/x.so'",)),
    Row(
        "golang with an untyped plugin_config",
        golang(plugin_config={"value": {}}),
        INVALID,
        ("config.plugin_config.@type: found nothing", "expected a type URL"),
    ),
    # secrets
    Row("secrets a list", users(secrets=["HIDDEN"]), INVALID, ("secrets: found a list", "a mapping of"), "HIDDEN"),
    Row("secrets a word", users(secrets="HIDDEN"), INVALID, ("secrets: found a str", "a mapping of"), "HIDDEN"),
    Row(
        "secrets a text that Ansible would read as a mapping",
        users(secrets="users=HIDDEN"),
        INVALID,
        ("a str",),
        "HIDDEN",
    ),
    Row(
        "secret a number",
        users(secrets={"users": 471108}),
        INVALID,
        ("secrets.users: found a value of type int", "expected a non-empty string", "Quote it"),
        "471108",
    ),
    Row(
        "secret a list", users(secrets={"users": ["HIDDEN"]}), INVALID, ("secrets.users: found", "type list"), "HIDDEN"
    ),
    Row("secret null", users(secrets={"users": None}), INVALID, ("secrets.users: found a value of type NoneType",)),
    Row("secret empty", users(secrets={"users": ""}), INVALID, ("secrets.users: found an empty string",)),
    Row(
        "bad name of a secret",
        users(secrets={"my users": "HIDDEN"}),
        INVALID,
        ("secrets: found a name that is not a word", "letters, digits and underscores"),
        "HIDDEN",
    ),
    Row(
        "unknown secret",
        users(secrets={"other": "HIDDEN"}),
        INVALID,
        ("config.users.inline_string: found a reference to the secret 'users'", "names in secrets (other)"),
        "HIDDEN",
    ),
    Row(
        "reference without an end",
        users(config={"@type": TYPE + BASIC_AUTH, "users": {"inline_string": "foo:${secret.users"}}),
        INVALID,
        ("config.users.inline_string: found", "expected"),
    ),
    Row(
        "secret in a place that Envoy refuses, whose reason repeats it",
        native(secrets={"s": 'a"HID\nHID'}, users={"inline_string": "x"}, forward_username_header=["${secret.s}"]),
        REFUSED,
        (".forward_username_header: ", "unexpected character"),
        "HID",
    ),
    Row(
        "long secret in the place of the type",
        users(config={"@type": "${secret.s}"}, secrets={"s": "HIDDEN" * 20}),
        INVALID,
        ("config.@type: found", "expected the type URL"),
        "HIDDEN",
    ),
    Row(
        "secret that is no text, in the configuration of an extension",
        lambda served: {**guard(users=[FOO])(served), "secrets": {"pw": 'a"HID\udc80"HID'}},
        REFUSED,
        ("filter guard: Envoy refuses it", "surrogate"),
        "HID",
    ),
    # probe
    Row("probe a word", users(probe="x"), "", ("could not parse",)),
    Row("probe without a URL", users(probe=[{}]), "", ("missing required arguments: url found in probe",)),
    Row("probe with an unknown key", probe(verb="GET"), "", ("probe.verb", "Supported parameters include")),
    Row("probe by ftp", probe(url="ftp://x/"), INVALID, ("probe[0].url: found 'ftp://x/'", "http or https URL")),
    Row("probe with a broken URL", probe(url="http://[::1/"), INVALID, ("probe[0].url: found 'http://[::1/'", "http")),
    Row("probe with a bad port", probe(url="http://x:99999/"), INVALID, ("probe[0].url: found 'http://x:99999/'",)),
    Row("probe with a bad status", probe(status=99), INVALID, ("probe[0].status: found 99", "from 100 to 599")),
    Row("probe with no status", probe(status="ok"), "", ("'status'", "type str", "'probe'", "int")),
    Row("probe header a number", probe(headers={"a": 1}), INVALID, ("probe[0].headers.a: found 1", "a string")),
    Row("probe header of no name", probe(headers={"a b": "x"}), INVALID, ("probe[0].headers.a b: found",)),
    Row(
        "probe header of two lines",
        probe(headers={"a": "x\r\ny: ${secret.users}"}),
        INVALID,
        ("probe[0].headers.a: found",),
        htpasswd(*WANTED.split(":")),
    ),
    Row("probe with no user", probe(basic_auth="x"), INVALID, ("probe[0].basic_auth: found 'x'", "user:password")),
    Row(
        "probe with an unknown secret",
        probe(basic_auth="foo:${secret.nope}"),
        INVALID,
        ("probe[0].basic_auth: found a reference to the secret 'nope'", "names in secrets (users)"),
    ),
    Row(
        "probe with missing certificates",
        probe(url="https://127.0.0.1:1/", ca_file="/nosuch/ca.pem"),
        INVALID,
        ("probe[0].ca_file: found", "/nosuch/ca.pem"),
    ),
    # timeout, keep
    Row("timeout too short", users(timeout=0.01), INVALID, ("timeout: found 0.01", "from 0.1 to 600")),
    Row("timeout too long", users(timeout=601), INVALID, ("timeout: found 601", "from 0.1 to 600")),
    Row("timeout no number", users(timeout="soon"), "", ("timeout", "type str", "float")),
    Row("timeout not a number", users(timeout="nan"), INVALID, ("timeout: found nan", "from 0.1 to 600")),
    Row("keep none", users(keep=0), INVALID, ("keep: found 0", "from 1 to 1000")),
    Row("keep no number", users(keep="all"), "", ("keep", "type str", "int")),
    # where things are
    Row("directory relative", users(directory="xds"), INVALID, ("directory: found 'xds'", "expected an absolute path")),
    Row("directory missing", users(directory="/nosuch"), INVALID, ("directory: found no directory at /nosuch",)),
    Row(
        "directory a file",
        pointing("directory", lambda s: s.file),
        INVALID,
        ("directory: found no directory at", "a_file"),
    ),
    Row(
        "directory of nobody",
        pointing("directory", lambda s: s.root),
        "wrong_gateway",
        ("takes filter users from", "/xds/filters/users.json, expected", "Nothing has changed"),
    ),
    Row("owner unknown", users(owner="nosuch"), INVALID, ("owner: found 'nosuch'", "expected a user of this host")),
    Row(
        "admin_socket missing",
        users(admin_socket="/nosuch/admin.sock"),
        "envoy_down",
        ("admin_socket", "/nosuch/admin.sock", "no such socket"),
    ),
    Row(
        "admin_socket too long",
        users(admin_socket="/" + "s" * 107),
        INVALID,
        ("admin_socket: found a path of 108", "107"),
    ),
    Row(
        "admin_socket a file",
        pointing("admin_socket", lambda s: s.file),
        "envoy_down",
        ("admin_socket", "/a_file", "not a socket"),
    ),
    Row(
        "admin_socket a directory",
        pointing("admin_socket", lambda s: s.root),
        "envoy_down",
        ("admin_socket", "not a socket"),
    ),
    Row(
        "admin_socket abandoned",
        pointing("admin_socket", lambda s: s.abandoned),
        "envoy_down",
        ("admin_socket", "/abandoned.sock", "nobody listens there"),
    ),
    Row(
        "admin_socket of another program",
        pointing("admin_socket", lambda s: s.stranger),
        "admin_error",
        ("admin_socket", "/stranger.sock", "not Envoy's admin interface"),
    ),
    Row(
        "envoy_binary missing",
        users(envoy_binary="/nosuch/envoy"),
        "no_envoy_binary",
        ("envoy_binary", "/nosuch/envoy", "No such file or directory"),
    ),
    Row(
        "envoy_binary a directory",
        users(envoy_binary="/tmp"),
        "no_envoy_binary",
        ("envoy_binary", "/tmp", "Permission denied"),
    ),
    Row(
        "envoy_binary that is content with everything",
        users(envoy_binary="/bin/true"),
        "no_envoy_binary",
        ("envoy_binary", "/bin/true", "not Envoy"),
    ),
    Row(
        "envoy_binary that is content with everything, in check mode",
        users(envoy_binary="/bin/true"),
        "no_envoy_binary",
        ("envoy_binary", "/bin/true", "not Envoy"),
        check=True,
    ),
    Row(
        "envoy_binary that is content with nothing",
        users(envoy_binary="/bin/false"),
        "no_envoy_binary",
        ("envoy_binary", "/bin/false", "not Envoy"),
    ),
]

CONFIG_ROWS = [
    # clusters
    Row(
        "cluster without a name",
        gateway(clusters=[{"endpoints": ["127.0.0.1:1"]}]),
        INVALID,
        ("clusters[0].name: found nothing", "expected a name"),
    ),
    Row("cluster of a bad name", cluster(name="a b"), INVALID, ("clusters[0].name: found 'a b'", "letters, digits")),
    Row("cluster without endpoints", cluster(endpoints=None), INVALID, ("clusters[0].endpoints: found nothing",)),
    Row("cluster with no endpoint", cluster(endpoints=[]), INVALID, ("clusters[0].endpoints: found a list of 0",)),
    Row(
        "endpoint without a port",
        cluster(endpoints=["127.0.0.1"]),
        INVALID,
        ("clusters[0].endpoints[0]: found '127.0.0.1'", '"host:port"'),
    ),
    Row(
        "unknown type",
        cluster(type="EDS"),
        INVALID,
        ("clusters[0].type: found 'EDS'", "STATIC, STRICT_DNS, LOGICAL_DNS"),
    ),
    Row("bad duration", cluster(connect_timeout="5"), INVALID, ("clusters[0].connect_timeout: found '5'", '"500ms"')),
    Row("TLS to an address", cluster(tls={}), INVALID, ("clusters[0].tls.sni: found nothing", "host name")),
    Row(
        "certificates that are not there",
        cluster(tls={"sni": "x", "ca_file": "/nosuch.pem"}),
        REFUSED,
        ("clusters: Envoy refuses it", "/nosuch.pem", "Nothing has changed"),
    ),
    Row(
        "unknown key of a cluster",
        cluster(colour="red"),
        INVALID,
        ("clusters[0].colour: found an unknown key", "expected one of name, endpoints"),
    ),
    Row(
        "cluster twice",
        gateway(clusters=[{"name": "more", "endpoints": ["127.0.0.1:1"]}] * 2),
        INVALID,
        ("clusters[1].name: found 'more' twice", "each cluster once"),
    ),
    Row("another name in raw", cluster(envoy={"name": "x"}), INVALID, ("clusters[0].envoy.name: found 'x'", "'more'")),
    Row(
        "unknown raw key of a cluster",
        cluster(envoy={"nosuch": 1}),
        REFUSED,
        ("clusters: Envoy refuses it", "envoy.config.cluster.v3.Cluster", "no such field: 'nosuch'"),
    ),
    Row(
        "unknown raw key of a cluster, in check mode",
        cluster(envoy={"nosuch": 1}),
        REFUSED,
        ("clusters: Envoy refuses it", "no such field: 'nosuch'"),
        check=True,
    ),
    Row(
        "raw value that is none",
        cluster(envoy={"lb_policy": "BEST"}),
        REFUSED,
        ("clusters:", "unknown enum value: 'BEST'"),
    ),
    Row(
        "raw value out of range, whose reason has many lines",
        cluster(envoy={"load_assignment": {"cluster_name": ""}}),
        REFUSED,
        ("clusters:", "ClusterName", "value length must be at least 1"),
    ),
    Row(
        "negative duration",
        cluster(envoy={"connect_timeout": "-1s"}),
        REFUSED,
        ("clusters:", "Expected positive duration"),
    ),
    # filters
    Row("filters a word", gateway(filters="users"), "", ("could not parse",)),
    Row("filter twice", gateway(filters=[NATIVE, GUARD, GUARD]), INVALID, ("filters[2].name: found 'guard' twice",)),
    Row("filter without engine", gateway(filters=[{"name": "users"}]), "", ("engine found in filters",)),
    Row(
        "filter of unknown engine", gateway(filters=[{**GUARD, "engine": "lua"}]), "", ("engine", "got: lua", "filters")
    ),
    Row(
        "stock filter without a type",
        gateway(filters=[{"name": "users", "engine": "native"}]),
        INVALID,
        ("filters[0].type: found nothing", "the type of a stock filter"),
    ),
    Row(
        "type of what is compiled",
        gateway(filters=[NATIVE, {**GUARD, "type": BASIC_AUTH}]),
        INVALID,
        ("filters[1].type: found", BASIC_AUTH, "expected nothing, since engine is dynamic_module"),
    ),
    Row(
        "stock filter of a type that Envoy lacks",
        gateway(filters=[{**NATIVE, "type": "envoy.No"}, GUARD]),
        REFUSED,
        ("listeners: Envoy refuses it", "no factory found", "envoy.No"),
    ),
    Row(
        "bad name after a good one",
        gateway(filters=[NATIVE, GUARD, {"name": "fine", "engine": "native", "type": RBAC}, {**GUARD, "name": "../x"}]),
        INVALID,
        ("filters[3].name: found '../x'", "expected lower-case letters"),
    ),
    Row(
        "golang in the chain of a stock Envoy",
        gateway(filters=[{"name": "users", "engine": "golang"}, GUARD]),
        "engine_missing",
        ("engine: this Envoy has no filter", "golang", "contrib", "Nothing has changed"),
    ),
    # listeners
    Row("listener of a bad name", listener(name="a b"), INVALID, ("listeners[0].name: found 'a b'", "letters, digits")),
    Row(
        "listener without filters",
        listener(filters=None),
        INVALID,
        ("listeners[0].filters: found nothing", "expected the names of the filters", "filters: []"),
    ),
    Row(
        "filter that is not defined",
        listener(filters=["users", "nosuch"]),
        INVALID,
        ("listeners[0].filters[1]: found 'nosuch'", "expected one of guard, users"),
    ),
    Row(
        "filter twice in a chain", listener(filters=["users", "users"]), INVALID, ("listeners[0].filters[1]:", "twice")
    ),
    Row(
        "address that is a name",
        listener(address="localhost"),
        INVALID,
        ("listeners[0].address: found 'localhost'", "IPv4"),
    ),
    Row("port out of range", listener(port=65536), INVALID, ("listeners[0].port: found 65536", "from 1 to 65535")),
    Row("port that is a word", listener(port="http"), INVALID, ("listeners[0].port: found 'http'", "from 1 to 65535")),
    Row(
        "listener twice",
        two_listeners(lambda s: {"name": "ingress"}),
        INVALID,
        ("listeners[1].name: found 'ingress' twice", "each listener once"),
    ),
    Row(
        "port of another listener",
        two_listeners(lambda s: {}),
        INVALID,
        ("listeners[1].port: found the address and port of listener 'ingress'",),
    ),
    Row(
        "port of another process",
        two_listeners(lambda s: {"port": s.taken_port}),
        "port_shared",
        (f"PID {os.getpid()} listens on 127.0.0.1:", "beside Envoy", "Nothing has changed"),
    ),
    Row(
        "port of another process, in check mode",
        two_listeners(lambda s: {"port": s.taken_port}),
        "port_shared",
        (f"PID {os.getpid()} listens on 127.0.0.1:",),
        check=True,
    ),
    Row(
        "TLS without a key",
        listener(tls={"certificate_chain": "/x"}),
        INVALID,
        ("listeners[0].tls.private_key: found nothing",),
    ),
    Row(
        "TLS with files that are not there",
        listener(tls={"certificate_chain": "/nosuch.pem", "private_key": "/nosuch.key"}),
        REFUSED,
        ("listeners: Envoy refuses it", "/nosuch.", "Nothing has changed"),
    ),
    Row(
        "raw chain beside filters",
        listener(envoy={"filter_chains": []}),
        INVALID,
        ("listeners[0].envoy.filter_chains: found",),
    ),
    Row(
        "unknown raw key of a listener",
        listener(envoy={"nosuch": 1}),
        REFUSED,
        ("listeners:", "no such field: 'nosuch'"),
    ),
    Row(
        "unknown raw key of the connection manager",
        listener(http_connection_manager={"nosuch": 1}),
        REFUSED,
        ("listeners:", "HttpConnectionManager", "no such field: 'nosuch'"),
    ),
    Row("raw listener without an address", raw(), REFUSED, ("listeners:", "'raw'", "address is necessary")),
    Row("raw address that is a word", raw(address="127.0.0.1"), REFUSED, ("listeners:", ".address", "expected '{'")),
    Row(
        "raw socket address that is a word",
        raw(address={"socket_address": "127.0.0.1"}),
        REFUSED,
        ("listeners:", ".socket_address", "expected '{'"),
    ),
    Row(
        "raw port that is a word",
        raw(address={"socket_address": {"address": "127.0.0.1", "port_value": "http"}}),
        REFUSED,
        (
            "listeners:",
            ".port_value",
        ),
    ),
    Row(
        "raw socket address without one",
        raw(address={"socket_address": {"port_value": 1}}),
        REFUSED,
        ("listeners:", "SocketAddressValidationError.Address", "value length must be at least 1"),
    ),
    # virtual hosts and routes
    Row("no virtual hosts", listener(virtual_hosts=None), INVALID, ("listeners[0].virtual_hosts: found nothing",)),
    Row(
        "virtual host a word",
        listener(virtual_hosts=["x"]),
        INVALID,
        ("listeners[0].virtual_hosts[0]: found 'x'", "expected a mapping"),
    ),
    Row(
        "domain with a port",
        host(domains=["x:80"]),
        INVALID,
        ("listeners[0].virtual_hosts[0].domains[0]: found 'x:80'", "port"),
    ),
    Row(
        "route to a cluster that is not defined",
        route(prefix="/", cluster="nosuch"),
        INVALID,
        ("listeners[0].virtual_hosts[0].routes[0].cluster: found the unknown cluster 'nosuch'", "expected one of more"),
    ),
    Row(
        "route with two",
        route(prefix="/", path="/", status=200),
        INVALID,
        (".routes[0]: found path and prefix", "exactly one"),
    ),
    Row(
        "bad regular expression",
        route(regex="(", status=200),
        INVALID,
        (".routes[0].regex: found '('", "a regular expression"),
    ),
    Row("bad status", route(prefix="/", status=99), INVALID, (".routes[0].status: found 99", "from 200 to 599")),
    Row(
        "unknown raw key of a route",
        route(prefix="/", status=200, envoy={"nosuch": 1}),
        REFUSED,
        ("listeners:", "routes[0]", "no such field: 'nosuch'"),
    ),
]

CASES = [("envoy_filter", row) for row in FILTER_ROWS] + [("envoy_config", row) for row in CONFIG_ROWS]


@pytest.mark.parametrize(("module", "row"), CASES, ids=[f"{module}: {row.what}" for module, row in CASES])
def test_bad_input(served: Served, module: str, row: Row) -> None:
    # null stands for an option that was left out
    options = {key: value for key, value in row.options(served).items() if value is not None}
    before = served.state()
    try:
        result = run_module(module, {**served.real.where(), **options}, row.check)
        assert result.failed, result.get("action", result)
        message = " ".join(result["msg"].split())
        assert result.code == row.code, message
        assert [word for word in row.words if word not in message] == [], message
        # One or two sentences for people: neither the configuration that they gave, nor Envoy's print of it.
        assert len(message) < 1000, message
        assert "goo.gle/" not in message
        assert not row.hidden or row.hidden not in result.output
        if row.code:
            assert result["failure"]["message"] == result["msg"]
            assert result["action"] == "none"
        assert served.state() == before
    finally:
        if served.state() != before:
            # So that this row fails alone.
            served.publish()


@pytest.mark.parametrize(
    ("module", "options"),
    [("envoy_filter", users()), ("envoy_filter", guard(users=[FOO])), ("envoy_config", gateway())],
    ids=["users", "guard", "gateway"],
)
def test_without_the_one_thing_wrong_it_would_change_the_gateway(served: Served, module: str, options: Options) -> None:
    result = run_module(module, {**served.real.where(), **options(served)}, check=True)
    assert not result.failed, result["msg"]
    assert result["changed"]


def test_the_table_is_long_and_no_row_is_twice() -> None:
    assert len(CASES) >= 60
    assert len({(module, row.what) for module, row in CASES}) == len(CASES)
