# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hot restart as a transaction: validate, put the unit in place, reload, confirm; or all as it was, and why.

What the new epoch will read is on disk already. So the gateway stays locked from the first look to the last.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import subprocess
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _hot_restart, _library, _probe
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin, Server
from ansible_collections.moe.gateway.plugins.module_utils._arguments import opened
from ansible_collections.moe.gateway.plugins.module_utils._decision import Confirmed, Process
from ansible_collections.moe.gateway.plugins.module_utils._engines import Extension, library_of
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._history import Change, now
from ansible_collections.moe.gateway.plugins.module_utils._kinds import CLUSTERS
from ansible_collections.moe.gateway.plugins.module_utils._log import Log, reasons
from ansible_collections.moe.gateway.plugins.module_utils._mask import mask
from ansible_collections.moe.gateway.plugins.module_utils._publish import confirm, place
from ansible_collections.moe.gateway.plugins.module_utils._revision import check_secrets
from ansible_collections.moe.gateway.plugins.module_utils._store import Record, Shelf
from ansible_collections.moe.gateway.plugins.module_utils._target import Revision, Target, target, texts
from ansible_collections.moe.gateway.plugins.module_utils._transaction import Gateway
from ansible_collections.moe.gateway.plugins.module_utils._twin import Twin
from ansible_collections.moe.gateway.plugins.module_utils._validator import Validator

#: Seconds for each answer of Envoy's, for a throwaway Envoy, and between two looks.
_ANSWER = 5.0
_VALIDATION = 30.0
_PAUSE = 0.1
#: Envoy loads a module of another ABI all the same, and says so in its log.
_ABI = re.compile(r"[^\n]*ABI version[^\n]*")


