# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps one Envoy in service, and brings it to another binary, bootstrap or command line by hot restart.

usage: supervisor.py run --run-dir DIR --admin SOCKET [OPTION...] -- ENVOY [OPTION...]
       supervisor.py reload --run-dir DIR [--prepare COMMAND] [--force] -- ENVOY [OPTION...]
       supervisor.py status --run-dir DIR

``run`` is for a service manager. ``reload`` asks the one that runs for another epoch, with this command and with
MOE_GATEWAY_START of this environment, and ends once that serves, or with 1 and the reason if the old one still does.

All that is decided is decided by ``decide``, which is pure. Needs Python 3.9 and its standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import selectors
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
import typing as t

#: Of what ``run`` and ``reload`` say to each other. Another number means that only a full restart helps.
PROTOCOL = 1
#: The variable that names what an Envoy was started from.
START = "MOE_GATEWAY_START"


class Command(t.NamedTuple):
    """What an Envoy is started from."""

    words: tuple[str, ...]
    start: str = ""
    #: a command to run before, each time
    prepare: tuple[str, ...] = ()


class Epoch(t.NamedTuple):
    """One Envoy process."""

    #: which start this was; never used again
    key: int
    #: Envoy's ``--restart-epoch``, used again after one that didn't become ready
    number: int
    command: Command


class State(t.NamedTuple):
    serving: Epoch | None = None
    #: not ready yet
    starting: Epoch | None = None
    #: no longer taking new connections
    draining: tuple[Epoch, ...] = ()
    #: why the last reload failed, while ``starting`` only brings back what served before
    refused: str = ""
    #: ``starting`` was not ready in its time
    late: bool = False
    #: ``starting`` is the first, and has no time limit, since it waits for its control plane
    waiting: bool = False
    #: the status to leave with once no Envoy is left
    leaving: int | None = None
    #: how many were started
    starts: int = 0

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        return tuple(epoch for epoch in (*self.draining, self.serving, self.starting) if epoch)


# Events


class Begin(t.NamedTuple):
    command: Command


class Reload(t.NamedTuple):
    command: Command
    #: also while another epoch drains, whose connections this closes
    force: bool = False
    #: why no hot restart leads to that command
    problem: str = ""


class Live(t.NamedTuple):
    """An epoch says on the admin socket that it serves."""

    key: int


class Waits(t.NamedTuple):
    """An epoch answers on the admin socket, and does not serve before its control plane tells it what."""

    key: int


class Late(t.NamedTuple):
    """An epoch has not become ready, or has not ended, in its time."""

    key: int


class Ended(t.NamedTuple):
    """A process has ended, or could not be started."""

    key: int
    how: str
    #: whether the serving epoch answers on the admin socket
    admin: bool = True
    #: whether files that only the new epoch was to read are in place just now
    exchanged: bool = False
    #: whether it ended by itself, with status 0, as an epoch does that the next one has told to
    clean: bool = False


class Terminate(t.NamedTuple):
    pass


# Actions


class Start(t.NamedTuple):
    epoch: Epoch


class Unlock(t.NamedTuple):
    """Take the mark away that an epoch leaves in the shared memory if it ends before it is ready."""


class End(t.NamedTuple):
    key: int
    signal: int


class Watch(t.NamedTuple):
    """See that a draining epoch ends in its time."""

    key: int


class Spare(t.NamedTuple):
    """Let an epoch take its time to become ready."""

    key: int


class Ready(t.NamedTuple):
    """Tell the service manager, which wants to know it once."""


class Answer(t.NamedTuple):
    """Tell whoever asked for the reload under way, if somebody did. Empty if it succeeded."""

    problem: str


class Say(t.NamedTuple):
    text: str


class Leave(t.NamedTuple):
    status: int


def decide(state: State, event: t.Any) -> tuple[State, list[t.Any]]:
    """What an event leads to. ``Leave`` is always the last action."""
    if isinstance(event, Begin):
        return _start(state, event.command, 0, ())
    if isinstance(event, Terminate):
        return _leave(state, 0, "told to end")
    if isinstance(event, Reload):
        return _reload(state, event)
    epoch = next((epoch for epoch in state.epochs if epoch.key == event.key), None)
    if epoch is None:
        return state, []
    if isinstance(event, Live):
        return _live(state, epoch)
    if isinstance(event, Waits):
        if epoch != state.starting or state.serving or state.waiting or state.leaving is not None:
            return state, []
        # It serves nothing until then; to end it would not help, and to the service manager it has started.
        said = Say(f"epoch {epoch.number} waits for its control plane, and serves nothing until that answers")
        return state._replace(waiting=True), [said, Spare(epoch.key), Ready()]
    if isinstance(event, Late):
        late = epoch == state.starting
        what = "is not ready in time" if late else "has not ended in time"
        return state._replace(late=late), [Say(f"epoch {epoch.number} {what}"), End(epoch.key, signal.SIGKILL)]
    return _ended(state, epoch, event)


