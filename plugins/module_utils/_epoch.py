# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hot restart as a transaction: validate, put the unit in place, reload, confirm; or all as it was, and why.

What the new epoch will read is on disk already. So the gateway stays locked from the first look to the last.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import subprocess
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _hot_restart, _library
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin, Server
from ansible_collections.moe.gateway.plugins.module_utils._arguments import opened
from ansible_collections.moe.gateway.plugins.module_utils._decision import Confirmed, Process
from ansible_collections.moe.gateway.plugins.module_utils._engines import (
    DYNAMIC_MODULE,
    Extension,
    library_of,
    type_name,
    with_library,
)
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._history import Change
from ansible_collections.moe.gateway.plugins.module_utils._kinds import CLUSTERS, LISTENERS, Kind, filter_kind
from ansible_collections.moe.gateway.plugins.module_utils._log import Log, reasons
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version, mask
from ansible_collections.moe.gateway.plugins.module_utils._store import Files, Record, Shelf, now
from ansible_collections.moe.gateway.plugins.module_utils._transaction import Desired, Gateway
from ansible_collections.moe.gateway.plugins.module_utils._twin import Twin
from ansible_collections.moe.gateway.plugins.module_utils._validator import Validator

#: Seconds for each answer of Envoy's, for a throwaway Envoy, and between two looks.
_ANSWER = 5.0
_VALIDATION = 30.0
_PAUSE = 0.1
#: Envoy loads a module of another ABI all the same, and says so in its log.
_ABI = re.compile(r"[^\n]*ABI version[^\n]*")


class Revision(t.NamedTuple):
    """What one kind of configuration is to be after the hot restart."""

    kind: Kind
    content: t.Any
    view: dict[str, t.Any]
    #: the version that is on disk
    version: Version
    #: whether only the new Envoy is to read it
    differs: bool = False


