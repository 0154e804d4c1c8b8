# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One inventory with a gateway of files and several of an istiod: site, and the playbook rollout."""

from __future__ import annotations

import contextlib
import pathlib
import types
import typing as t

import pytest
import upstreams
from certificates import Pair
from control_plane import GATEWAY_ACCOUNT, ControlPlane, serving
from several import PASSWORD, Fleet, gateways
from test_rollout import BOOK, NEW, accepted, filters, told

#: The first is one of files: nothing may depend on which comes first.
NAMES = ("files", "other", "canary")
OF_ISTIOD = NAMES[1:]
CHANGE = {"envoy_filters_secrets": {"foo_password": NEW}}


def of_istiod(plane: ControlPlane, pair: Pair, name: str, folder: pathlib.Path) -> dict[str, t.Any]:
    labels = {"istio": "ingressgateway", "gateway": name}
    return {
        "envoy_filters_config_source": "ads",
        "envoy_filters_listeners": [],
        "envoy_ads_istiods": [f"127.0.0.1:{istiod.port}" for istiod in plane.istiods],
        "envoy_ads_ca_certificate": str(plane.authority.certificate),
        "envoy_ads_certificate": str(pair.certificate),
        "envoy_ads_private_key": str(pair.key),
        "envoy_ads_address": f"192.0.2.{200 + NAMES.index(name)}",
        "envoy_ads_labels": {**labels, "canary": "true"} if name == "canary" else labels,
        # One EnvoyFilter names the path for all of them.
        "envoy_extensions_dir": str(folder / "extensions"),
        "envoy_filters_istiods": [f"http://127.0.0.1:{istiod.monitoring}" for istiod in plane.istiods],
        "envoy_filters_kubeconfig": str(plane.kubeconfig),
    }


@pytest.fixture(scope="module")
def fleet(
    one_control_plane: ControlPlane, basic_auth: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Fleet]:
    plane, folder = one_control_plane, tmp_path_factory.mktemp("istio-rollout")
    with contextlib.ExitStack() as stack:
        stack.callback(plane.reset)
        upstream = stack.enter_context(upstreams.running())
        plane.validate(plane.istiods[0])
        pair = plane.authority.issue("gateways", uris=[GATEWAY_ACCOUNT])
        own = {name: of_istiod(plane, pair, name, folder) for name in OF_ISTIOD}
        made = stack.enter_context(gateways(basic_auth, folder, list(NAMES), own))
        for name in OF_ISTIOD:
            me = t.cast(t.Any, types.SimpleNamespace(name=name, port=made.sites[name].port))
            plane.api.apply(*serving(me, upstream))
        output = made.play("playbooks/site.yml")
        assert output.startswith("0\n"), output
        yield made


@pytest.fixture(autouse=True)
def begin(fleet: Fleet) -> None:
    """Of all gateways, those of istiod too."""
    assert refused(fleet)
    assert accepted(fleet) == [PASSWORD] * 3


def refused(fleet: Fleet) -> bool:
    """Whether every gateway refuses who has no credential, and who has a wrong one."""
    return {site.get(credential) for site in fleet.sites.values() for credential in (None, "foo:wrong")} == {401}


def probing(fleet: Fleet, failing: str) -> tuple[list[dict[str, t.Any]], dict[str, int]]:
    """Probes of which that of one gateway fails, and the ports that they take from a variable."""
    probe = {
        "url": "http://127.0.0.1:{{ ports[inventory_hostname] }}/status/200",
        "headers": {"host": "httpbin.example.com"},
        "status": f"{{{{ 418 if inventory_hostname == '{failing}' else 401 }}}}",
    }
    return [probe], {name: site.port for name, site in fleet.sites.items()}


def restored(output: str) -> dict[str, str]:
    assert output.startswith("2\n"), output
    return told(output)


def test_what_the_canary_does_not_pass_reaches_no_other(fleet: Fleet) -> None:
    probes, ports = probing(fleet, "canary")
    said = restored(fleet.play(BOOK, rollout_probe=probes, ports=ports, rollout_restore=True, **CHANGE))
    assert said["files"] == "done; restored to what it ran before"
    assert said["other"] == "done, but only for the canary; restored to what it ran before"
    assert said["canary"].startswith("FAILED: Status code was 401")
    assert said["canary"].endswith("; restored to what it ran before")
    assert accepted(fleet) == [PASSWORD] * 3

    # All get it, and then one that is not of the canary does not pass.
    probes, ports = probing(fleet, "other")
    said = restored(fleet.play(BOOK, rollout_probe=probes, ports=ports, rollout_restore=True, **CHANGE))
    assert said["canary"] == "done; restored to what it ran before"
    assert said["other"].startswith("FAILED: Status code was 401")
    assert accepted(fleet) == [PASSWORD] * 3

    # What a gateway refuses, its istiod takes back.
    said = restored(fleet.play(BOOK, **filters("pasword")))
    assert said["files"].startswith("FAILED: ")
    assert said["canary"] == said["other"] == "not begun, since another failed before"
    said = restored(fleet.play(BOOK, "--limit", ",".join(OF_ISTIOD), **filters("pasword")))
    assert said["other"].startswith("FAILED: filter basic_auth: canary.istio-system refuses it: ")
    assert said["canary"].startswith("FAILED: envoy_filters: found that other failed, which speaks for canary too")
    assert accepted(fleet) == [PASSWORD] * 3
    assert refused(fleet)


def test_the_gateway_of_files_then_the_canary_then_all(fleet: Fleet) -> None:
    checked = fleet.play(BOOK, "--check", **CHANGE)
    assert checked.startswith("0\n"), checked
    assert accepted(fleet) == [PASSWORD] * 3

    pids = [site.pid() for site in fleet.sites.values()]
    output = fleet.play(BOOK, **CHANGE)
    assert output.startswith("0\n"), output
    assert accepted(fleet) == [NEW] * 3
    assert refused(fleet)
    assert told(output) == dict.fromkeys(NAMES, "done")
    assert NEW not in output
    assert [site.pid() for site in fleet.sites.values()] == pids
    again = fleet.play("playbooks/site.yml", **CHANGE)
    assert again.startswith("0\n"), again
    assert fleet.changed(again) == dict.fromkeys(NAMES, 0)

    # Only halted: who has it already keeps it.
    probes, ports = probing(fleet, "canary")
    said = restored(fleet.play(BOOK, rollout_probe=probes, ports=ports))
    assert accepted(fleet) == [PASSWORD, NEW, PASSWORD]
    assert (said["files"], said["other"]) == ("done", "done, but only for the canary")
    assert said["canary"].startswith("FAILED: Status code was 401")
    assert refused(fleet)