def _start(state: State, command: Command, number: int, before: t.Iterable[t.Any]) -> tuple[State, list[t.Any]]:
    epoch = Epoch(state.starts, number, command)
    return state._replace(starting=epoch, starts=state.starts + 1, late=False), [*before, Start(epoch)]


def _reload(state: State, event: Reload) -> tuple[State, list[t.Any]]:
    problem = event.problem
    if state.leaving is not None:
        problem = "this service is about to end"
    elif state.starting or not state.serving:
        problem = "another epoch is being started already; try again once it serves"
    elif state.draining and not event.force:
        # Envoy has room for two. A third makes the oldest end at once, in the middle of its requests.
        problem = "connections of the last hot restart still drain; try again once that epoch has ended"
    if problem:
        return state, [Say(f"no hot restart: {problem}"), Answer(problem)]
    assert state.serving
    return _start(state._replace(refused=""), event.command, state.serving.number + 1, ())


def _live(state: State, epoch: Epoch) -> tuple[State, list[t.Any]]:
    if epoch != state.starting or state.leaving is not None:
        return state, []
    actions: list[t.Any] = [Say(f"epoch {epoch.number} serves")]
    if state.serving:
        actions += [Watch(state.serving.key), Answer(state.refused)]
        state = state._replace(draining=(*state.draining, state.serving))
    else:
        actions += [*([] if state.waiting else [Ready()]), Answer(state.refused)]
    return state._replace(serving=epoch, starting=None, refused="", waiting=False), actions


def _ended(state: State, epoch: Epoch, event: Ended) -> tuple[State, list[t.Any]]:
    said = Say(f"epoch {epoch.number} {event.how}")
    draining = tuple(other for other in state.draining if other != epoch)
    remaining = state._replace(
        serving=None if epoch == state.serving else state.serving,
        starting=None if epoch == state.starting else state.starting,
        draining=draining,
    )
    if state.leaving is not None:
        return remaining, [said, *([] if remaining.epochs else [Leave(state.leaving)])]
    if epoch in state.draining:
        return remaining, [said]
    if epoch == state.serving and state.starting and event.clean:
        # With a short --parent-shutdown-time-s, the new one may tell it to end before it is itself seen to serve.
        return remaining, [said]
    if epoch == state.serving or not state.serving:
        # Nothing serves any more. The service manager starts all anew, from the files on disk.
        remaining, actions = _leave(remaining, 1, "no Envoy serves")
        return remaining, [said, *actions]
    how = "was not ready in time" if state.late else f"{event.how} before it was ready"
    problem = state.refused or f"epoch {epoch.number} {how}; epoch {state.serving.number} serves on"
    if event.admin or state.refused:
        lost = "" if event.admin else ", without its admin interface: restart the service"
        return remaining._replace(refused=""), [said, Unlock(), Answer(problem + lost)]
    if event.exchanged:
        # Whoever put them there takes them away now, and then asks for the old command.
        lost = "it has no admin interface until it is told to hot restart into itself"
        return remaining, [said, Say(lost), Unlock(), Answer(problem)]
    # The new one has taken the admin interface with it. A hot restart from what serves into the same brings it back.
    actions = [said, Say("bringing the admin interface back"), Unlock()]
    return _start(remaining._replace(refused=problem), state.serving.command, state.serving.number + 1, actions)


def _leave(state: State, status: int, why: str) -> tuple[State, list[t.Any]]:
    if state.leaving is not None:
        return state, []
    actions: list[t.Any] = [Say(why), Answer(why), *(End(epoch.key, signal.SIGTERM) for epoch in state.epochs)]
    if not state.epochs:
        actions.append(Leave(status))
    return state._replace(leaving=status), actions


# From here on input and output.

