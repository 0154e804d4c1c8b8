# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real control plane: etcd, a Kubernetes API server with Istio's resources, any number of istiods, their gateways.

All programs are unmodified (``make control-plane`` builds them), listen on free ports of the loopback interface, speak
TLS with certificates of a CA of their own, and are ended by their PID. Whatever has to be waited for is waited for as a
condition.

    with ControlPlane() as plane:
        istiod = plane.istiod()
        gateway = plane.gateway("first", istiod)
        plane.api.apply(*serving(gateway, upstream_port))
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import typing as t
import urllib.parse

import yaml
from certificates import Authority, Pair, write_private
from real import HOST, REPOSITORY, TYPE, RealGateway, free_port, wait_until

BUILT = REPOSITORY / "build" / "control_plane"
SYSTEM = "istio-system"
TRUST_DOMAIN = "cluster.local"
#: under which istiod's certificate is checked
ISTIOD = f"istiod.{SYSTEM}.svc"
GATEWAY_ACCOUNT = f"spiffe://{TRUST_DOMAIN}/ns/{SYSTEM}/sa/gateway"
NETWORKING = "networking.istio.io/v1alpha3"
ECDS = TYPE + "envoy.config.core.v3.TypedExtensionConfig"
ROUTER = "envoy.filters.http.router"

Object = dict[str, t.Any]


class Program:
    """A process that is started and ended, and may be started again; all it says is in one file."""

    def __init__(
        self, name: str, command: t.Sequence[str], folder: pathlib.Path, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = [str(word) for word in command]
        self.environment = environment or {}
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} doesn't run"
        return self.process.pid

    def start(self, ready: t.Callable[[], bool], timeout: float = 60) -> None:
        """Start it, and wait until it is ready."""
        assert self.process is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
            )
        deadline = time.monotonic() + timeout
        while not _true(ready):
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.tail()}"
            assert time.monotonic() < deadline, f"{self.name} isn't ready after {timeout:.0f} s:\n{self.tail()}"
            time.sleep(0.02)

    def stop(self, how: int = signal.SIGTERM, timeout: float = 30) -> None:
        """End it; when it takes longer than ``timeout``, for good."""
        if self.process is None:
            return
        # A process that is paused would not hear of anything else.
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(how)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout)
        self.process = None

    def pause(self) -> None:
        """Stop it from doing anything, though its connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None, f"{self.name} doesn't run"
        self.process.send_signal(number)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def _true(condition: t.Callable[[], bool]) -> bool:
    try:
        return condition()
    except (OSError, http.client.HTTPException, ValueError):
        return False


def ask(port: int, path: str, context: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> tuple[int, bytes]:
    """The status and body of one GET."""
    if context:
        connection = http.client.HTTPSConnection(address, port, timeout=30, context=context)
    else:
        connection = http.client.HTTPConnection(address, port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


class ApiError(Exception):
    """What the API server refused."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        try:
            self.answer = json.loads(body)
        except ValueError:
            self.answer = {"message": body.decode(errors="replace")}
        super().__init__(f"{status}: {self.answer.get('message', self.answer)}")


class Reply(dict):
    """An object as the API server gave it back, with what it warned of."""

    def __init__(self, body: bytes, warnings: list[str]) -> None:
        super().__init__(json.loads(body))
        self.warnings = warnings


