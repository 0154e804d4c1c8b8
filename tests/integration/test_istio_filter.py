# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""istio_filter and istio_sync_info against a real API server, real istiods and real gateways."""

from __future__ import annotations

import base64
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import typing as t

import pytest
import yaml
from control_plane import BUILT, SYSTEM, ControlPlane, Gateway, Object, envoy_filter, istio_object, serving
from real import NATIVE, REPOSITORY, TYPE, Result, content_addressed, htpasswd, request, run_module, wait_until
from xds_client import Subscriber

from ansible_collections.moe.gateway.plugins.filter.from_envoy_filter import from_envoy_filter

FOO, NEW, WRONG = "foo:bar-of-old", "foo:baz-of-new", "foo:wrong"
PASSWORDS = ("bar-of-old", "baz-of-new")
NAME = "basic_auth"


class Story:
    """Some gateways of one istiod, and the module that brings their filter."""

    def __init__(self, plane: ControlPlane, library: pathlib.Path, upstream: int, folder: pathlib.Path) -> None:
        self.plane = plane
        self.istiod = plane.istiods[0]
        self.upstream = upstream
        self.extension = content_addressed(library, folder)
        self.gateways: list[Gateway] = []

    def gateway(self, name: str, **options: t.Any) -> Gateway:
        istiods = options.pop("istiods", [self.istiod])
        gateway = self.plane.gateway(name, *istiods, **options)
        self.plane.api.apply(*serving(gateway, self.upstream))
        gateway.statuses(None, 200)
        self.gateways.append(gateway)
        return gateway

    @property
    def where(self) -> dict[str, t.Any]:
        urls = [f"http://127.0.0.1:{istiod.monitoring}" for istiod in self.plane.istiods]
        return {"kubeconfig": str(self.plane.kubeconfig), "istiods": urls}

    def run(self, credential: str = FOO, check: bool = False, **options: t.Any) -> Result:
        user, _colon, password = credential.partition(":")
        wanted = {
            "name": NAME,
            "engine": "dynamic_module",
            "extension": str(self.extension),
            "config": {"users": [{"username": user, "password": "${secret.password}"}]},
            "secrets": {"password": password},
            **self.where,
            **options,
        }
        result = run_module("istio_filter", wanted, check=check, diff=True)
        for secret in PASSWORDS:
            assert secret not in result.output
            assert base64.b64encode(f"foo:{secret}".encode()).decode() not in result.output
        return result

    def back(self, check: bool = False, **options: t.Any) -> Result:
        result = run_module("istio_rollback", {"name": NAME, **self.where, **options}, check=check, diff=True)
        for secret in PASSWORDS:
            assert secret not in result.output
        return result

    def good(self, *arguments: t.Any, **options: t.Any) -> Result:
        result = self.run(*arguments, **options)
        assert not result.failed, result.output
        return result

    def bad(self, code: str, *arguments: t.Any, **options: t.Any) -> Result:
        result = self.run(*arguments, **options)
        assert result.code == code, result.output
        return result

    def sync(self, **options: t.Any) -> Result:
        where = {key: value for key, value in self.where.items() if key == "istiods"}
        result = run_module("istio_sync_info", {**where, **options})
        assert not result.failed, result.output
        return result

    def object(self, name: str = "basic-auth") -> Object | None:
        return self.plane.api.get(envoy_filter(name, []))

    def answers(self, credential: str | None, *statuses: int) -> None:
        assert [gateway.get(credential) for gateway in self.gateways] == list(statuses)


@pytest.fixture
def story(control_plane: ControlPlane, basic_auth: pathlib.Path, upstream: int, tmp_path: pathlib.Path) -> Story:
    control_plane.validate(control_plane.istiods[0])
    return Story(control_plane, basic_auth, upstream, tmp_path)


@pytest.fixture
def one(story: Story) -> Story:
    story.gateway("first")
    return story


