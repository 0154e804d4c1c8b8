# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role envoy with the config source ads: this machine as a gateway of a real istiod."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import types
import typing as t

import pytest
from certificates import Authority, Pair
from control_plane import GATEWAY_ACCOUNT, ControlPlane, Istiod, Object, discovered, serving
from plays import Play, Site
from real import content_addressed, wait_until
from supervised import Supervised, load, only

from ansible_collections.moe.gateway.plugins.module_utils import _ads, _engines
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin

FOO, NEW = "foo:bar", "foo:new"


class Ads(Site):
    """This machine as a gateway of Istio."""

    def __init__(self, plane: ControlPlane, extension: pathlib.Path) -> None:
        super().__init__(extension)
        self.plane = plane
        self.pair = plane.authority.issue("local", uris=[GATEWAY_ACCOUNT])
        self.extension = extension
        self.variables.update(
            envoy_filters_config_source="ads",
            envoy_ads_istiods=where(*plane.istiods),
            envoy_ads_ca_certificate=str(plane.authority.certificate),
            envoy_ads_address="192.0.2.200",
            envoy_ads_labels={"istio": "ingressgateway", "gateway": "local"},
            envoy_filters_secrets={"foo_password": "bar"},
            **named(self.pair),
        )

    @property
    def admin(self) -> Admin:
        return Admin(str(self.root / "run" / "admin.sock"), 5)

    def connected(self) -> bool:
        return self.admin.stats(r"^control_plane\.connected_state$").get("control_plane.connected_state") == 1

    def serve(self, upstream: int) -> None:
        """Let istiod tell it to serve, behind the extension."""
        me = t.cast(t.Any, types.SimpleNamespace(name="local", port=self.port))
        self.plane.api.apply(self.filter(FOO), *serving(me, upstream))

    def filter(self, credential: str) -> Object:
        user, _colon, password = credential.partition(":")
        folder = self.root / "extensions-of-istio"
        folder.mkdir(exist_ok=True)
        found = _engines.Extension.at(str(content_addressed(self.extension, folder)))
        config = {"users": [{"username": user, "password": password}]}
        return discovered(
            "basic_auth", _engines.typed_config("dynamic_module", "basic_auth", config, found, None, seal=True)
        )

    def answers(self, *wanted: int, timeout: float = 20) -> None:
        """Wait until requests without a credential and with the right one get these; 0 is a refused connection."""
        wait_until(lambda: (self.get(), self.get(FOO)) == wanted, f"not {wanted}: {self.tail()}", timeout)

    def tail(self) -> str:
        return (self.root / "run" / "envoy.log").read_text()[-3000:]

    def start(self) -> None:
        """Start Envoy as whatever looks after it would, from what is on disk."""
        with (self.root / "run" / "envoy.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.root / "config" / "run")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def crash(self) -> None:
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not pathlib.Path(f"/proc/{pid}/exe").exists(), "Envoy does not end")

    def remove(self) -> None:
        process = getattr(self, "process", None)
        if process:
            process.kill()
            process.wait()
        super().remove()


def where(*istiods: Istiod) -> list[str]:
    return [f"127.0.0.1:{istiod.port}" for istiod in istiods]


def named(pair: Pair) -> dict[str, str]:
    return {"envoy_ads_certificate": str(pair.certificate), "envoy_ads_private_key": str(pair.key)}


def secret_of(pair: Pair) -> str:
    return pair.key.read_text().splitlines()[1]


@pytest.fixture
def site(control_plane: ControlPlane, basic_auth: pathlib.Path, upstream: int) -> t.Iterator[Ads]:
    site = Ads(control_plane, basic_auth)
    try:
        site.serve(upstream)
        yield site
    finally:
        site.remove()


@pytest.fixture
def told(control_plane: ControlPlane, basic_auth: pathlib.Path, upstream: int) -> t.Iterator[Ads]:
    """One whose filters are told to istiod by the playbooks. istiod leads it upstream, and has no filter yet."""
    site = Ads(control_plane, basic_auth)
    control_plane.validate(control_plane.istiods[0])
    site.variables.update(
        envoy_filters_istiods=[f"http://127.0.0.1:{istiod.monitoring}" for istiod in control_plane.istiods],
        envoy_filters_kubeconfig=str(control_plane.kubeconfig),
        envoy_filters_workload_selector={"gateway": "local"},
    )
    try:
        me = t.cast(t.Any, types.SimpleNamespace(name="local", port=site.port))
        control_plane.api.apply(*serving(me, upstream))
        yield site
    finally:
        site.remove()


def succeeded(play: Play) -> Play:
    assert play.status == 0, play.output
    return play


def failed(play: Play) -> str:
    """What it said, in one line."""
    assert play.status == 2, play.output
    return " ".join(play.output.replace('\\"', '"').split())