class Api:
    """The API server by its REST interface, with server-side apply.

    Not by the collection's way to it (kubernetes.core): what checks a thing shouldn't be made of it.
    """

    def __init__(self, address: str, port: int, context: ssl.SSLContext) -> None:
        self.address = address
        self.port = port
        self.context = context
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def request(
        self, method: str, path: str, body: t.Any = None, content: str = "application/json", timeout: float = 60
    ) -> Reply:
        connection = http.client.HTTPSConnection(self.address, self.port, timeout=timeout, context=self.context)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": content, "Accept": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            if response.status >= 400:
                raise ApiError(response.status, answer)
            # 299 - "text"
            warnings = [value.split(" ", 2)[2].strip('"') for value in response.headers.get_all("Warning", [])]
            return Reply(answer, warnings)

    def path(self, version: str, kind: str, namespace: str | None = SYSTEM, name: str = "") -> str:
        """Where objects of a kind are, or one of them."""
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if (version, kind) not in self._kinds:
            for resource in self.request("GET", root)["resources"]:
                if "/" not in resource["name"]:
                    self._kinds[version, resource["kind"]] = resource["name"], resource["namespaced"]
        plural, namespaced = self._kinds[version, kind]
        inside = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{root}{inside}/{plural}" + (f"/{name}" if name else "")

    def _own(self, obj: Object) -> str:
        where = obj["metadata"]
        return self.path(obj["apiVersion"], obj["kind"], where.get("namespace", SYSTEM), where["name"])

    def apply(self, *objects: Object, dry_run: bool = False, manager: str = "harness", force: bool = True) -> Reply:
        """Server-side apply; the answer to the last of them."""
        options = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        if dry_run:
            options["dryRun"] = "All"
        for obj in objects:
            path = f"{self._own(obj)}?{urllib.parse.urlencode(options)}"
            reply = self.request("PATCH", path, obj, "application/apply-patch+yaml")
        return reply

    def create(self, obj: Object, dry_run: bool = False) -> Reply:
        path = self._own(obj).rpartition("/")[0]
        return self.request("POST", path + ("?dryRun=All" if dry_run else ""), obj)

    def get(self, obj: Object) -> Reply | None:
        """The object as it is there, found by kind, namespace and name."""
        try:
            return self.request("GET", self._own(obj))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, version: str, kind: str, namespace: str | None = SYSTEM) -> list[Object]:
        return self.request("GET", self.path(version, kind, namespace))["items"]

    def delete(self, *objects: Object) -> None:
        """Delete what is there of these, and wait until it is gone."""
        for obj in objects:
            try:
                self.request("DELETE", self._own(obj))
            except ApiError as error:
                if error.status != 404:
                    raise
            wait_until(lambda obj=obj: self.get(obj) is None, f"{obj['kind']} {obj['metadata']['name']} is still there")

    def clear(self, version: str = NETWORKING, namespace: str = SYSTEM) -> None:
        """Delete all objects of a group."""
        for resource in self.request("GET", f"/apis/{version}")["resources"]:
            if resource["namespaced"] and "/" not in resource["name"]:
                self.request("DELETE", self.path(version, resource["kind"], namespace))