def test_check_run_check_run(one: Story) -> None:
    checked = one.good(check=True)
    assert (checked["changed"], checked["action"]) == (True, "published")
    assert one.object() is None
    one.answers(None, 200)

    done = one.good()
    assert (done["changed"], done["action"], done["gateways"]) == (True, "published", ["first.istio-system"])
    # The digest is of a key that check mode has not kept.
    assert checked["version"].endswith("-1")
    assert done["version"].endswith("-1")
    assert done["propagation_ms"] > 0
    assert done["diff"]["after"]["config"] == {"users": [{"username": "foo", "password": "${secret.password}"}]}
    one.answers(None, 401)
    one.answers(FOO, 200)
    dump = one.gateways[0].admin.get("/config_dump")
    assert b"basic_auth.DynamicModuleFilter" in dump
    assert b"[redacted]" in dump
    assert not any(secret.encode() in dump for secret in PASSWORDS)
    written = one.object()
    for check in (True, False):
        again = one.good(check=check)
        assert (again["changed"], again["action"], again["version"]) == (False, "none", done["version"])
        assert again["diff"]["before"] == again["diff"]["after"]
        assert one.object() == written


def test_a_rotation(one: Story) -> None:
    """The old credential is refused on the connection that it has open; nothing drains, nothing restarts."""
    (gateway,) = one.gateways
    one.good()
    before = gateway.admin.server()
    counted = r"^(listener_manager\.(listener_modified|listener_in_place_updated|total_listeners_draining))$"
    listeners = gateway.admin.stats(counted)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    assert request(connection, FOO) == 200
    socket = connection.sock
    done = one.good(NEW)
    assert done["previous_version"] != done["version"]
    assert (request(connection, FOO), request(connection, NEW)) == (401, 200)
    assert connection.sock is socket, "it is the same connection"
    connection.close()
    after = gateway.admin.server()
    assert (after.restart_epoch, gateway.admin.stats(counted)) == (before.restart_epoch, listeners)
    assert after.uptime >= before.uptime


def test_every_gateway_of_twenty(story: Story) -> None:
    everyone = sorted(f"gateway-{number}.istio-system" for number in range(20))
    for proxy in everyone:
        story.gateway(proxy.partition(".")[0])
    for credential, other in ((FOO, NEW), (NEW, FOO)):
        done = story.good(credential)
        assert sorted(done["gateways"]) == everyone
        story.answers(credential, *[200] * 20)
        story.answers(other, *[401] * 20)
    story.answers(None, *[401] * 20)
    # Only one of them.
    canary = story.good(FOO, name="canary", workload_selector={"gateway": "gateway-1"})
    assert canary["gateways"] == ["gateway-1.istio-system"]
    chosen = [gateway.name == "gateway-1" for gateway in story.gateways]
    story.answers(NEW, *(401 if one else 200 for one in chosen))
    removed = story.good(name="canary", state="absent", purge=True)
    assert (removed["changed"], removed["action"]) == (True, "removed")
    assert story.object("canary") is None


def test_what_envoy_refuses_first(one: Story) -> None:
    """There was nothing before, so there is nothing after, and the gateway serves as it did."""
    result = one.bad("refused_by_envoy", config={"users": "none"})
    details = result["failure"]["details"]
    assert details["gateways"] == ["first.istio-system"]
    # Why the library refuses it is in the log of the gateway.
    assert details["reason"] == "Failed to create filter config: Failed to initialize dynamic module"
    assert "first.istio-system refuses it" in result["msg"]
    assert one.object() is None
    one.gateways[0].statuses(None, 200)
    done = one.good()
    assert done["action"] == "published"
    one.answers(None, 401)


def test_what_envoy_refuses_later(one: Story) -> None:
    good = one.good()
    result = one.bad("refused_by_envoy", NEW, config={"users": "none"})
    assert result["action"] == "restored"
    assert "is in service again" in result["msg"]
    one.answers(FOO, 200)
    one.answers(None, 401)
    # Again it is refused, though Envoy has seen it before.
    one.bad("refused_by_envoy", NEW, config={"users": "none"})
    again = one.good()
    assert (again["action"], again["previous_version"].split("-")[0]) == ("none", good["version"].split("-")[0])
    one.answers(FOO, 200)