def test_a_gateway_of_istiod(site: Ads, control_plane: ControlPlane) -> None:
    (istiod,) = control_plane.istiods
    # What is wrong is named before anything changes.
    stranger = control_plane.authority.issue("other", uris=[GATEWAY_ACCOUNT])
    said = failed(site.site(envoy_ads_private_key=str(stranger.key), envoy_ads_labels={"version": 1}))
    assert "envoy_ads_private_key: found another key than that of the certificate" in said
    assert "envoy_ads_labels.version: found 1 (a number), expected a string" in said
    before = sorted(path.name for path in site.root.iterdir())
    checked = succeeded(site.site("--check", "--diff"))
    assert checked.changed > 0
    assert sorted(path.name for path in site.root.iterdir()) == before

    done = succeeded(site.site("--diff"))
    site.answers(401, 200)
    for play in (checked, done):
        assert secret_of(site.pair) not in play.output
    folder = site.root / "config" / "ads"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["ca.json", "ca.pem", "identity.json", "identity.pem"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    # A filter of the variables is not published on such a host, and `status` and `rotate` don't stumble over it.
    assert list((site.root / "config" / "xds" / "filters").iterdir()) == []
    pid = site.pid()
    again = succeeded(site.site())
    assert again.changed == 0, again.output
    assert succeeded(site.play("playbooks/rotate.yml")).changed == 0
    site.play("playbooks/status.yml", "-e", "envoy_status_fail=false")
    assert site.pid() == pid
    site.answers(401, 200)

    # Without istiod it goes on with what it has, and no run says that all is well.
    istiod.kill()
    wait_until(lambda: not site.connected(), "it is still connected")
    assert (site.get(), site.get(FOO)) == (401, 200)
    said = failed(site.site(envoy_ready_timeout=1))
    assert "found no istiod that Envoy is connected to" in said
    assert "The gateway goes on with what it has." in said
    assert (site.get(), site.get(FOO), site.pid()) == (401, 200, pid)
    # After a restart it serves nothing, and then again what istiod says.
    site.crash()
    said = failed(site.site(envoy_ready_timeout=1))
    assert "The gateway serves nothing until there is one." in said
    assert site.pid() != pid
    assert site.admin.server().state == "PRE_INITIALIZING"
    assert (site.get(), site.get(FOO)) == (0, 0)
    istiod.start()
    site.answers(401, 200, timeout=60)
    assert succeeded(site.site()).changed == 0


def test_a_crash_without_istiod(site: Ads, control_plane: ControlPlane) -> None:
    succeeded(site.site())
    site.answers(401, 200)
    control_plane.istiods[0].kill()
    site.crash()
    site.start()
    wait_until(lambda: site.admin.server().state == "PRE_INITIALIZING", "it doesn't wait")
    assert site.get() == 0
    control_plane.istiods[0].start()
    site.answers(401, 200, timeout=60)


def test_another_istiod_and_another_certificate(site: Ads, control_plane: ControlPlane) -> None:
    first = control_plane.istiods[0]
    second = control_plane.istiod()
    site.variables["envoy_ads_istiods"] = where(first, second)
    succeeded(site.site())
    site.answers(401, 200)
    pid = site.pid()

    def of(istiod: Istiod) -> bool:
        return any(proxy["proxy"] == "local.istio-system" for proxy in istiod.debug("syncz"))

    # Whichever it is connected to, the other one takes over.
    one = next(istiod for istiod in (first, second) if of(istiod))
    other = second if one is first else first
    one.kill()
    wait_until(lambda: site.connected() and of(other), "the other one does not take over", 60)
    control_plane.api.apply(site.filter(NEW))
    wait_until(lambda: (site.get(FOO), site.get(NEW)) == (401, 200), "nothing comes from the other one")

    # A renewed certificate is one more file, and no restart.
    renewed = control_plane.authority.issue("local-renewed", uris=[GATEWAY_ACCOUNT])
    changed = succeeded(site.site("--diff", **named(renewed)))
    assert secret_of(renewed) not in changed.output
    assert secret_of(site.pair) not in changed.output
    serial = f"{renewed_serial(renewed):x}"

    def used() -> bool:
        chains = [item["cert_chain"] for item in site.admin.json("/certs")["certificates"]]
        return any(
            certificate["serial_number"].lstrip("0") == serial.lstrip("0") for chain in chains for certificate in chain
        )

    wait_until(used, f"Envoy does not know the new certificate: {site.tail()}")
    one.start()
    # Gone without a word: the kernel still takes what Envoy sends.
    other.program.pause()
    wait_until(lambda: site.connected() and of(one), "no istiod takes the new certificate", 60)
    assert (site.pid(), site.get(NEW)) == (pid, 200)


def renewed_serial(pair: Pair) -> int:
    from cryptography import x509

    return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number


def test_a_certificate_of_a_stranger(site: Ads, tmp_path: pathlib.Path) -> None:
    stranger = Authority(tmp_path / "pki", "stranger").issue("local", uris=[GATEWAY_ACCOUNT])
    said = failed(site.site(envoy_ready_timeout=2, **named(stranger)))
    assert "found no istiod that Envoy is connected to, after 2 s" in said
    assert f"TLS to 127.0.0.1:{site.plane.istiods[0].port} fails: tlsv1 alert unknown ca." in said, said
    assert site.get() == 0
    # An istiod that is none of ours is not trusted either.
    said = failed(site.site(envoy_ready_timeout=2, envoy_ads_server_name="istiod.other.svc"))
    assert "its certificate has not the name that is expected (envoy_ads_server_name)" in said, said
    assert "is not trusted: Hostname mismatch" in said, said
    # All is well with the right ones, though the Envoy that waits can't hot restart.
    succeeded(site.site())
    site.answers(401, 200)


@contextlib.contextmanager
def asking(site: Site) -> t.Iterator[set[int]]:
    """Somebody asks all the time, without a credential; what was answered."""
    stop = threading.Event()
    seen: set[int] = set()

    def ask() -> None:
        while not stop.wait(0.002):
            with contextlib.suppress(OSError):
                seen.add(site.get())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def test_from_istiod_to_files_and_back(site: Ads) -> None:
    succeeded(site.site())
    site.answers(401, 200)
    with asking(site) as seen:
        succeeded(site.site(envoy_filters_config_source="filesystem"))
        assert (site.get(), site.get(FOO)) == (401, 200)
        assert site.admin.stats(r"^control_plane\.") == {}
    assert 401 in seen
    # There was no revision in files before.
    assert seen <= {0, 401, 403}, "it served without a credential"
    with asking(site) as seen:
        succeeded(site.site())
        site.answers(401, 200)
        assert site.connected()
    assert 401 in seen
    assert seen <= {0, 401}, "it served without a credential"
    # All goes that was put there, the certificates too.
    removed = succeeded(site.play("playbooks/uninstall.yml"))
    assert "ads/identity.pem" in removed.output or not (site.root / "config").exists()
    assert not (site.root / "config").exists()


def test_the_verbs_of_a_fleet_of_istiod(told: Ads, control_plane: ControlPlane) -> None:
    with asking(told) as seen:
        first = succeeded(told.site("--diff"))
    told.answers(401, 200)
    assert 401 in seen
    assert seen <= {0, 401}, "it served without a credential"
    again = succeeded(told.site("--check"))
    assert again.changed == 0, again.output
    pid = told.pid()
    new = {"envoy_filters_secrets": {"foo_password": "new-of-foo"}}
    rotated = succeeded(told.play("playbooks/rotate.yml", "--diff", "-vvv", "-e", json.dumps(new)))
    assert rotated.changed == 1
    assert "new-of-foo" not in first.output + rotated.output
    assert (told.get(FOO), told.get("foo:new-of-foo")) == (401, 200)
    said = failed(told.play("playbooks/status.yml"))
    assert "basic_auth: not what the variables say" in said, said
    back = succeeded(told.play("playbooks/rollback.yml", "--diff"))
    assert back.changed == 1
    assert (told.get(FOO), told.get("foo:new-of-foo")) == (200, 401)
    assert succeeded(told.play("playbooks/rollback.yml")).changed == 0
    bad = failed(told.play("playbooks/rotate.yml", "-e", json.dumps({"envoy_filters_secrets": {"foo_password": ""}})))
    assert "secrets.foo_password: found an empty string" in bad
    assert (told.get(FOO), told.pid()) == (200, pid)
    assert "rollout_canary: found none of the gateways local" in failed(told.play("playbooks/rollout.yml"))
    picture = told.root / "status.json"
    seen_by = succeeded(told.play("playbooks/status.yml", "-e", f"envoy_status_json={picture}"))
    assert "1 of 1 gateways is fine" in seen_by.output
    assert seen_by.changed == 0
    (row,) = json.loads(picture.read_text())["hosts"][0]["filters"]
    assert (row["name"], row["as_desired"], row["closed"]) == ("basic_auth", True, False)
    assert row["disk"] is not None
    assert row["running"] == row["disk"]
    assert row["extension"]["loaded"]
    # Every gateway of the play has to be among those that confirm.
    told.variables["envoy_filters_workload_selector"] = {"gateway": "other"}
    assert "expected 1 or more" in failed(told.play("playbooks/rotate.yml"))
    control_plane.istiods[0].kill()
    wait_until(lambda: not told.connected(), "it is still connected")
    assert "Envoy is connected to no control plane" in failed(told.play("playbooks/status.yml"))


class Hot(Supervised):
    """A gateway with the role's supervisor, that can be one of files and one of istiod."""

    def __init__(self, plane: ControlPlane, extension: pathlib.Path) -> None:
        super().__init__(patient=True)
        self.plane = plane
        self.extension = extension

    def of_istiod(self, *istiods: Istiod, cluster: str = "a") -> t.Callable[[dict[str, t.Any]], object]:
        """What makes its bootstrap one of istiod."""

        def change(bootstrap: dict[str, t.Any]) -> None:
            ads = {
                "istiods": [f"127.0.0.1:{istiod.plaintext}" for istiod in istiods],
                "plaintext": True,
                "namespace": "istio-system",
                "name": "local",
                "labels": {"istio": "ingressgateway", "gateway": "local"},
                "cluster_id": "Kubernetes",
                "address": "192.0.2.201",
                "istio_version": "1.31.0",
            }
            bootstrap["node"]["cluster"] = cluster
            bootstrap.update(_ads.compose(bootstrap, ads))

        return change

    def to(self, *istiods: Istiod, **options: t.Any) -> t.Any:
        wanted = self.wanted(self.of_istiod(*istiods, **options), drain=3)
        return self.hot_restart({**wanted, "control_plane": True})

    def serve(self, upstream: int) -> None:
        me = t.cast(t.Any, types.SimpleNamespace(name="local", port=self.port))
        found = _engines.Extension.at(str(content_addressed(self.extension, self.extensions)))
        config = {"users": [{"username": "foo", "password": "bar"}]}
        typed = _engines.typed_config("dynamic_module", "basic_auth", config, found, None, seal=True)
        self.plane.api.apply(discovered("basic_auth", typed), *serving(me, upstream))


@pytest.fixture
def hot(control_plane: ControlPlane, basic_auth: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Hot]:
    gateway = Hot(control_plane, basic_auth)
    monkeypatch.setenv("PATH", f"{gateway.root}/bin:{os.environ['PATH']}")
    try:
        yield gateway
    finally:
        gateway.remove()


def test_hot_restarts_from_files_to_istiod_and_back(hot: Hot, control_plane: ControlPlane, upstream: int) -> None:
    istiod = control_plane.istiod(plaintext=True)
    hot.begin()
    hot.serve(upstream)
    filters = [{"name": "basic_auth", "engine": "dynamic_module"}]
    assert not hot.config(filters=filters, listeners=[hot.listener(*filters)]).failed
    assert not hot.extend(hot.extension).failed
    assert (hot.get(None), hot.get(FOO)) == (401, 200)
    with load(hot) as answers:
        there = hot.to(istiod)
        assert not there.failed, there.output
        assert there["restart_epoch"] == 1
        assert hot.to(istiod)["changed"] is False
        assert hot.admin.stats(r"^control_plane\.connected_state$") == {"control_plane.connected_state": 1}
        # Without istiod, an Envoy that serves is not given up for one that would wait.
        istiod.kill()
        wait_until(lambda: 0 in hot.admin.stats(r"^control_plane\.connected_state$").values(), "still connected")
        refused = hot.to(istiod, cluster="b")
        assert refused.code == "not_connected", refused.output
        assert (hot.get(None), hot.get(FOO)) == (401, 200)
        istiod.start()
        wait_until(lambda: 1 in hot.admin.stats(r"^control_plane\.connected_state$").values(), "not connected", 60)
        again = hot.to(istiod, cluster="b")
        assert not again.failed, again.output
        back = hot.hot_restart(hot.wanted())
        assert not back.failed, back.output
        assert set(back["versions"]) == {"clusters", "listeners", "filter basic_auth"}
    seen = only(answers)
    assert seen["foo:wrong"] <= {401, "RemoteDisconnected", "ConnectionResetError"}
    assert seen["foo:bar"] <= {200, "RemoteDisconnected", "ConnectionResetError"}
    assert (hot.get(None), hot.get(FOO)) == (401, 200)


def test_the_first_envoy_waits_for_istiod(hot: Hot, control_plane: ControlPlane, upstream: int) -> None:
    istiod = control_plane.istiod(plaintext=True)
    hot.serve(upstream)
    istiod.settle()
    istiod.kill()
    hot.begin(change=hot.of_istiod(istiod))
    supervisor = (hot.root / "supervisor.log").read_text
    wait_until(lambda: "waits for its control plane" in supervisor(), "it does not wait")
    pid = hot.status()["starting"]["pid"]
    # Beyond the time that an Envoy has to become ready, which is four seconds here.
    time.sleep(5)
    assert hot.status()["starting"]["pid"] == pid
    assert hot.get(None) == 0
    istiod.start()
    wait_until(lambda: (hot.get(None), hot.get(FOO)) == (401, 200), "it does not serve", 60)
    wait_until(lambda: hot.status()["serving"]["pid"] == pid, "the supervisor does not see that it serves")