#: Seconds between two looks at an Envoy that starts.
_PAUSE = 0.05
#: The same, for one that waits for its control plane, and the seconds after which that is not a moment any more.
_LONG_PAUSE = 0.5
_MOMENT = 5.0
#: Seconds to wait for an answer of Envoy's, or for a whole request on the control socket.
_PATIENCE = 1.0
#: Seconds for what prepares a start.
_PREPARATION = 10.0
#: Seconds that an epoch gets beyond its time to drain.
_GRACE = 15.0
#: The end of the shared memory of hot restart version 11.104: two numbers, two mutexes, and flags. The first flag is
#: set from the start of an epoch until it is ready, and stays set if it ends before; no other can start then.
_SHARED = struct.Struct("=QQ80sQ")


class Supervisor:
    """The edge: processes, signals, sockets, clock."""

    def __init__(
        self, run_dir: str, admin: str, directory: str, ready: float, drain: float, patient: bool = False
    ) -> None:
        self.run_dir = run_dir
        self.admin = admin
        self.directory = directory
        self.ready = ready
        self.drain = drain
        self.patient = patient
        self.state = State()
        self.pids: dict[int, int] = {}
        self.deadlines: dict[int, float] = {}
        self.asking: socket.socket | None = None
        self.status: int | None = None
        #: what became of the last reload
        self.problem = ""

    def run(self, command: Command) -> int:
        selector = selectors.DefaultSelector()
        wake, waker = socket.socketpair()
        for end in (wake, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        control = _listen(control_path(self.run_dir))
        selector.register(wake, selectors.EVENT_READ)
        selector.register(control, selectors.EVENT_READ)
        self.handle(Begin(command))
        while self.status is None:
            for key, _events in selector.select(self._pause()):
                if key.fileobj is wake:
                    self._signals(wake)
                else:
                    self._request(control)
            self._look()
        for path in (control_path, shared_memory):
            with contextlib.suppress(OSError, ValueError):
                os.unlink(path(self.run_dir))
        return self.status

    def handle(self, event: t.Any) -> None:
        self.state, actions = decide(self.state, event)
        for action in actions:
            getattr(self, "_do_" + type(action).__name__.lower())(action)

    # Actions

    def _do_start(self, action: Start) -> None:
        epoch = action.epoch
        self._do_say(Say(f"starting epoch {epoch.number}: {' '.join(epoch.command.words)}"))
        base_id = os.path.join(self.run_dir, "base-id")
        try:
            _prepare(epoch.command.prepare)
            if epoch.number:
                with open(base_id, encoding="ascii") as file:
                    base = ["--base-id", file.read().strip()]
            else:
                base = ["--use-dynamic-base-id", "--base-id-path", base_id]
            # Sockets in a private directory: of abstract ones, anybody on the host may tell Envoy to end. Without the
            # counters of the epoch before, which would tell the modules of refusals that this one has not seen.
            more = ["--socket-path", os.path.join(self.run_dir, "hot-restart"), "--socket-mode", "600"]
            words = [*epoch.command.words, "--restart-epoch", str(epoch.number), *base, *more]
            words.append("--skip-hot-restart-parent-stats")
            environment = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", START)}
            environment.update({START: epoch.command.start} if epoch.command.start else {})
            # By this thread, the only one: Envoy asks the kernel to be ended together with the thread that started it.
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.handle(Ended(epoch.key, f"can't be started: {error}"))
            return
        # Reaped in _reap.
        process.returncode = 0
        self.pids[epoch.key] = process.pid
        self.deadlines[epoch.key] = time.monotonic() + self.ready

    def _do_unlock(self, _action: Unlock) -> None:
        try:
            with open(shared_memory(self.run_dir), "r+b", buffering=0) as file:
                size, version, _mutexes, flags = _SHARED.unpack(file.read(_SHARED.size))
                if (size, version) != (_SHARED.size, 11):
                    raise ValueError(f"unknown shared memory {version}.{size}")
                if flags & 1:
                    file.seek(_SHARED.size - 8)
                    file.write(struct.pack("=Q", flags & ~1))
        except (OSError, ValueError, struct.error) as error:
            self._do_say(Say(f"the next hot restart will fail: {error}"))

    def _do_end(self, action: End) -> None:
        with contextlib.suppress(KeyError, ProcessLookupError):
            os.kill(self.pids[action.key], action.signal)

    def _do_watch(self, action: Watch) -> None:
        self.deadlines[action.key] = time.monotonic() + self.drain + _GRACE

    def _do_spare(self, action: Spare) -> None:
        self.deadlines.pop(action.key, None)

    def _do_ready(self, _action: Ready) -> None:
        _notify("READY=1")

    def _do_answer(self, action: Answer) -> None:
        self.problem = action.problem
        if self.asking is None:
            return
        asking, self.asking = self.asking, None
        _reply(asking, self._describe())

    def _do_say(self, action: Say) -> None:
        print(f"supervisor: {action.text}", file=sys.stderr, flush=True)
        _notify(f"STATUS={action.text}")

    def _do_leave(self, action: Leave) -> None:
        self.status = action.status

    # Events

    def _pause(self) -> float | None:
        if self.state.starting:
            return _LONG_PAUSE if self.state.waiting else _PAUSE
        if self.deadlines:
            return max(0.0, min(self.deadlines.values()) - time.monotonic())
        return None

    def _signals(self, wake: socket.socket) -> None:
        numbers = set()
        with contextlib.suppress(BlockingIOError):
            numbers = set(wake.recv(4096))
        if numbers & {signal.SIGTERM, signal.SIGINT}:
            _notify("STOPPING=1")
            self.handle(Terminate())
        # Nobody waits for an answer, so it is not said to somebody who waits for another.
        if signal.SIGHUP in numbers and self.state.serving and not self.state.starting:
            self.handle(Reload(self.state.serving.command))
        self._reap()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                key = next((key for key, known in self.pids.items() if known == pid), None)
                if key is None:
                    continue
                del self.pids[key]
                self.deadlines.pop(key, None)
                serving = self.state.serving
                admin = bool(serving and self._answers(serving.key))
                self.handle(Ended(key, _how(status), admin, self._exchanged(), status == 0))

    def _look(self) -> None:
        starting = self.state.starting
        if starting and starting.key in self.pids and self._answers(starting.key, "LIVE"):
            self.deadlines.pop(starting.key, None)
            self.handle(Live(starting.key))
        elif starting and self._is_late_enough(starting.key) and self._answers(starting.key):
            self.handle(Waits(starting.key))
        now = time.monotonic()
        for key in [key for key, deadline in self.deadlines.items() if deadline <= now]:
            del self.deadlines[key]
            self.handle(Late(key))

    def _is_late_enough(self, key: int) -> bool:
        """Whether an epoch that may wait for a control plane seems to do so."""
        deadline = self.deadlines.get(key)
        moment = min(_MOMENT, self.ready / 2)
        return self.patient and deadline is not None and time.monotonic() >= deadline - self.ready + moment

    def _exchanged(self) -> bool:
        """Whether somebody has put other files in place of those that the serving epoch reads.

        Who does it (plugins/module_utils/_twin.py) leaves the PID of that epoch there.
        """
        serving = self.state.serving
        try:
            with open(os.path.join(self.directory, "state", "twin"), encoding="ascii") as file:
                return serving is not None and int(file.read().split()[0]) == self.pids.get(serving.key)
        except (OSError, ValueError, IndexError):
            return False

    def _answers(self, key: int, state: str | None = None) -> bool:
        """Whether this epoch is the one behind the admin socket, and in that state."""
        try:
            with contextlib.closing(_Admin(self.admin)) as connection:
                connection.request("GET", "/server_info")
                # struct ucred of the process that called listen(): socket(7)
                peer = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                answer = json.loads(connection.getresponse().read())
                return struct.unpack("3i", peer)[0] == self.pids.get(key) and state in (None, answer["state"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return False

    def _request(self, control: socket.socket) -> None:
        try:
            asking, _address = control.accept()
        except OSError:
            return
        try:
            asking.settimeout(_PATIENCE)
            asked = json.loads(_line(asking))
            words, prepare = (tuple(map(str, asked.get(name, ()))) for name in ("command", "prepare"))
            command = Command(words, str(asked.get("start", "")), prepare)
            reload, force = asked["do"] == "reload", bool(asked.get("force"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            asking.close()
            return
        if not reload:
            _reply(asking, self._describe())
        elif self.asking is not None or not command.words:
            _reply(asking, {**self._describe(), "problem": "another reload is under way"})
        else:
            self.asking = asking
            serving = self.state.serving
            problem = incompatible(serving.command.words[0], command.words[0]) if serving else ""
            self.handle(Reload(command, force, problem))

    def _describe(self) -> dict[str, t.Any]:
        def tell(epoch: Epoch | None) -> dict[str, t.Any] | None:
            if epoch is None:
                return None
            return {
                "epoch": epoch.number,
                "pid": self.pids.get(epoch.key),
                "command": epoch.command.words,
                "start": epoch.command.start,
                "prepare": epoch.command.prepare,
            }

        state = self.state
        draining = [tell(epoch) for epoch in state.draining]
        return {
            "protocol": PROTOCOL,
            "serving": tell(state.serving),
            "starting": tell(state.starting),
            "draining": draining,
            "problem": self.problem,
        }


class _Admin(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("envoy", timeout=_PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def _prepare(words: tuple[str, ...]) -> None:
    if words:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=_PREPARATION, check=False
        )
        if done.returncode:
            raise ValueError(done.stderr.strip() or f"{words[0]} ended with status {done.returncode}")


def control_path(run_dir: str) -> str:
    return os.path.join(run_dir, "supervisor.sock")


def shared_memory(run_dir: str) -> str:
    with open(os.path.join(run_dir, "base-id"), encoding="ascii") as file:
        # Envoy multiplies it by ten, as a number of 32 bits.
        return f"/dev/shm/envoy_shared_memory_{int(file.read()) * 10 & 0xFFFFFFFF}"


def incompatible(old: str, new: str) -> str:
    """Why one binary can't hot restart into another; empty if it can."""
    try:
        versions = [
            subprocess.run(
                [binary, "--hot-restart-version"], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for binary in (old, new)
        ]
    except (OSError, subprocess.SubprocessError) as error:
        return f"can't tell the hot restart versions: {error}"
    if versions[0] != versions[1]:
        return f"hot restart version {versions[0]} of {old} and {versions[1]} of {new} differ: restart the service"
    return ""


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with status {os.WEXITSTATUS(status)}"


def _listen(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        control.bind(path)
    finally:
        os.umask(mask)
    control.listen(8)
    control.setblocking(False)
    return control


def _line(sock: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        chunk = sock.recv(65536)
        if not chunk or len(data) > 1 << 20:
            raise ValueError("not a line")
        data += chunk
    return data


def _reply(sock: socket.socket, answer: dict[str, t.Any]) -> None:
    with contextlib.suppress(OSError), sock:
        sock.sendall(json.dumps(answer).encode() + b"\n")


def _notify(text: str) -> None:
    """Tell the service manager, where there is one: sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.sendall(text.encode())


def ask(run_dir: str, question: dict[str, t.Any]) -> dict[str, t.Any]:
    """What the supervisor that runs says to a question, however long it takes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(control_path(run_dir))
        sock.sendall(json.dumps(question).encode() + b"\n")
        return json.loads(_line(sock))


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The own arguments, and the command after ``--``."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("do", choices=["run", "reload", "status"])
    parser.add_argument("--run-dir", required=True, help="a directory of Envoy's user alone")
    parser.add_argument("--admin", help="the Unix socket of Envoy's admin interface")
    parser.add_argument("--directory", default="", help="the directory that Envoy reads its configuration from")
    parser.add_argument("--ready", type=float, default=60.0, help="seconds that an Envoy has to become ready")
    parser.add_argument("--drain", type=float, default=900.0, help="Envoy's --parent-shutdown-time-s")
    parser.add_argument(
        "--patient", action="store_true", help="let the first Envoy wait for its control plane as long as that takes"
    )
    parser.add_argument("--prepare", default="", help="a command to run before each start of this Envoy")
    parser.add_argument("--force", action="store_true", help="also while connections of the last hot restart drain")
    own, words = _split(arguments)
    options = parser.parse_args(own)
    command = Command(tuple(words), os.environ.get(START, ""), tuple(shlex.split(options.prepare)))
    if options.do == "run":
        if not options.admin or not command.words:
            parser.error("run needs --admin and a command")
        places = options.run_dir, options.admin, options.directory
        return Supervisor(*places, options.ready, options.drain, options.patient).run(command)
    if options.do == "reload" and not command.words:
        parser.error("reload needs a command")
    question = {
        "do": options.do,
        "command": command.words,
        "start": command.start,
        "prepare": command.prepare,
        "force": options.force,
    }
    try:
        answer = ask(options.run_dir, question)
    except (OSError, ValueError) as error:
        print(f"no supervisor answers in {options.run_dir}: {error}", file=sys.stderr)
        return 1
    if options.do == "status":
        print(json.dumps(answer, indent=1))
    elif answer["problem"]:
        print(answer["problem"], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