def test_a_library_that_is_not_there(story: Story) -> None:
    """One gateway has the library, the other has not."""
    first, second = story.gateway("first"), story.gateway("second")
    shutil.rmtree(first.extensions)
    elsewhere = content_addressed(story.extension, second.extensions)
    elsewhere.rename(second.extensions / story.extension.name)
    story.good()
    gone = second.extensions / story.extension.name
    result = story.bad("refused_by_envoy", NEW, extension=str(gone.with_name("x-" + "0" * 64 + ".so")))
    assert result["failure"]["details"]["gateways"] == ["first.istio-system", "second.istio-system"]
    story.answers(FOO, 200, 200)


def test_what_the_webhook_refuses(one: Story) -> None:
    native = {"engine": "native", "extension": None}
    result = one.bad("refused_in_validation", config={"@type": TYPE + "none.Such"}, **native)
    assert "none.Such" in result["failure"]["details"]["reason"]
    unknown = {"@type": TYPE + NATIVE["type"], "users": {"inline_string": "${secret.password}"}, "uesrs": 1}
    result = one.bad("refused_in_validation", config=unknown, secrets={"password": htpasswd("foo", "x")}, **native)
    assert "uesrs" in result["failure"]["details"]["reason"]
    assert one.object() is None
    one.answers(None, 200)


def test_a_webhook_that_is_absent_or_down(one: Story, tmp_path: pathlib.Path) -> None:
    one.plane.validate(None)
    one.bad("no_validator")
    assert one.object() is None
    istioctl = str(BUILT / "bin" / "istioctl")
    native = {"engine": "native", "extension": None}
    bad = one.bad("refused_in_validation", config={"@type": TYPE + "none.Such"}, istioctl=istioctl, **native)
    assert "none.Such" in bad["msg"]
    unknown = {"@type": TYPE + NATIVE["type"], "uesrs": 1}
    assert "uesrs" in one.bad("refused_in_validation", config=unknown, istioctl=istioctl, **native)["msg"]
    one.bad("no_validator", istioctl=str(tmp_path / "none"))
    one.good(istioctl=istioctl)
    one.answers(None, 401)
    spare = one.plane.istiod()
    one.plane.validate(spare)
    spare.kill()
    one.bad("webhook_down", NEW)
    one.answers(FOO, 200)


def test_nobody_is_selected(one: Story) -> None:
    result = one.bad("too_few_gateways", workload_selector={"istio": "none"})
    assert "found 0 gateways with istio=none" in result["msg"]
    assert "(first.istio-system), expected 2" in one.bad("too_few_gateways", min_gateways=2)["msg"]
    assert one.object() is None


def test_other_labels_leave_no_gateway_open(one: Story) -> None:
    one.gateway("second")
    one.good()
    for check in (True, False):
        result = one.bad("gateways_left", workload_selector={"gateway": "first"}, check=check)
        assert "found gateway=first, which second.istio-system has not" in result["msg"]
    assert not one.good()["changed"]
    one.good(workload_selector={})
    one.answers(None, 401, 401)
    one.answers(FOO, 200, 200)


def test_the_filter_is_there_before_the_gateway(story: Story) -> None:
    done = story.good(min_gateways=0)
    assert (done["action"], done["gateways"]) == ("published", [])
    gateway = story.plane.gateway("first", story.istiod)
    seen = set()

    def served() -> bool:
        seen.add(gateway.get())
        return gateway.get(FOO) == 200

    story.plane.api.apply(*serving(gateway, story.upstream))
    wait_until(served, "it does not serve")
    assert seen <= {0, 401}
    assert story.good()["action"] == "healed"
    assert story.good()["action"] == "none"


