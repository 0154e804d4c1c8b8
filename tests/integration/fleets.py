# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets that are made up, of any size, in the form in which envoy_info tells of each gateway."""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._fleet import Host

NOW = "2030-01-31T12:00:00Z"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def change(at: str = "2030-01-31T09:12:00Z", action: str = "published", **more: t.Any) -> dict[str, t.Any]:
    origin = {"by": "alice@ops1", "play": "Rotate credentials", "reason": "CHG-1207"}
    return {"at": at, "action": action, "previous": None, "origin": origin, "source": None, "source_at": None, **more}


def item(host: str, name: str, **more: t.Any) -> dict[str, t.Any]:
    """A filter, or all listeners, or all clusters."""
    version, old = f"{digest(host + name)[:16]}-12", f"{digest(host + name + 'old')[:16]}-11"
    return {
        "name": name,
        "path": f"/etc/envoy/xds/filters/{name}.json",
        "running_version": version,
        "disk_version": version,
        "disk_problem": None,
        "confirmed_version": version,
        "confirmed_at": NOW,
        "in_service": True,
        "closed": False,
        "expiries": [],
        "extension": None,
        "change": change(previous=old),
        "generations": [
            {"version": version, "change": change(previous=old)},
            {"version": old, "change": change("2030-01-02T16:40:00Z", origin={})},
        ],
        "desired_digest": version.partition("-")[0],
        "action": "none",
        "found": [],
        "counters": {"attempts": 12, "rejected": 0, "failed": 0},
        **more,
    }


def look(host: str, version: str = "1.40.0", state: str = "LIVE", **of_filter: t.Any) -> dict[str, t.Any]:
    """What a gateway tells that is as it should be, but for what is given of its filter."""
    sha256 = digest("basic_auth")
    extension = {"path": f"/opt/envoy/extensions/basic_auth-{sha256}.so", "sha256": sha256, "loaded": True}
    filter_ = item(host, "basic_auth", **{"extension": extension, **of_filter})
    return {
        "envoy": {
            "version": version,
            "state": state,
            "restart_epoch": 0,
            "uptime_s": int(digest(host)[:5], 16),
            "pid": 4711,
            "node_id": host,
        },
        "listeners": [{"name": "ingress", "address": "0.0.0.0:443", "filters": ["basic_auth"]}],
        "filters": [filter_],
        "resources": [item(host, name, generations=[]) for name in ("clusters", "listeners")],
        "libraries": [{"path": extension["path"], "deleted": False}],
        "counters": {
            "http.ingress.downstream_rq_total": int(digest(host)[5:11], 16),
            "http.ingress.downstream_cx_active": 31,
            "http.admin.downstream_rq_total": 9,
            "dynamicmodulescustom.basic_auth.allowed": 1000,
            "listener_manager.total_listeners_draining": 0,
        },
    }


def expiry(at: str, name: str = "foo") -> list[dict[str, str]]:
    return [{"path": "config.users[0].not_after", "name": name, "at": at}]


#: A way in which a gateway may be, by the state that it is in then.
WAYS: dict[str, t.Callable[[str], dict[str, t.Any]]] = {
    "ok": look,
    "expiring": lambda host: look(host, expiries=expiry("2030-02-03T00:00:00Z")),
    "expired": lambda host: look(host, expiries=expiry("2030-01-30T00:00:00Z")),
    "drifted": lambda host: look(
        host,
        in_service=False,
        disk_version=None,
        disk_problem="had been changed by somebody else: its 5 bytes are not JSON",
        found=["the file had been changed by somebody else: its 5 bytes are not JSON"],
        action="healed",
    ),
    "closed": lambda host: look(host, closed=True, extension=None, desired_digest="0" * 16, change=None),
    "down": lambda host: {
        "msg": "admin_socket: no Envoy answers at /run/envoy/admin.sock: there is no such socket.",
        "failure": {"code": "envoy_down"},
    },
    "unknown": lambda host: {
        "msg": "admin_socket: /run/envoy/admin.sock may not be used by this user. Run as Envoy's user, or with become.",
        "failure": {"code": "admin_denied"},
    },
    "unreachable": lambda host: {
        "unreachable": True,
        "msg": "Failed to connect to the host via ssh: connect to host 192.0.2.7 port 22: Connection timed out",
    },
}


def fleet_of(size: int) -> list[Host]:
    """Most are as they should be; every state occurs, if there is room for it."""
    others = [state for state in WAYS if state != "ok"]
    hosts = []
    for number in range(size):
        name = f"gateway{number + 1:03}.{('ams', 'fra', 'iad', 'sin')[number % 4]}.example.com"
        turn, rest = divmod(number * 7, max(size, 20))
        state = others[number // 23 % len(others)] if number % 23 == 22 else "ok"
        if size < 20:
            state = ["ok", "ok", "drifted", "expiring", "unreachable"][number % 5]
        told = WAYS[state](name)
        if state == "ok" and number % 9 == 4:
            told = look(name, version="1.39.3")
        hosts.append(Host(name, told))
    return hosts