class Istiod:
    """An istiod of a control plane: may be stopped, killed and started again, on the ports that it has."""

    def __init__(
        self,
        plane: ControlPlane,
        name: str,
        debounce: str | None = None,
        plaintext: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        """
        :param debounce: how long it collects changes before it pushes them, such as ``10ms``; its own default is 100ms.
        :param plaintext: serve xDS without TLS and without authentication too, on a port of the loopback interface.
        :param environment: more of its settings.
        """
        self.plane = plane
        self.name = name
        #: xDS with TLS
        self.port = free_port()
        #: xDS without, if asked for. Without a port of its own, istiod serves that on ``http`` all the same.
        self.plaintext = free_port() if plaintext else None
        self.http = free_port()
        self.monitoring = free_port()
        self.https = free_port()
        self.pair = plane.authority.issue(
            name,
            hosts=[ISTIOD, "localhost", plane.address],
            uris=[f"spiffe://{TRUST_DOMAIN}/ns/{SYSTEM}/sa/istiod"],
        )
        settings = {
            "POD_NAME": name,
            "POD_NAMESPACE": SYSTEM,
            "CLUSTER_ID": "Kubernetes",
            "REVISION": "default",
            "CLOUD_PLATFORM": "none",
            # Certificates are given, so it needs no CA; nothing is injected; it has its webhook set up by the harness.
            "PILOT_CERT_PROVIDER": "none",
            "ENABLE_CA_SERVER": "false",
            "INJECT_ENABLED": "false",
            "VALIDATION_WEBHOOK_CONFIG_NAME": "",
            # A stock Envoy has none of Istio's own filters.
            "PILOT_ENABLE_METADATA_EXCHANGE": "false",
            "PILOT_ENABLE_ALPN_FILTER": "false",
            "PILOT_DISABLE_MX_ALPN": "true",
        }
        if debounce:
            settings["PILOT_DEBOUNCE_AFTER"] = debounce
        address = plane.address
        command = [BUILT / "bin" / "pilot-discovery", "discovery", "--registries=Kubernetes"]
        command += [f"--kubeconfig={plane.kubeconfig}", f"--meshConfig={plane.mesh}", "--networksConfig="]
        command += [f"--secureGRPCAddr={address}:{self.port}"]
        command += [f"--grpcAddr={f'127.0.0.1:{self.plaintext}' if self.plaintext else ''}"]
        command += [f"--httpAddr=127.0.0.1:{self.http}", f"--monitoringAddr=127.0.0.1:{self.monitoring}"]
        command += [f"--httpsAddr={address}:{self.https}", f"--ctrlz_port={free_port()}", "--ctrlz_address=127.0.0.1"]
        command += [f"--tlsCertFile={self.pair.certificate}", f"--tlsKeyFile={self.pair.key}"]
        command += [f"--caCertFile={plane.authority.certificate}", "--shutdownDuration=1s"]
        self.program = Program(name, command, plane.root, {**settings, **(environment or {})})

    def start(self) -> None:
        self._log_start = len(self.program.log.read_text()) if self.program.log.exists() else 0
        self.program.start(lambda: ask(self.http, "/ready")[0] == 200)

    def stop(self) -> None:
        self.program.stop()

    def kill(self) -> None:
        self.program.stop(signal.SIGKILL)

    def debug(self, path: str) -> t.Any:
        """What one of its debug pages holds, such as ``syncz``."""
        status, body = ask(self.http, f"/debug/{path}")
        assert status == 200, f"/debug/{path}: {status} {body[:500]!r}"
        return json.loads(body)

    def synced(self, gateway: Gateway) -> Object:
        """What it has sent to a gateway and got acknowledged, by the last part of each type; empty without it."""
        for proxy in self.debug("syncz"):
            if proxy["proxy"] == gateway.proxy:
                return {name.rpartition(".")[2]: state for name, state in proxy.get("resources", {}).items()}
        return {}

    def settle(self) -> None:
        """Wait until all that it has heard of is in what it pushes.

        A gateway that connects is told what was pushed last, so until then it would be given what is deleted already.
        It counts the changes that it hears of, and says with each push how many that is made of.
        """

        def pushed() -> bool:
            _status, metrics = ask(self.monitoring, "/metrics")
            heard = re.search(rb'^pilot_inbound_updates\{type="config"\} (\d+)$', metrics, re.MULTILINE)
            log = self.program.log.read_text()[self._log_start :]
            made_of = sum(map(int, re.findall(r"Push debounce stable\[\d+\] (\d+) for ", log)))
            told = log.rfind("XDS: Pushing ") > log.rfind("Push debounce stable")
            return told and heard is not None and made_of == int(heard[1])

        wait_until(pushed, f"{self.name} doesn't come to rest: {self.program.tail()}")


class Gateway(RealGateway):
    """A stock Envoy that gets everything but its way to istiod from there."""

    def __init__(
        self,
        plane: ControlPlane,
        name: str,
        *istiods: Istiod,
        labels: dict[str, str] | None = None,
        pair: Pair | None = None,
        plaintext: bool = False,
        delta: bool = False,
        metadata: Object | None = None,
        at: str | None = None,
    ) -> None:
        """
        :param istiods: of which it is connected to one at a time, and to another when that is gone.
        :param labels: besides ``istio: ingressgateway`` and ``gateway: NAME``.
        :param pair: its certificate to istiod; by default one of the control plane's CA for its service account.
        :param delta: ask for changes only, as Istio's own proxy does.
        :param at: the address of its istiods, where that is not the control plane's.
        """
        super().__init__()
        self.plane = plane
        self.name = name
        self.labels = {"istio": "ingressgateway", "gateway": name, **(labels or {})}
        # No address of any endpoint, or istiod would take it for one; of a network that is for documentation.
        address = f"192.0.2.{next(plane.numbers)}"
        #: istiod's name for it
        self.proxy = f"{name}.{SYSTEM}"
        self.pair = pair or plane.authority.issue(f"gateway-{name}", uris=[GATEWAY_ACCOUNT])
        node = {
            "id": f"router~{address}~{self.proxy}~{SYSTEM}.svc.{TRUST_DOMAIN}",
            "cluster": self.proxy,
            "metadata": {
                "NAME": name,
                "NAMESPACE": SYSTEM,
                "SERVICE_ACCOUNT": "gateway",
                "CLUSTER_ID": "Kubernetes",
                "ISTIO_VERSION": "1.31.0",
                "LABELS": self.labels,
                "INSTANCE_IPS": address,
                **(metadata or {}),
            },
        }
        ads = {
            "api_type": "DELTA_GRPC" if delta else "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod"}}],
        }
        from_ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
        self.bootstrap = {
            "node": node,
            "admin": self.bootstrap["admin"],
            "dynamic_resources": {"ads_config": ads, "cds_config": from_ads, "lds_config": from_ads},
            "static_resources": {"clusters": [self._cluster(istiods, plaintext, at)]},
        }

    def _cluster(self, istiods: t.Sequence[Istiod], plaintext: bool, at: str | None) -> Object:
        endpoints = [
            {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
            for address, port in (
                (at or "127.0.0.1", istiod.plaintext) if plaintext else (at or self.plane.address, istiod.port)
                for istiod in istiods
            )
        ]
        http2 = {"explicit_http_config": {"http2_protocol_options": {}}}
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster = {
            "name": "istiod",
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "istiod", "endpoints": [{"lb_endpoints": endpoints}]},
            "typed_extension_protocol_options": {options: {"@type": TYPE + options, **http2}},
        }
        if not plaintext:
            cluster["transport_socket"] = {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": ISTIOD,
                    "common_tls_context": {
                        "tls_certificates": [
                            {
                                "certificate_chain": {"filename": str(self.pair.certificate)},
                                "private_key": {"filename": str(self.pair.key)},
                            }
                        ],
                        "validation_context": {
                            "trusted_ca": {"filename": str(self.plane.authority.certificate)},
                            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": ISTIOD}}],
                        },
                    },
                },
            }
        return cluster

    def started(self) -> bool:
        """It answers, though it may still wait for istiod."""
        return bool(self.admin.get("/server_info"))

    def connected(self) -> bool:
        return self.admin.stats(r"^control_plane\.connected_state$").get("control_plane.connected_state") == 1

    def statuses(self, credential: str | None, wanted: int, timeout: float = 20) -> None:
        """Wait until requests with a credential get a status; 0 is a refused connection."""
        last: list[int] = []

        def answers() -> bool:
            last[:] = [self.get(credential)]
            return last == [wanted]

        wait_until(answers, f"{self.name} answers {last} and not {wanted}: {self.tail()}", timeout)