def test_a_gateway_that_hangs(story: Story) -> None:
    story.gateway("first")
    slow = story.gateway("slow")
    story.good()
    assert slow.process is not None
    slow.process.send_signal(signal.SIGSTOP)
    try:
        result = story.bad("not_confirmed", NEW, timeout=3)
    finally:
        slow.process.send_signal(signal.SIGCONT)
    assert result["failure"]["details"]["gateways"] == ["slow.istio-system"]
    assert "slow.istio-system was not" in result["msg"] or "slow.istio-system has not acknowledged it" in result["msg"]
    assert "is published again, not seen in service everywhere" in result["msg"]
    assert result["action"] == "restored"
    for gateway in story.gateways:
        gateway.statuses(FOO, 200)
        gateway.statuses(NEW, 401)
    # What nobody has seen in service is published once more.
    assert story.good()["action"] == "healed"
    assert story.good()["action"] == "none"


def test_a_foreign_edit(one: Story) -> None:
    first = one.good()
    edited = t.cast(Object, one.object())
    spec = edited["spec"]
    del spec["configPatches"][1]
    one.plane.api.apply(istio_object("EnvoyFilter", "basic-auth", spec), manager="somebody")
    one.gateways[0].statuses(None, 200)
    done = one.good()
    assert (done["action"], done["changed"]) == ("healed", True)
    assert "had been changed by somebody else" in done["found"][0]
    assert done["version"] != first["version"]
    one.answers(None, 401)
    one.plane.api.delete(envoy_filter("basic-auth", []))
    one.gateways[0].statuses(None, 200)
    done = one.good()
    assert (done["action"], done["found"][0]) == ("healed", "the EnvoyFilter was missing")
    one.answers(None, 401)


def test_what_belongs_to_others(one: Story) -> None:
    theirs = envoy_filter("basic-auth", [])
    del theirs["spec"]["configPatches"]
    one.plane.api.apply(theirs, manager="somebody")
    assert "basic-auth" in one.bad("foreign_object")["msg"]
    one.plane.api.delete(theirs)
    one.good()
    assert "basic_auth" in one.bad("name_taken", name="basic-auth")["msg"]


def test_absent(one: Story) -> None:
    assert one.good(state="absent")["changed"] is False
    one.good()
    closed = one.good(state="absent")
    assert (closed["action"], closed["changed"]) == ("removed", True)
    one.answers(None, 403)
    one.answers(FOO, 403)
    assert one.good(state="absent")["action"] == "none"
    opened = one.good(FOO)
    assert opened["action"] == "published"
    one.answers(FOO, 200)
    assert one.good(state="absent", purge=True, check=True)["changed"] is True
    assert one.object() is not None
    one.good(state="absent", purge=True)
    one.gateways[0].statuses(None, 200)
    assert one.plane.api.list("v1", "Secret") == []
    assert one.good(state="absent", purge=True)["changed"] is False


def test_back_without_the_old_secret(one: Story) -> None:
    assert one.back().code == "no_generation"
    first = one.good()
    assert one.back().code == "no_generation"
    one.good(NEW)
    for check in (True, False):
        back = one.back(check=check)
        assert not back.failed, back.output
        assert (back["action"], back["source_version"]) == ("rolled_back", first["version"])
    one.answers(FOO, 200)
    one.answers(NEW, 401)
    for check in (True, False):
        again = one.back(check=check)
        assert (again["action"], again["version"]) == ("none", back["version"])
    one.good(NEW)
    number = int(first["version"].rpartition("-")[2])
    assert one.back(generation=number)["action"] == "rolled_back"
    one.answers(FOO, 200)
    # What it was before is what the variables say, so nothing is to be published.
    assert one.good()["action"] == "none"
    assert one.back(generation=99).code == "no_generation"


def test_inline(one: Story) -> None:
    done = one.good(inline=True)
    one.answers(None, 401)
    assert one.good(inline=True)["version"] == done["version"]
    one.good(NEW, inline=True)
    one.gateways[0].statuses(NEW, 200)
    one.bad("refused_by_envoy", NEW, config={"users": "none"}, inline=True)
    one.gateways[0].statuses(NEW, 200)


