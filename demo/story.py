# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job, and a proof of each claim about it."""

from __future__ import annotations

import secrets
import typing as t

from demo import BUILD, ROOT
from demo.http import HOST, PATH, Connection, get, once
from demo.load import Counts, Load
from demo.place import EXTENSION, FILTER, Facts, Place, SetupError, tail
from demo.playbook import Played
from demo.report import Report
from demo.watch import Watch

#: Open connections on which the old credential is sent all the time.
_WATCHED = 4
#: Milliseconds after which a change counts as not live; it takes a few.
_LIVE = 1000


class Passwords(dict[str, str]):
    """By user. foo's changes; alice is everybody else: hers stays, so none of her requests may fail."""

    def variables(self, key: str = "password") -> dict[str, t.Any]:
        users = [{"username": name, key: f"${{secret.{name}_password}}"} for name in self]
        return {
            "envoy_filters": [
                {
                    "name": FILTER,
                    "engine": "dynamic_module",
                    "extension": "basic_auth",
                    "config": {"realm": "httpbin", "users": users},
                }
            ],
            "envoy_filters_secrets": {f"{name}_password": value for name, value in self.items()},
        }


class Traffic:
    """alice's requests during one chapter of the story."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._before = load.counts()

    def claim(self, report: Report) -> None:
        counts: Counts = self._load.counts().since(self._before)
        why = ", ".join(f"{count} x {why}" for why, count in counts.failures.items())
        report.claim(
            "requests failed meanwhile",
            counts.requests > 0 and counts.failed == 0,
            f"{counts.failed} of {counts.requests}, on {self._load.connections} busy connections"
            + (f": {why}" if why else ""),
        )


def run(report: Report) -> None:
    """Tell the story in a folder of its own, beside whatever ``up`` has left running."""
    place = Place.new(BUILD / "demo")
    try:
        _tell(report, place)
    finally:
        place.remove_sockets()


def _tell(report: Report, place: Place) -> None:
    report.title("moe.gateway: a gateway, and a credential that changes while it serves")
    report.note(f"what Ansible prints goes to {place.log.relative_to(ROOT)}")
    old = Passwords(foo="bar", alice=secrets.token_urlsafe(12))
    new = Passwords(old, foo=secrets.token_urlsafe(12))
    _set_up(report, place, old)
    quiet = Connection(place.port)
    _first_requests(report, place, quiet)
    report.doing("opening connections")
    load = Load(place.port, f"alice:{old['alice']}")
    try:
        _rotate(report, place, load, quiet, old, new)
        _bad_configuration(report, place, load, new)
        _damaged_extension(report, place, load, new)
    finally:
        load.stop()
        quiet.close()


def _set_up(report: Report, place: Place, passwords: Passwords) -> None:
    report.section("Set up: ansible-playbook moe.gateway.site -i inventory/local")
    report.doing("building the extension")
    said = place.build_extension()
    report.claim("extension, written in Go", True, said)
    report.doing("starting httpbin")
    place.start_upstream()
    report.claim("upstream, httpbin under gunicorn", True, f"127.0.0.1:{place.upstream_port}")
    report.doing("running site")
    site = place.play("site", **passwords.variables())
    if not site.succeeded:
        raise SetupError("The playbook site failed.", site.reason or tail(site.output))
    facts = place.facts()
    report.claim(
        "gateway, set up by site", True, f"Envoy {facts.version}, 127.0.0.1:{place.port}, in {site.seconds:.1f} s"
    )
    report.doing("running site again")
    again = place.play("site", **passwords.variables())
    report.claim(
        "site a second time: nothing to change", again.succeeded and not again.changed, f"changed={again.changed}"
    )


def _first_requests(report: Report, place: Place, quiet: Connection) -> None:
    report.section(f"Ask for http://{HOST}{PATH}")
    for text, credential, expected in (
        ("no credential", None, 401),
        ("foo with a wrong password", "foo:wrong", 401),
        ("foo:bar", "foo:bar", 200),
    ):
        status = quiet.status(get(credential))
        report.claim(text, status == expected, status)


def _rotate(report: Report, place: Place, load: Load, quiet: Connection, old: Passwords, new: Passwords) -> None:
    report.section("Rotate foo's password under load: ansible-playbook moe.gateway.rotate -i inventory/local")
    before = place.facts()
    traffic = Traffic(load)
    watch = Watch(place.port, [get(f"foo:{old['foo']}")] * _WATCHED, place.live, pause=0.001)
    try:
        report.doing("running rotate")
        rotate = place.play("rotate", **new.variables())
        if not rotate.succeeded:
            raise SetupError("The playbook rotate failed.", rotate.reason or tail(rotate.output))
        old_status = quiet.status(get(f"foo:{old['foo']}"))
        new_status = once(place.port, f"foo:{new['foo']}")
    finally:
        watch.stop()
    after = place.facts()
    report.claim("foo with the new password", new_status == 200, new_status)
    report.claim("foo with the old one, on the very same connection", old_status == 401, old_status)
    _claim_effect(report, watch)
    _claim_untouched(report, before, after)
    report.claim("Envoy runs another revision", after.revision != before.revision, after.revision)
    traffic.claim(report)
    report.note(f"rotate took {rotate.seconds:.1f} s, nearly all of it Ansible's start")


def _claim_effect(report: Report, watch: Watch) -> None:
    """From the rename of the file, as the kernel tells it, to the answer that a client got. See ``demo.watch``."""
    changes = watch.changes()
    refused = {answer.connection: answer for answer in changes if answer.status == 401}
    once_each = len(watch.published) == 1 and len(refused) == len(changes) == _WATCHED
    milliseconds = [(answer.received - watch.published[0]) * 1000 for answer in refused.values()] if once_each else []
    report.claim(
        f"published to refused, on all of {_WATCHED} open connections",
        once_each and max(milliseconds) < _LIVE,
        f"{max(milliseconds):.1f} ms" if once_each else f"{len(refused)} of {_WATCHED} refused",
    )


def _claim_untouched(report: Report, before: Facts, after: Facts) -> None:
    same = (after.pid, after.started) == (before.pid, before.started)
    report.claim("same process", same, f"PID {after.pid}" if same else f"PID {before.pid}, then {after.pid}")
    report.claim("same restart_epoch", after.restart_epoch == before.restart_epoch, after.restart_epoch)
    report.claim("uptime grown", after.uptime > before.uptime, f"{before.uptime} s to {after.uptime} s")
    drained = after.drained - before.drained
    report.claim("listeners drained", drained == 0, drained)


def _bad_configuration(report: Report, place: Place, load: Load, passwords: Passwords) -> None:
    report.section("A bad configuration: a misspelt key")
    variables = passwords.variables(key="pasword")
    _refused(report, place, load, passwords, "rotate", variables, "pasword")


def _damaged_extension(report: Report, place: Place, load: Load, passwords: Passwords) -> None:
    report.section("A damaged extension: a copy that broke off half-way")
    damaged = place.folder / "damaged.so"
    data = EXTENSION.read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    variables = passwords.variables() | {"local_extension": str(damaged)}
    _refused(report, place, load, passwords, "site", variables, damaged.name)


def _refused(
    report: Report, place: Place, load: Load, passwords: Passwords, name: str, variables: dict[str, t.Any], word: str
) -> None:
    """Claim that a playbook refuses, with a reason that holds ``word``, and that nobody notices."""
    before, file, traffic = place.facts(), place.live.read_bytes(), Traffic(load)
    report.doing(f"running {name}")
    played: Played = place.play(name, **variables)
    report.claim(f"{name} refuses it, and says why", not played.succeeded and word in played.reason)
    report.quote(played.reason or tail(played.output, 3))
    after = place.facts()
    report.claim(
        "Envoy runs the same revision",
        after.revision == before.revision and place.live.read_bytes() == file,
        after.revision,
    )
    _claim_untouched(report, before, after)
    statuses = once(place.port, f"foo:{passwords['foo']}"), once(place.port)
    report.claim("foo, and no credential", statuses == (200, 401), "{}, {}".format(*statuses))
    traffic.claim(report)
