# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's gateway left running for a person to play with, and its end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ansible_collections.moe.gateway.plugins.module_utils._detached import Detached
from demo import BUILD, ROOT
from demo.http import HOST, PATH, once
from demo.place import Place, SetupError, tail
from demo.playbook import play, write_private
from demo.processes import end, started
from demo.report import Report

_FOLDER = BUILD / "up"
_STATE = _FOLDER / "state.json"


def up(report: Report) -> None:
    """Set up a gateway and leave it running."""
    state = _state()
    if state and started(state["upstream"]["pid"]) == state["upstream"]["started"]:
        report.title("It is up already.")
        _explain(report, state["port"])
        return
    _stop(state)
    place = Place.new(_FOLDER)
    try:
        _set_up(report, place)
    except BaseException:
        _STATE.unlink(missing_ok=True)
        place.remove_sockets()
        raise


def _set_up(report: Report, place: Place) -> None:
    _write_variables(place)
    report.doing("building the extension")
    place.build_extension()
    report.doing("starting httpbin")
    upstream = place.start_upstream()
    state = {
        "port": place.port,
        "sockets": str(place.sockets),
        "upstream": {"pid": upstream.pid, "started": started(upstream.pid)},
    }
    write_private(_STATE, json.dumps(state))
    report.doing("running site")
    site = play("site", _variables(place), place.log)
    if not site.succeeded:
        raise SetupError("The playbook site failed.", site.reason or tail(site.output))
    if once(place.port, "foo:bar") != 200:
        raise SetupError("The gateway is set up, but it does not let foo:bar in.")
    report.title(f"A gateway runs, with httpbin behind it (in {site.seconds:.0f} s).")
    _explain(report, place.port)


def down(report: Report) -> None:
    """Stop what ``up`` left running; nothing if there is none."""
    state = _state()
    _stop(state)
    report.title("The gateway and httpbin are stopped." if state else "Nothing is up.")


def _stop(state: dict | None) -> None:
    if state:
        sockets = Path(state["sockets"])
        envoy = Detached("", str(sockets / "envoy.lock"), "", str(sockets / "admin.sock"), 10)
        pid = envoy.pid()
        if pid is not None:
            envoy.stop(pid)
        end(state["upstream"]["pid"], state["upstream"]["started"])
        shutil.rmtree(sockets, ignore_errors=True)
    shutil.rmtree(_FOLDER, ignore_errors=True)


def _state() -> dict | None:
    try:
        return json.loads(_STATE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _variables(place: Place) -> Path:
    return place.folder / "variables.yml"


def _write_variables(place: Place) -> None:
    lines = ["# What this gateway sets of inventory/local. Change foo's password and run the playbook rotate."]
    lines += ["envoy_filters_secrets:", "  foo_password: bar"]
    lines += [f"{name}: {json.dumps(value)}" for name, value in place.variables().items()]
    write_private(_variables(place), "\n".join([*lines, ""]))


def _explain(report: Report, port: int) -> None:
    url = f"http://{HOST}:{port}{PATH}"
    curl = f"curl -i --resolve {HOST}:{port}:127.0.0.1"
    folder = _FOLDER.relative_to(ROOT)
    for title, commands in (
        ("Ask, without and with a credential:", [f"{curl} {url}", f"{curl} -u foo:bar {url}"]),
        (
            f"Rotate: change foo_password in {folder}/variables.yml, then",
            [f"build/venv/bin/ansible-playbook moe.gateway.rotate -i inventory/local -e @{folder}/variables.yml"],
        ),
        (
            "Look at Envoy:",
            [
                f"curl --unix-socket {_state()['sockets']}/admin.sock http://envoy/config_dump",
                f"less {folder}/envoy.log",
            ],
        ),
        ("Stop it:", ["make down"]),
    ):
        report.section(title)
        for command in commands:
            report.note(command)