def test_another_engine(one: Story) -> None:
    """A filter that changes its type never answers 500."""
    one.good()
    seen: set[int] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.add(one.gateways[0].get(WRONG))

    thread = threading.Thread(target=ask)
    thread.start()
    config = {"@type": TYPE + NATIVE["type"], "users": {"inline_string": "${secret.users}"}}
    try:
        one.good(engine="native", extension=None, config=config, secrets={"users": htpasswd("foo", "x")})
        assert one.gateways[0].get("foo:x") == 200
        one.good()
    finally:
        stop.set()
        thread.join()
    assert seen == {401}


def of_the_blog() -> Object:
    blog = yaml.safe_load((REPOSITORY / "tests" / "inputs" / "blog.yaml").read_text())
    config: Object = from_envoy_filter(blog, "basic_auth")["config"]
    return config


def test_a_stock_envoy_has_no_golang(one: Story) -> None:
    result = one.bad("refused_by_envoy", engine="golang", config=of_the_blog())
    assert "golang" in result["failure"]["details"]["reason"]
    assert result["failure"]["details"]["gateways"] == ["first.istio-system"]
    one.gateways[0].statuses(None, 200)


@pytest.mark.parametrize("inline", [False, True])
def test_the_golang_filter_of_the_blog(story: Story, inline: bool) -> None:
    """A gateway that takes it is sent exactly what was meant, and the module hears that it has taken it."""
    gateway = story.plane.gateway("first", story.istiod, start=False)
    story.plane.api.apply(*serving(gateway, story.upstream))
    meant = of_the_blog()
    digest = story.extension.stem.rpartition("-")[2]
    with Subscriber(gateway, story.istiod, ["basic_auth.Config"]) as client:
        wait_until(lambda: client.listeners, "istiod sends no listener")
        for password, given in (("bar", "bar"), ("bar-of-old", "${secret.password}")):
            listeners = dict(client.listeners)
            meant["plugin_config"]["value"]["password"] = given
            done = story.good(engine="golang", config=meant, inline=inline)
            assert (done["changed"], done["gateways"]) == (True, [gateway.proxy])
            assert client.filters == {
                "basic_auth.Config": {
                    "library_id": f"example-{digest}",
                    "library_path": str(story.extension),
                    "plugin_name": "basic-auth",
                    "plugin_config": {
                        "@type": TYPE + "xds.type.v3.TypedStruct",
                        "type_url": "typexx",
                        "value": {"username": "foo", "password": password},
                    },
                }
            }
        # Only in the inline form a credential changes the listener, whose connections drain then.
        assert (client.listeners != listeners) == inline


def test_istiod_is_down(one: Story) -> None:
    one.good()
    one.istiod.kill()
    result = one.bad("istiod_down", NEW, timeout=2)
    assert "Connection refused" in result["msg"]
    one.answers(FOO, 200)
    one.istiod.start()
    wait_until(lambda: one.sync()["reached"], "the gateway does not come back")
    one.good(NEW)
    one.answers(NEW, 200)


def test_istiod_dies_meanwhile(one: Story) -> None:
    """It comes back within the time, and so does the gateway."""
    one.good()
    spare = one.plane.istiod()
    one.plane.validate(spare)
    result: list[Result] = []
    thread = threading.Thread(target=lambda: result.append(one.run(NEW, timeout=40)))
    before = one.plane.api.list("v1", "Secret")
    thread.start()
    wait_until(lambda: one.plane.api.list("v1", "Secret") != before, "it doesn't begin")
    one.istiod.kill()
    time.sleep(1)
    one.istiod.start()
    thread.join()
    assert not result[0].failed, result[0].output
    one.gateways[0].statuses(NEW, 200)


