# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges whether a host may become, or stay, a gateway. Pure: a table of cases tests it."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

#: A unit that the role envoy wrote begins with it.
MARK = "# Written by Ansible."
_STARTS_ENVOY = re.compile(r"^ExecStart=[-@:+!]*(?:[^\s/]*/)*(envoy[^\s/]*)(?:\s|$)", re.MULTILINE)


class Taker(t.NamedTuple):
    """A process of somebody else that listens where Envoy is to."""

    address: str
    port: int
    #: ``None`` if this user may not know
    pid: int | None
    command: str


class Unit(t.NamedTuple):
    """A unit of systemd that runs an Envoy which is not ours."""

    name: str
    #: where it was seen: ``enabled``, ``active`` or ``in the way``
    how: str
    #: of its file, or the PID of what it runs
    where: str


class Place(t.NamedTuple):
    """What a file system has to hold, and can."""

    key: str
    path: str
    device: int
    needed: int
    free: int


class Host(t.NamedTuple):
    """What was found there; what was not asked for is empty."""

    takers: t.Sequence[Taker] = ()
    #: who is behind the admin socket, unless it is this gateway's Envoy
    stranger: Taker | None = None
    units: t.Sequence[Unit] = ()
    #: ``None`` where systemd does not run
    systemd: int | None = None
    #: seconds by which its clock is ahead of the controller's
    ahead: float = 0.0
    places: t.Sequence[Place] = ()


class Wanted(t.NamedTuple):
    """What it has to be."""

    #: (key, port) of everything that Envoy is to listen on
    ports: t.Sequence[tuple[str, int]] = ()
    admin_socket: str = ""
    #: the oldest systemd that does; ``None`` where none is needed
    systemd: int | None = None
    #: seconds; 0 if the clock doesn't matter
    tolerance: float = 0.0
    #: the variable that says what runs it
    manager: str = "envoy_service_manager"


def service(cgroup: str) -> str:
    """The service of systemd that ``/proc/PID/cgroup`` tells; empty if the process is in none.

    The innermost counts: a machine may run this host, or a user's services, in a service of its own.
    """
    for line in cgroup.splitlines():
        found = re.findall(r"(?<=/)[^/]+\.service(?=/|$)", line)
        if found:
            return found[-1]
    return ""


def starts_envoy(unit: str) -> bool:
    """Whether the text of a unit starts a program that is called Envoy, and is not of ours."""
    return not unit.startswith(MARK) and _STARTS_ENVOY.search(unit) is not None


def judge(host: Host, wanted: Wanted) -> list[Failure]:
    """Every reason against it."""
    problems = [*_takers(host, wanted), *_units(host, wanted.manager), *_places(host)]
    if wanted.systemd is not None and (host.systemd or 0) < wanted.systemd:
        problems.append(
            _problem(
                "systemd_too_old" if host.systemd else "no_systemd",
                wanted.manager,
                f"systemd {host.systemd}" if host.systemd else "a host that systemd does not run",
                f"systemd {wanted.systemd} or newer",
                "Upgrade the host.",
            )
        )
    if wanted.tolerance and abs(host.ahead) > wanted.tolerance:
        way = "ahead of" if host.ahead > 0 else "behind"
        problems.append(
            _problem(
                "clock_off",
                "envoy_clock_tolerance",
                f"a clock {abs(host.ahead):.0f} s {way} the controller's",
                f"{wanted.tolerance:g} s at most",
                "Certificates and credentials end by it. Let the host or the controller keep time (NTP).",
            )
        )
    return problems


def _problem(code: str, key: str, found: str, expected: str, fix: str) -> Failure:
    return Failure(code, f"{key}: found {found}, expected {expected}. {fix}", key=key, found=found, expected=expected)


def _who(taker: Taker) -> str:
    return f"PID {taker.pid} ({taker.command})" if taker.pid else "a process of another user"


def _takers(host: Host, wanted: Wanted) -> t.Iterator[Failure]:
    for taker in host.takers:
        key = next((key for key, port in wanted.ports if port == taker.port), "envoy_filters_listeners")
        yield _problem(
            "port_taken",
            key,
            f"{_who(taker)} on {taker.address}:{taker.port}",
            "a port that no other process listens on",
            "End it, or choose another port.",
        )
    if host.stranger:
        yield _problem(
            "admin_taken",
            "envoy_admin_socket",
            f"{_who(host.stranger)} behind {wanted.admin_socket}",
            "nobody, or the Envoy of this gateway",
            "End it, or choose another socket.",
        )


def _units(host: Host, manager: str) -> t.Iterator[Failure]:
    for unit in host.units:
        fix = f"Disable and stop it (systemctl disable --now {unit.name}), or mask it."
        if unit.how == "in the way":
            fix = "Move it away."
        yield _problem(
            "foreign_unit",
            manager,
            f"{unit.name} {unit.how} ({unit.where}), which is not of this role",
            "no other unit of this name" if unit.how == "in the way" else "no other unit that runs Envoy",
            fix,
        )


def _places(host: Host) -> t.Iterator[Failure]:
    for device in sorted({place.device for place in host.places}):
        places = [place for place in host.places if place.device == device]
        needed, free = sum(place.needed for place in places), min(place.free for place in places)
        if needed > free:
            first = max(places, key=lambda place: place.needed)
            yield _problem(
                "no_space",
                first.key,
                f"{free >> 20} MiB free for {', '.join(place.path for place in places)}",
                f"{needed >> 20} MiB or more",
                "Make room, or choose another place.",
            )


def refusal(problems: list[Failure]) -> Failure:
    """All of them as one failure."""
    return Failure(
        "preflight",
        " ".join(problem.message for problem in problems) + " Nothing has changed.",
        problems=[problem.as_dict() for problem in problems],
    )