def run(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    if write:
        # Without the lock, so that rotations go on meanwhile.
        _wait_until_drained(params["run_dir"], params["wait"])
    options = {name: params[name] for name in ("directory", "admin_socket", "origin", "keep")}
    with opened({**options, "envoy_binary": None, "owner": None, "timeout": _ANSWER}, write) as gateway:
        server, peer = gateway.admin.server(), gateway.admin.peer()
        supervisor = _supervisor(params["run_dir"], peer.process.pid, write)
        twin = Twin(gateway.store)
        if write:
            twin.recover(peer.process)
        revisions = [_with_extension(gateway, item, params["extensions"], write) for item in _settled(gateway)]
        secrets = [text for revision in revisions for text in _texts(revision.content)]
        # In check mode the new binary may not be there yet.
        if write or os.path.exists(params["envoy_binary"]):
            _validate(params, Validator(params["envoy_binary"], peer.uid, peer.gid, _VALIDATION), revisions)
        unit = _Unit(params, supervisor["serving"]["start"])
        result = {
            "changed": True,
            "restart_epoch": server.restart_epoch + 1,
            "pid": peer.process.pid,
            "previous_pid": peer.process.pid,
            "previous_version": server.version,
            "diff": {"before_header": unit.path, "after_header": unit.path, "before": unit.text, "after": unit.new},
        }
        if not write:
            return result
        log = _Lines(params["service"], server, peer.process.pid)
        with contextlib.ExitStack() as stack:
            if any(revision.differs for revision in revisions):
                _fill(gateway, twin, revisions, peer.process)
                # Whoever waits for the other one finds that it is not the one in place, and waits for this one.
                stack.enter_context(twin.store.locked(_ANSWER, write=True))
                twin.exchange()
                stack.callback(twin.remove)
            else:
                twin = None
            switched = False
            try:
                unit.publish()
                _reload(params, log, secrets)
                switched = True
                server, process = _confirm(params, gateway, revisions, peer.process)
                _note(gateway, revisions, process)
            except (Failure, OSError) as error:
                if twin:
                    twin.exchange()
                failure = _restore(params, unit, supervisor["serving"], switched, _failure(error))
                with contextlib.suppress(OSError):
                    _collect(params["bootstrap"], unit.back, gateway.store.files)
                raise failure from error
            unit.accept()
        _collect(params["bootstrap"], unit.new, gateway.store.files)
        return {**result, "restart_epoch": server.restart_epoch, "pid": process.pid}


def _failure(error: Failure | OSError) -> Failure:
    if isinstance(error, Failure):
        return error
    return Failure("file_error", f"{error.filename}: {error.strerror}.", path=error.filename, errno=error.errno or 0)


def _wait_until_drained(run_dir: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while (_hot_restart.status(run_dir) or {}).get("draining") and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def _supervisor(run_dir: str, pid: int, write: bool) -> dict[str, t.Any]:
    found = _hot_restart.status(run_dir)
    if found is None:
        raise Failure(
            "no_supervisor",
            f"run_dir: no supervisor answers in {run_dir}, so only a restart leads to another Envoy. "
            "Nothing has changed.",
        )
    serving = found.get("serving") or {}
    if serving.get("pid") != pid:
        raise Failure(
            "no_supervisor",
            f"run_dir: the supervisor in {run_dir} looks after the Envoy with PID {serving.get('pid')}, and PID {pid} "
            "is behind admin_socket. Nothing has changed.",
        )
    if found["draining"] and write:
        pids = ", ".join(str(epoch["pid"]) for epoch in found["draining"])
        raise Failure(
            "still_draining",
            f"The Envoy before the last hot restart (PID {pids}) still drains its connections, and a third one would "
            "make it end at once. Try again when it has ended, or shorten envoy_drain_time and "
            "envoy_parent_shutdown_time. Nothing has changed.",
        )
    return found


def _settled(gateway: Gateway) -> list[Revision]:
    """What was confirmed last of each kind. That is what runs and what is on disk, if need be from now on.

    An edit in place, which the Envoy that runs does not see, would be what the next one starts with.
    """
    revisions = []
    kinds = [CLUSTERS, LISTENERS]
    with contextlib.suppress(OSError):
        for name in sorted(gateway.store.files.names(os.path.join(gateway.store.directory, "filters"))):
            if name.endswith(".json"):
                with contextlib.suppress(Failure):
                    kinds.append(filter_kind(name[: -len(".json")]))
    for kind in kinds:
        shelf = gateway.shelf(kind)
        record = shelf.record()
        if record is None:
            continue
        content = shelf.last_good(record)
        desired = Desired(content, record.view, secrets=tuple(_texts(content)))
        try:
            gateway.execute(gateway.prepare(kind, desired))
        except Failure as failure:
            if kind.filter is not None and failure.code == "wrong_gateway":
                # No listener names it any more.
                continue
            raise
        version = shelf.disk().version or record.confirmed.version
        revisions.append(Revision(kind, content, record.view, version))
    return revisions


def _with_extension(gateway: Gateway, revision: Revision, extensions: dict[str, str], write: bool) -> Revision:
    """The same filter with the extension that it is to have under the new Envoy."""
    path = extensions.get(revision.kind.filter or "")
    if path is None or type_name(revision.content) != DYNAMIC_MODULE or library_of(revision.content) == path:
        return revision
    # In check mode nobody has put it there.
    if write or os.path.exists(path):
        _library.check_file(Extension.at(path, f"extensions.{revision.kind.filter}"))
    content = with_library(revision.content, path)
    shelf = gateway.shelf(revision.kind)
    version = Version(shelf.digest(content), shelf.next_generation(shelf.record()))
    return Revision(revision.kind, content, {**revision.view, "extension": path}, version, True)


def _fill(gateway: Gateway, twin: Twin, revisions: list[Revision], process: Process) -> None:
    twin.make(process)
    for revision in revisions:
        if revision.differs:
            try:
                Shelf(twin.store, revision.kind, gateway.key).place(revision.content, revision.version)
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
            shelf.confirm(Record(Confirmed(version, process, 0, 0), view, now(), change), gateway.keep)


def _texts(content: t.Any) -> t.Iterator[str]:
    """Every text that may be a secret."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in ("@type", "filename", "name", "filter_name"):
                yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
    elif isinstance(content, str) and content:
        try:
            inside = json.loads(content)
        except ValueError:
            inside = None
        if isinstance(inside, (dict, list)):
            yield from _texts(inside)
        elif len(content) > 3:
            yield content


def _validate(params: dict[str, t.Any], validator: Validator, revisions: list[Revision]) -> None:
    """Raise ``refused_in_validation`` or ``wrong_abi`` unless the new Envoy loads all that it will read."""
    clusters = next((revision.content for revision in revisions if revision.kind is CLUSTERS), [])
    for kind, content, *_rest in revisions:
        said = validator.check(kind.scratch(content, clusters), kind.name, tuple(_texts(content)))
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

    def publish(self) -> None:
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
                    running = admin.running(kind, peer.process)
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
            question = {"do": "reload", "force": True, "command": serving["command"], "start": serving["start"]}
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