def test_two_istiods(story: Story) -> None:
    second = story.plane.istiod()
    story.gateway("first")
    story.gateway("second", istiods=[second])
    done = story.good()
    assert done["gateways"] == ["first.istio-system", "second.istio-system"]
    sync = story.sync(version=done["version"])
    assert sync["reached"]
    assert [item["gateways"] for item in sync["istiods"]] == [1, 1]
    assert all(item["holds"] and item["synced"] for item in sync["gateways"])


def test_the_api_server_is_down(one: Story) -> None:
    one.good()
    one.plane.api_server.stop(signal.SIGKILL)
    try:
        result = one.bad("api_down", NEW, timeout=5)
    finally:
        one.plane.start_api_server()
    assert "does not answer" in result["msg"]
    one.answers(FOO, 200)


def test_the_rights_that_are_documented(one: Story) -> None:
    page = (REPOSITORY / "docs" / "istio.md").read_text()
    (role,) = [
        found
        for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        if (found := yaml.safe_load(text)).get("rules") and found["metadata"]["name"] == "moe-gateway"
    ]
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "deployer", "namespace": SYSTEM},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role["metadata"]["name"]},
        "subjects": [{"kind": "User", "name": "deployer", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    who = {"kubeconfig": str(one.plane.write_kubeconfig("deployer"))}
    assert "envoyfilters" in one.bad("api_forbidden", **who)["msg"]
    one.plane.api.apply(role, binding)
    try:
        wait_until(lambda: not one.run(check=True, **who).failed, "the rights are not known yet")
        one.good(**who)
        one.good(NEW, **who)
        assert one.back(**who)["action"] == "rolled_back"
        one.bad("refused_by_envoy", config={"users": "none"}, **who)
        one.good(state="absent", **who)
        one.good(state="absent", purge=True, **who)
        # Without any of them it is refused by name.
        for index, rule in enumerate(role["rules"]):
            for verb in rule["verbs"]:
                less = [*role["rules"][:index], {**rule, "verbs": [other for other in rule["verbs"] if other != verb]}]
                rules = [rule for rule in (*less, *role["rules"][index + 1 :]) if rule["verbs"]]
                one.plane.api.apply({**role, "rules": rules})
                wait_until(lambda: refused(one, who), f"{verb} is not needed")
    finally:
        one.plane.api.delete(binding, role)


def refused(story: Story, who: dict[str, str]) -> bool:
    """Whether one of all that can be done is refused for want of rights; what was done of it is undone."""
    steps = [{}, {"secrets": {"password": "baz-of-new"}}, {"state": "absent", "purge": True}]
    results = [story.run(FOO, **who, **step) for step in steps]
    story.run(state="absent", purge=True)
    return any(result.code == "api_forbidden" for result in results)


def test_a_run_that_died(one: Story) -> None:
    """It had published and not confirmed."""
    one.good()
    secret = one.plane.api.list("v1", "Secret")[0]
    data = json.loads(base64.b64decode(secret["data"]["generations"]))
    spec = t.cast(Object, one.object())["spec"]
    # As if the last had been published by a run that did not note it.
    data["confirmed"] = None
    secret["data"]["generations"] = base64.b64encode(json.dumps(data).encode()).decode()
    one.plane.api.request("PUT", one.plane.api.path("v1", "Secret", SYSTEM, secret["metadata"]["name"]), secret)
    done = one.good()
    assert done["action"] == "healed"
    assert "by a run that did not live to confirm it" in " ".join(done["found"])
    assert t.cast(Object, one.object())["spec"] != spec
    one.answers(FOO, 200)


def test_a_run_that_was_killed(one: Story) -> None:
    """The next one waits as long as it might have taken, and then heals what it left."""
    one.good()
    (gateway,) = one.gateways
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGSTOP)
    wanted = {"name": NAME, "state": "absent", "timeout": 5, **one.where}
    process = subprocess.Popen(
        [sys.executable, "-m", "ansible_collections.moe.gateway.plugins.modules.istio_filter"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "build" / "collections")},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": wanted}).encode())
    process.stdin.close()
    written = one.object()
    wait_until(lambda: one.object() != written, "it does not publish")
    process.kill()
    process.wait()
    gateway.process.send_signal(signal.SIGCONT)
    assert "Another run has been changing" in one.bad("locked", timeout=1)["msg"]
    done = one.good()
    assert done["action"] == "healed"
    assert "by a run that did not live to confirm it" in " ".join(done["found"])
    one.answers(FOO, 200)


def test_two_runs_at_once(one: Story) -> None:
    one.good()
    results: list[Result] = []
    threads = [threading.Thread(target=lambda: results.append(one.run(NEW))) for _number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = {result.code for result in results}
    assert codes <= {"", "locked"}, [result.output for result in results]
    assert not one.good(NEW).failed
    one.answers(NEW, 200)


def test_a_probe_that_fails(one: Story) -> None:
    (gateway,) = one.gateways
    probe = {
        "url": f"http://127.0.0.1:{gateway.port}/",
        "headers": {"host": "httpbin.example.com"},
        "basic_auth": "foo:${secret.password}",
    }
    one.good(probe=[probe])
    result = one.bad("probe_failed", NEW, probe=[{**probe, "status": 204}])
    assert result["action"] == "restored"
    one.answers(FOO, 200)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"istiods": []}, "istiods: found none"),
        ({"istiods": ["127.0.0.1"]}, "istiods[0]: found '127.0.0.1'"),
        ({"namespace": "A"}, "namespace: found 'A'"),
        ({"name": "-x"}, "name: found '-x'"),
        ({"name": "x_"}, "name: found 'x_'"),
        ({"workload_selector": {"istio": 1}}, "workload_selector.istio: found 1 (int)"),
        ({"workload_selector": {"a b": "c"}}, "workload_selector: found the key 'a b'"),
        ({"keep": 0}, "keep: found 0"),
        ({"min_gateways": -1}, "min_gateways: found -1"),
        ({"timeout": 0}, "timeout: found 0"),
        ({"secrets": {"password": 1}}, "secrets.password: found a value of type int"),
        ({"config": {"users": "${secret.none}"}}, "config.users: found a reference to the secret 'none'"),
        ({"extension": "/opt/basic_auth.so"}, "extension: found '/opt/basic_auth.so'"),
        ({"engine": "native"}, "extension: found"),
        ({"kubeconfig": "/nowhere"}, "kubeconfig: found none that can be used at /nowhere"),
    ],
)
def test_bad_options(story: Story, options: dict[str, t.Any], said: str) -> None:
    result = story.bad("invalid_option", **options)
    assert said in result["msg"]