class ControlPlane:
    """etcd, an API server with Istio's resource definitions, and what is connected to them."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        """
        :param address: where the API server and istiod's TLS ports listen.
        """
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="moe-plane-"))
        self.address = address
        self.authority = Authority(self.root / "pki")
        self.istiods: list[Istiod] = []
        self.gateways: list[Gateway] = []
        self.numbers = itertools.count(1)
        self.etcd_port, self.port = free_port(), free_port()
        etcd, peer = (f"http://127.0.0.1:{port}" for port in (self.etcd_port, free_port()))
        command = [BUILT / "bin" / "etcd", f"--data-dir={self.root / 'etcd'}", "--unsafe-no-fsync"]
        command += [f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        self.etcd = Program("etcd", [*command, f"--initial-cluster=default={peer}"], self.root)
        self.api_server = Program("kube-apiserver", self._api_server(etcd), self.root)
        self.kubeconfig = self.write_kubeconfig("admin", ["system:masters"])
        self.mesh = self.root / "mesh.yaml"
        # Mutual TLS between workloads needs a CA in istiod; gateways to hosts have certificates from elsewhere.
        mesh = {"rootNamespace": SYSTEM, "trustDomain": TRUST_DOMAIN, "enableAutoMtls": False}
        mesh["enablePrometheusMerge"] = False
        mesh["defaultConfig"] = {"discoveryAddress": f"{ISTIOD}:15012"}
        self.mesh.write_text(yaml.safe_dump(mesh))
        self.api = Api(address, self.port, self.client("admin"))

    def _api_server(self, etcd: str) -> list[str]:
        serving = self.authority.issue("kube-apiserver", hosts=["localhost", "127.0.0.1", self.address, "10.96.0.1"])
        accounts = self.authority.issue("service-accounts")
        kubelets = self.authority.issue("kube-apiserver-kubelet-client", organizations=["system:masters"])
        return [
            str(BUILT / "bin" / "kube-apiserver"),
            f"--etcd-servers={etcd}",
            f"--bind-address={self.address}",
            f"--secure-port={self.port}",
            # Of the service "kubernetes" in the cluster, which nothing here uses; loopback is refused there.
            "--advertise-address=10.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            # Nothing routes to the address of a Service, so it asks the Pods of a webhook themselves.
            "--enable-aggregator-routing=true",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.authority.certificate}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={accounts.certificate}",
            f"--service-account-signing-key-file={accounts.key}",
            f"--kubelet-client-certificate={kubelets.certificate}",
            f"--kubelet-client-key={kubelets.key}",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            # Names of nodes are in no DNS.
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
        ]

    def client(self, user: str) -> ssl.SSLContext:
        """TLS to the API server and istiod as somebody whom :meth:`write_kubeconfig` has made."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self.authority.folder / f"{user}.pem", self.authority.folder / f"{user}.key")
        return context

    def write_kubeconfig(self, user: str, groups: t.Iterable[str] = (), token: str | None = None) -> pathlib.Path:
        """A kubeconfig of its own for a user in groups, or for the service account that a token is of."""

        def embed(path: pathlib.Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        if token:
            who = {"token": token}
        else:
            pair = self.authority.issue(user, organizations=groups)
            who = {"client-certificate-data": embed(pair.certificate), "client-key-data": embed(pair.key)}
        server = f"https://{self.address}:{self.port}"
        ca = embed(self.authority.certificate)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": ca}}],
            "users": [{"name": user, "user": who}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": SYSTEM}}],
            "current-context": "test",
        }
        return write_private(self.root / f"{user}.kubeconfig", yaml.safe_dump(config).encode())

    def start(self) -> None:
        self.start_etcd()
        self.start_api_server()
        definitions = [*yaml.safe_load_all((BUILT / "istio" / "crds.yaml").read_text())]
        definitions = [obj for obj in definitions if obj]
        for obj in definitions:
            self.api.create(obj)
        for obj in definitions:
            wait_until(lambda obj=obj: _established(self.api.get(obj)), f"{obj['metadata']['name']} isn't established")
        self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})

    def start_etcd(self) -> None:
        self.etcd.start(lambda: ask(self.etcd_port, "/health")[0] == 200)

    def start_api_server(self) -> None:
        context = self.client("admin")
        self.api_server.start(lambda: ask(self.port, "/readyz", context, self.address)[0] == 200)

    def istiod(self, **options: t.Any) -> Istiod:
        """Start one more istiod; see there for the options."""
        istiod = Istiod(self, f"istiod-{len(self.istiods)}", **options)
        self.istiods.append(istiod)
        istiod.start()
        return istiod

    def gateway(self, name: str, *istiods: Istiod, start: bool = True, **options: t.Any) -> Gateway:
        """One more gateway of some istiods; see there for the options."""
        gateway = Gateway(self, name, *istiods, **options)
        self.gateways.append(gateway)
        if start:
            gateway.start()
        return gateway

    def validate(self, istiod: Istiod | None) -> None:
        """Let the API server ask the webhook of an istiod before it takes one of Istio's objects; or no longer ask."""
        configuration: Object = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "istiod-validator"},
        }
        invalid = envoy_filter("never-there", patches=[{"applyTo": "HTTP_FILTER", "patch": {"operation": "ADD"}}])
        invalid["spec"]["configPatches"][0]["patch"]["value"] = {"typed_config": {"@type": TYPE + "none.Such"}}

        def refused() -> bool:
            try:
                self.api.create(invalid, dry_run=True)
            except ApiError:
                return True
            return False

        if istiod is None:
            self.api.delete(configuration)
            wait_until(lambda: not refused(), "the API server still asks the webhook")
            return
        ca = base64.b64encode(self.authority.certificate.read_bytes()).decode()
        groups = ["security", "networking", "telemetry", "extensions"]
        rule = {"operations": ["CREATE", "UPDATE"], "apiVersions": ["*"], "resources": ["*"]}
        hook = {
            "name": "validation.istio.io",
            "clientConfig": {"url": f"https://{self.address}:{istiod.https}/validate", "caBundle": ca},
            "rules": [{**rule, "apiGroups": [f"{group}.istio.io" for group in groups]}],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        self.api.apply({**configuration, "webhooks": [hook]})
        wait_until(refused, "the API server doesn't ask the webhook")

    def reset(self) -> None:
        """Back to what is there after the start and one istiod, for the next test."""
        while self.gateways:
            self.gateways.pop().remove()
        while len(self.istiods) > 1:
            self.istiods.pop().kill()
        self.validate(None)
        self.api.clear()
        self.api.request("DELETE", self.api.path("v1", "Secret"))
        for istiod in self.istiods:
            if istiod.program.process is None:
                istiod.start()
            istiod.program.resume()
            wait_until(lambda istiod=istiod: istiod.debug("configz") == [], f"{istiod.name} still holds objects")
            istiod.settle()

    def stop(self) -> None:
        """End everything, and leave nothing."""
        for gateway in self.gateways:
            gateway.remove()
        for istiod in self.istiods:
            istiod.kill()
        # An orderly end of the API server takes long, and nothing is kept.
        for program in (self.api_server, self.etcd):
            program.stop(signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> ControlPlane:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


def _established(definition: Reply | None) -> bool:
    conditions = definition["status"]["conditions"] if definition else []
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)


def istio_object(kind: str, name: str, spec: Object) -> Object:
    return {
        "apiVersion": NETWORKING,
        "kind": kind,
        "metadata": {"name": name, "namespace": SYSTEM},
        "spec": spec,
    }


def serving(gateway: Gateway, upstream: int, name: str | None = None) -> list[Object]:
    """What makes a gateway, and no other, serve the test's host from an upstream on a port of this machine.

    All gateways share this machine's ports, so each has a Gateway of its own.
    """
    name = name or gateway.name
    port = {"number": gateway.port, "name": "http", "protocol": "HTTP"}
    upstream_host = f"{name}.upstream.internal"
    endpoint = {"address": "127.0.0.1", "ports": {"http": upstream}}
    return [
        istio_object(
            "ServiceEntry",
            name,
            {
                "hosts": [upstream_host],
                "location": "MESH_EXTERNAL",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
                "endpoints": [endpoint],
            },
        ),
        istio_object(
            "Gateway",
            name,
            {
                "selector": {"gateway": gateway.name},
                "servers": [{"port": port, "bind": "127.0.0.1", "hosts": [HOST]}],
            },
        ),
        istio_object(
            "VirtualService",
            name,
            {
                "hosts": [HOST],
                "gateways": [name],
                "http": [{"route": [{"destination": {"host": upstream_host, "port": {"number": 80}}}]}],
            },
        ),
    ]


def envoy_filter(name: str, patches: list[Object], labels: dict[str, str] | None = None) -> Object:
    selector = {"workloadSelector": {"labels": labels or {"istio": "ingressgateway"}}}
    return istio_object("EnvoyFilter", name, {**selector, "configPatches": patches})


def discovered(
    filter_name: str, typed_config: Object, name: str | None = None, labels: dict[str, str] | None = None, **more: t.Any
) -> Object:
    """An EnvoyFilter that delivers an HTTP filter by ECDS, so that a change of it drains nothing.

    :param more: further fields of ``config_discovery``.
    """
    ads = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    discovery = {"config_source": ads, "type_urls": [typed_config["@type"]], **more}
    return envoy_filter(
        name or filter_name.replace("_", "-"),
        [
            {
                "applyTo": "EXTENSION_CONFIG",
                "patch": {"operation": "ADD", "value": {"name": filter_name, "typed_config": typed_config}},
            },
            {
                **insertion(),
                "patch": {**insertion()["patch"], "value": {"name": filter_name, "config_discovery": discovery}},
            },
        ],
        labels,
    )


def inline(
    filter_name: str, typed_config: Object, name: str | None = None, labels: dict[str, str] | None = None
) -> Object:
    """An EnvoyFilter that puts an HTTP filter with its configuration into the listener."""
    patch = insertion()
    patch["patch"]["value"] = {"name": filter_name, "typed_config": typed_config}
    return envoy_filter(name or filter_name.replace("_", "-"), [patch], labels)


def insertion() -> Object:
    """The part of a patch that says where: before the router of a gateway's HTTP filters."""
    last = {"listener": {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}}
    last["listener"]["filterChain"]["filter"]["subFilter"] = {"name": ROUTER}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "GATEWAY", **last},
        "patch": {"operation": "INSERT_BEFORE"},
    }