def run(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    secrets = check_secrets(params["secrets"])
    probes = _probe.probes(params["probe"], secrets)
    options = {name: params[name] for name in ("directory", "admin_socket", "origin", "keep")}
    deadline = time.monotonic() + params["wait"]
    while True:
        with opened({**options, "envoy_binary": None, "owner": None, "timeout": _ANSWER}, write) as gateway:
            found = target(params, gateway, secrets, write)
            if found.reached(params["start"]):
                purged = [kind.name for kind in found.purged if gateway.purge(kind)]
                return {**_result(found), "changed": bool(purged)}
            if not write or not found.supervisor["draining"] or time.monotonic() >= deadline:
                return _change(params, gateway, found, probes, write)
        # Without the lock, so that rotations go on meanwhile.
        _wait_until_drained(params["run_dir"], deadline)


def _result(found: Target) -> dict[str, t.Any]:
    return {
        "restart_epoch": found.server.restart_epoch,
        "pid": found.peer.process.pid,
        "previous_pid": found.peer.process.pid,
        "previous_version": found.server.version,
        "versions": {item.kind.name: str(item.version) for item in found.revisions},
    }


def _change(
    params: dict[str, t.Any], gateway: Gateway, found: Target, probes: list[_probe.Probe], write: bool
) -> dict[str, t.Any]:
    """Bring the gateway to the target; the result of the module."""
    server, peer, supervisor, twin, revisions, purged = found
    secrets = [text for revision in revisions for text in texts(revision.content)]
    libraries = [library_of(revision.content) for revision in revisions if revision.kind.filter]
    # In check mode the new binary may not be there yet, nor a new extension.
    if write or all(map(os.path.exists, [params["envoy_binary"], *filter(None, libraries)])):
        _validate(params, Validator(params["envoy_binary"], peer.uid, peer.gid, _VALIDATION), revisions)
    unit = _Unit(params, supervisor["serving"]["start"])
    result = {
        **_result(found),
        "changed": True,
        "restart_epoch": server.restart_epoch + 1,
        "diff": [*unit.diff(), *(_diff(gateway, revision) for revision in revisions if revision.differs)],
    }
    if not write:
        return result
    _check_drained(supervisor)
    log = _Lines(params["service"], server, peer.process.pid)
    differs = any(revision.differs for revision in revisions)
    with contextlib.ExitStack() as stack:
        if differs:
            _fill(gateway, twin, revisions, peer.process)
            # Whoever waits for the other one finds that it is not the one in place, and waits for this one.
            stack.enter_context(twin.store.locked(_ANSWER, write=True))
            twin.exchange()
            stack.callback(twin.remove)
        switched = False
        try:
            unit.publish()
            _reload(params, log, secrets)
            switched = True
            server, process = _confirm(params, gateway, revisions, peer.process)
            for probe in probes:
                _probe.run(probe, _ANSWER)
            _note(gateway, revisions, process)
        except (Failure, OSError) as error:
            if differs:
                twin.exchange()
            failure = _restore(params, unit, supervisor["serving"], switched, _failure(error))
            with contextlib.suppress(OSError):
                _collect(params["bootstrap"], unit.back, gateway.store.files)
            raise failure from error
        unit.accept()
    _collect(params["bootstrap"], unit.new, gateway.store.files)
    for kind in purged:
        gateway.purge(kind)
    return {**result, "restart_epoch": server.restart_epoch, "pid": process.pid}


def _failure(error: Failure | OSError) -> Failure:
    if isinstance(error, Failure):
        return error
    return Failure("file_error", f"{error.filename}: {error.strerror}.", path=error.filename, errno=error.errno or 0)


def _wait_until_drained(run_dir: str, deadline: float) -> None:
    while (_hot_restart.status(run_dir) or {}).get("draining") and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def _check_drained(supervisor: dict[str, t.Any]) -> None:
    if supervisor["draining"]:
        pids = ", ".join(str(epoch["pid"]) for epoch in supervisor["draining"])
        raise Failure(
            "still_draining",
            f"The Envoy before the last hot restart (PID {pids}) still drains its connections, and a third one would "
            "make it end at once. Try again when it has ended, or shorten envoy_drain_time and "
            "envoy_parent_shutdown_time. Nothing has changed.",
        )


def _diff(gateway: Gateway, revision: Revision) -> dict[str, t.Any]:
    record = gateway.shelf(revision.kind).record()
    return {
        "before_header": f"{revision.kind.name} {record.confirmed.version if record else ''}".strip(),
        "after_header": f"{revision.kind.name} {revision.version}",
        "before": record.view if record else {},
        "after": revision.view,
    }


def _fill(gateway: Gateway, twin: Twin, revisions: list[Revision], process: Process) -> None:
    twin.make(process)
    for revision in revisions:
        if revision.differs:
            try:
                place(Shelf(twin.store, revision.kind, gateway.key), revision.content, revision.version)
            except Failure:
                twin.remove()
                raise


def _note(gateway: Gateway, revisions: list[Revision], process: Process) -> None:
    """Note the revisions that came with the new Envoy as confirmed."""
    for kind, _content, view, version, differs in revisions:
        if differs:
            shelf = gateway.shelf(kind)
            record = shelf.record()
            previous = str(record.confirmed.version) if record else None
            # A content that was kept is a way back, which `envoy_rollback` takes for done.
            kept = next((item for item in shelf.history() if item.version.digest == version.digest), None)
            change = Change(now(), "published", previous, gateway.origin)
            if kept:
                at = kept.change.at if kept.change else None
                change = change._replace(action="rolled_back", source=str(kept.version), source_at=at)
            confirm(shelf, Record(Confirmed(version, process, 0, 0), view, now(), change), gateway.keep)


def _validate(params: dict[str, t.Any], validator: Validator, revisions: list[Revision]) -> None:
    """Raise ``refused_in_validation`` or ``wrong_abi`` unless the new Envoy loads all that it will read."""
    clusters = next((revision.content for revision in revisions if revision.kind is CLUSTERS), [])
    for kind, content, *_rest in revisions:
        said = validator.check(kind.scratch(content, clusters), kind.name, tuple(texts(content)))
        found = _ABI.search(said)
        if found:
            filename = next(_values(content, "filename"), "its extension")
            reason = re.sub(r"^(\[[^\]]*\] ?)+", "", found.group().strip())
            raise Failure(
                "wrong_abi",
                f"{kind.name}: {filename} is built for another Envoy than {params['version']}: {reason}. Give the "
                "filter an extension that is built for it. Nothing has changed.",
                reason=reason,
                path=filename,
            )


def _values(tree: t.Any, name: str) -> t.Iterator[t.Any]:
    if isinstance(tree, dict):
        if name in tree:
            yield tree[name]
        tree = list(tree.values())
    if isinstance(tree, list):
        for child in tree:
            yield from _values(child, name)


class _Unit:
    """The unit's file, which names all that Envoy starts from: putting it in place decides what a reboot starts."""

    def __init__(self, params: dict[str, t.Any], serving: str) -> None:
        self.path: str = params["unit"]
        self.previous: str = params["previous"]
        self.new: str = params["content"]
        self.text = _text(self.path)
        #: what the Envoy that serves was started from; nothing if that was lost
        self.back = ""
        for text in (self.text, _text(self.previous)):
            if serving and f"{_hot_restart.NAME}={serving}" in text:
                self.back = text
                break

    def diff(self) -> list[dict[str, str]]:
        if self.text == self.new:
            return []
        return [{"before_header": self.path, "after_header": self.path, "before": self.text, "after": self.new}]

    def publish(self) -> None:
        if self.text != self.new:
            if self.back:
                _put(self.previous, self.back)
            _put(self.path, self.new)
        _systemctl("daemon-reload")

    def restore(self) -> None:
        if self.back:
            _put(self.path, self.back)
            _systemctl("daemon-reload")
            self.accept()

    def accept(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.previous)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _put(path: str, text: str) -> None:
    files = Files(os.geteuid(), os.getegid())
    new = os.path.join(os.path.dirname(path), f".new-{os.getpid()}-{os.path.basename(path)}")
    files.create(new, text.encode("utf-8", "surrogateescape"), 0o644)
    files.rename(new, path)
    files.sync_directory(os.path.dirname(path))


def _systemctl(*words: str, timeout: float = 60.0) -> str:
    """What it complains of; empty if it succeeded."""
    try:
        done = subprocess.run(
            ["systemctl", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise Failure("no_systemd", "There is no systemctl on this host.") from None
    except subprocess.TimeoutExpired:
        return f"systemctl {words[0]} takes longer than {timeout:g} s"
    if not done.returncode:
        return ""
    return done.stdout.decode("utf-8", "replace").strip() or f"systemctl {words[0]} ended with {done.returncode}"


class _Lines:
    """What the service logs from now on, into a file or into the journal."""

    def __init__(self, service: str, server: Server, pid: int) -> None:
        self.service = service
        self.file = Log(server.log_path, pid)
        self.since = time.time()

    def reasons(self, secrets: t.Collection[str]) -> str:
        if self.file.start >= 0:
            return mask(self.file.reasons(secrets), secrets)
        command = ["journalctl", f"--unit={self.service}", f"--since=@{self.since:.0f}", "--output=cat", "--no-pager"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            text = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=10, check=False
            ).stdout.decode("utf-8", "replace")
            return mask(reasons(mask(text, secrets)), secrets)
        return ""


def _reload(params: dict[str, t.Any], log: _Lines, secrets: t.Collection[str]) -> None:
    complaint = _systemctl("reload", params["service"], timeout=params["timeout"])
    if not complaint:
        return
    supervisor = _hot_restart.status(params["run_dir"])
    problem = (supervisor or {}).get("problem") or complaint
    reason = log.reasons(secrets)
    raise Failure(
        "refused_by_envoy",
        f"The new Envoy does not serve: {problem}" + (f": {reason}." if reason else "."),
        reason=reason or problem,
    )


def _confirm(
    params: dict[str, t.Any], gateway: Gateway, revisions: list[Revision], previous: Process
) -> tuple[Server, Process]:
    """Wait until the new Envoy serves what is on disk."""
    deadline = time.monotonic() + 2 * _ANSWER
    while True:
        # A connection of its own for each look: the one from before led to the old Envoy.
        admin = Admin(params["admin_socket"], _ANSWER)
        problem = ""
        try:
            server, peer = admin.server(), admin.peer()
            if peer.process == previous:
                problem = "the old one still answers"
            elif server.version != params["version"]:
                problem = f"it is version {server.version}, expected {params['version']}"
            elif server.state != "LIVE":
                problem = f"it is {server.state}"
            else:
                for kind, content, _view, version, _differs in revisions:
                    running = admin.running(kind, peer.process, server.static)
                    if running is None or running.text != str(version) or running.rejected:
                        runs = (running and running.text) or "nothing"
                        problem = f"it runs {runs} as {kind.name}, expected {version}"
                        break
                    path = library_of(content) if kind.filter else None
                    if path:
                        _library.check_loaded(Extension.at(path), peer.process)
            if not problem:
                gateway.admin = admin
                return server, peer.process
        except Failure as failure:
            problem = failure.message
        if time.monotonic() >= deadline:
            raise Failure("not_confirmed", f"The new Envoy is not as it should be: {problem}.")
        time.sleep(_PAUSE)


def _restore(
    params: dict[str, t.Any], unit: _Unit, serving: dict[str, t.Any], switched: bool, failure: Failure
) -> Failure:
    """Put all back as it was, and return the failure to raise."""
    details = dict(failure.details)
    unit.restore()
    what = "A reboot starts the old one too." if unit.back else f"What a reboot starts is still the new {unit.path}."
    try:
        if switched or not _answers(params["admin_socket"]):
            what_served = {name: serving[name] for name in ("command", "start", "prepare")}
            question = {"do": "reload", "force": True, **what_served}
            problem = _hot_restart.ask(params["run_dir"], question, params["timeout"])["problem"]
            if problem:
                return Failure(failure.code, f"{failure.message} The way back failed: {problem}. {what}", **details)
        details["restored"] = serving["start"]
        return Failure(failure.code, f"{failure.message} The old Envoy is in service. {what}", **details)
    except (OSError, ValueError, Failure) as error:
        return Failure(failure.code, f"{failure.message} The way back failed: {error}. {what}", **details)


def _answers(admin_socket: str) -> bool:
    """Whether an Envoy that serves is behind the admin socket; one that did not become ready has ended by now."""
    try:
        return Admin(admin_socket, _ANSWER).server().state == "LIVE"
    except Failure:
        return False


def _collect(bootstrap: str, unit: str, files: Files) -> None:
    """Remove the bootstraps beside this one that the unit in place does not name, unless that is unknown."""
    for path in glob.glob(os.path.join(glob.escape(os.path.dirname(bootstrap)), "bootstrap-*.json")) if unit else []:
        if path not in unit:
            files.remove(path)