def test_the_state_of_gateways(story: Story) -> None:
    story.gateway("first")
    hanging = story.gateway("hanging")
    done = story.good()
    sync = story.sync(workload_selector={"gateway": "first"}, version=done["version"])
    (first,) = sync["gateways"]
    assert sync["reached"]
    assert (first["name"], first["namespace"], first["synced"], first["holds"]) == (
        "first.istio-system",
        "istio-system",
        True,
        True,
    )
    assert first["types"]["TypedExtensionConfig"]["sent"] == first["types"]["TypedExtensionConfig"]["acked"] != ""
    assert not story.sync(version="0" * 16 + "-1")["reached"]
    assert not story.sync(namespace="none")["reached"]
    assert hanging.process is not None
    hanging.process.send_signal(signal.SIGSTOP)
    try:
        story.bad("not_confirmed", NEW, timeout=2)
        sync = story.sync(timeout=0.5)
    finally:
        hanging.process.send_signal(signal.SIGCONT)
    assert not sync["reached"]
    assert {item["name"]: item["synced"] for item in sync["gateways"]} == {
        "first.istio-system": True,
        "hanging.istio-system": False,
    }
    assert story.sync(timeout=20)["reached"]
    story.istiod.kill()
    (state,) = story.sync()["istiods"]
    assert "does not answer" in state["error"]
