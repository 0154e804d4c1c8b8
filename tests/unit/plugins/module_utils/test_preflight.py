# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host may become, or stay, a gateway."""

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _preflight
from ansible_collections.moe.gateway.plugins.module_utils._preflight import Host, Place, Taker, Unit, Wanted

MIB = 1 << 20
PORTS = [("envoy_filters_listeners[0].port", 80), ("envoy_filters_listeners[1].port", 443)]
WANTED = Wanted(PORTS, "/run/envoy/admin.sock", 247, 60.0)
GOOD = Host(systemd=252, ahead=2.0, places=[Place("envoy_install_dir", "/opt/envoy", 1, 256 * MIB, 300 * MIB)])
INSTALL = Place("envoy_install_dir", "/opt/envoy", 1, 256 * MIB, 300 * MIB)
CONFIG = Place("envoy_config_dir", "/etc/envoy", 1, 64 * MIB, 300 * MIB)


def problems(host, wanted=WANTED):
    return [(problem.code, problem.message) for problem in _preflight.judge(host, wanted)]


@pytest.mark.parametrize(
    ("host", "code", "message"),
    [
        (
            {"takers": [Taker("0.0.0.0", 443, 17, "/usr/sbin/nginx")]},
            "port_taken",
            "envoy_filters_listeners[1].port: found PID 17 (/usr/sbin/nginx) on 0.0.0.0:443, expected a port "
            "that no other "
            "process listens on. End it, or choose another port.",
        ),
        (
            {"takers": [Taker("::", 80, None, "")]},
            "port_taken",
            "envoy_filters_listeners[0].port: found a process of another user on :::80, expected a port that no other "
            "process listens on. End it, or choose another port.",
        ),
        (
            {"stranger": Taker("", 0, 18, "python3")},
            "admin_taken",
            "envoy_admin_socket: found PID 18 (python3) behind /run/envoy/admin.sock, expected nobody, or the "
            "Envoy of this "
            "gateway. End it, or choose another socket.",
        ),
        (
            {"units": [Unit("proxy.service", "enabled", "/lib/systemd/system/proxy.service")]},
            "foreign_unit",
            "envoy_service_manager: found proxy.service enabled (/lib/systemd/system/proxy.service), which is "
            "not of this "
            "role, expected no other unit that runs Envoy. Disable and stop it (systemctl disable --now "
            "proxy.service), or "
            "mask it.",
        ),
        (
            {"units": [Unit("envoy.service", "in the way", "/etc/systemd/system/envoy.service")]},
            "foreign_unit",
            "envoy_service_manager: found envoy.service in the way (/etc/systemd/system/envoy.service), which "
            "is not of this "
            "role, expected no other unit of this name. Move it away.",
        ),
        (
            {"systemd": 241},
            "systemd_too_old",
            "envoy_service_manager: found systemd 241, expected systemd 247 or newer. Upgrade the host.",
        ),
        (
            {"systemd": None},
            "no_systemd",
            "envoy_service_manager: found a host that systemd does not run, expected systemd 247 or newer. "
            "Upgrade the host.",
        ),
        (
            {"ahead": 61.0},
            "clock_off",
            "envoy_clock_tolerance: found a clock 61 s ahead of the controller's, expected 60 s at most. "
            "Certificates and "
            "credentials end by it. Let the host or the controller keep time (NTP).",
        ),
        (
            {"ahead": -7200.0},
            "clock_off",
            "envoy_clock_tolerance: found a clock 7200 s behind the controller's, expected 60 s at most. "
            "Certificates and "
            "credentials end by it. Let the host or the controller keep time (NTP).",
        ),
        (
            {"places": [INSTALL, CONFIG]},
            "no_space",
            "envoy_install_dir: found 300 MiB free for /opt/envoy, /etc/envoy, expected 320 MiB or more. Make room, or "
            "choose another place.",
        ),
        (
            {"places": [INSTALL, CONFIG._replace(device=2, free=10 * MIB)]},
            "no_space",
            "envoy_config_dir: found 10 MiB free for /etc/envoy, expected 64 MiB or more. Make room, or "
            "choose another place.",
        ),
    ],
)
def test_each_reason(host, code, message):
    assert problems(GOOD._replace(**host)) == [(code, message)]


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ({}, {}),
        ({"ahead": 60.0}, {}),
        ({"ahead": -1e9}, {"tolerance": 0.0}),
        ({"systemd": 247}, {}),
        ({"systemd": None}, {"systemd": None}),
        ({"places": []}, {}),
        ({"places": [INSTALL, CONFIG._replace(device=2)]}, {}),
        ({"places": [INSTALL._replace(free=256 * MIB)]}, {}),
    ],
)
def test_a_host_that_will_do(host, wanted):
    assert problems(GOOD._replace(**host), WANTED._replace(**wanted)) == []


def test_what_is_no_envoy_is_called_by_its_own_name():
    host = GOOD._replace(units=[Unit("istiod.service", "in the way", "/etc/systemd/system/istiod.service")])
    ((_code, message),) = problems(host, WANTED._replace(manager="the role istiod"))
    assert message.startswith("the role istiod: found istiod.service in the way")


def test_all_reasons_at_once():
    host = GOOD._replace(takers=[Taker("::", 80, 1, "a"), Taker("::", 443, 2, "b")], ahead=99.0, systemd=1)
    found = _preflight.judge(host, WANTED)
    assert [problem.code for problem in found] == ["port_taken", "port_taken", "systemd_too_old", "clock_off"]
    failure = _preflight.refusal(found)
    assert failure.code == "preflight"
    assert failure.message.endswith("keep time (NTP). Nothing has changed.")
    assert [problem["code"] for problem in failure.details["problems"]] == [problem.code for problem in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ExecStart=/usr/bin/envoy -c /etc/envoy/envoy.yaml", True),
        ("ExecStart=envoy", True),
        ("ExecStart=-/opt/envoy-1.40.0 -c x", True),
        ("[Service]\nUser=x\nExecStart=@/usr/local/bin/envoy envoy\n", True),
        ("ExecStart=/usr/bin/python3 /srv/envoy", False),
        ("ExecStart=/usr/bin/nginx", False),
        ("Description=envoy\nExecStart=/bin/true", False),
        ("ExecStart=/usr/bin/not-envoy", False),
        (_preflight.MARK + "\nExecStart=/opt/envoy/envoy-1.40.0", False),
    ],
)
def test_a_unit_that_starts_envoy(line, expected):
    assert _preflight.starts_envoy(line) is expected


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("0::/system.slice/envoy.service\n", "envoy.service"),
        ("0::/system.slice/envoy.service/sub\n", "envoy.service"),
        ("0::/system.slice/podman.service/libpod-1/system.slice/envoy.service\n", "envoy.service"),
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/edge.service\n", "edge.service"),
        ("12:cpu:/\n1:name=systemd:/system.slice/envoy.service\n0::/\n", "envoy.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_the_service_of_a_process(cgroup, expected):
    assert _preflight.service(cgroup) == expected
