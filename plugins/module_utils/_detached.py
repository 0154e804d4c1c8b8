# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: an Envoy that runs on its own, without a service manager.

Its process holds a lock, handed down when it is started, so the kernel knows whether it lives: no PID is guessed from a
file, and two runs at once can't start two.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

_PAUSE = 0.02


class Detached:
    """:param command: an executable that becomes Envoy (by exec).

    :param lock: the file that Envoy holds locked while it lives; it also holds its PID.
    :param output: where its standard output and error go.
    :param timeout: seconds to wait until it serves, and until it has ended.
    :param control_plane: it may wait for a control plane, and has started once it answers.
    """

    def __init__(
        self, command: str, lock: str, output: str, admin_socket: str, timeout: float, control_plane: bool = False
    ) -> None:
        self.command = command
        self.lock = lock
        self.output = output
        self.admin_socket = admin_socket
        self.timeout = timeout
        self.control_plane = control_plane

    def pid(self) -> int | None:
        """The PID of the Envoy that runs; ``None`` if there is none."""
        try:
            with open(self.lock, encoding="ascii") as file:
                if _acquire(file.fileno()):
                    return None
                return int(file.read())
        except FileNotFoundError:
            return None
        except ValueError:
            raise Failure(
                "starting", f"Another run is starting an Envoy just now ({self.lock} is locked). Try again."
            ) from None

    def start(self) -> int:
        """Start Envoy and wait until it serves; the PID."""
        self._check_socket()
        lock = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        before = os.fstat(output).st_size
        try:
            if not _acquire(lock):
                raise Failure(
                    "starting", f"Another run is starting an Envoy just now ({self.lock} is locked). Try again."
                )
            os.ftruncate(lock, 0)
            try:
                process = subprocess.Popen(
                    [self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            except OSError as error:
                raise Failure("not_started", f"{self.command} can't be run: {error.strerror}.") from error
            os.pwrite(lock, str(process.pid).encode("ascii"), 0)
        finally:
            os.close(lock)
            os.close(output)
        try:
            self._wait_until_live(process, before)
        except Failure:
            process.kill()
            process.wait()
            raise
        return process.pid

    def stop(self, pid: int) -> None:
        """End Envoy, kindly at first, and wait until it is gone."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            except PermissionError:
                raise Failure(
                    "process_denied", f"Envoy (PID {pid}) belongs to another user and may not be ended.", pid=pid
                ) from None
            deadline = time.monotonic() + self.timeout
            while time.monotonic() < deadline:
                if self.pid() is None:
                    return
                time.sleep(_PAUSE)
        raise Failure("not_stopped", f"Envoy (PID {pid}) has not ended within {self.timeout:g} s of SIGKILL.", pid=pid)

    def _check_socket(self) -> None:
        try:
            peer = Admin(self.admin_socket, self.timeout).peer()
        except Failure as failure:
            if failure.code == "envoy_down":
                return
            raise
        raise Failure(
            "foreign_envoy",
            f"admin_socket: found another process (PID {peer.process.pid}) behind {self.admin_socket}, expected "
            "nobody. End it, or choose another socket. Nothing has changed.",
            pid=peer.process.pid,
        )

    def _wait_until_live(self, process: subprocess.Popen[bytes], before: int) -> None:
        deadline = time.monotonic() + self.timeout
        state = "nothing"
        while process.poll() is None:
            try:
                # A connection for each look: one that was refused is of no more use.
                admin = Admin(self.admin_socket, self.timeout)
                if admin.peer().process.pid == process.pid:
                    state = admin.server().state
                if state == "LIVE" or (self.control_plane and state != "nothing"):
                    return
            except Failure as failure:
                if failure.code != "envoy_down":
                    raise
            if time.monotonic() >= deadline:
                raise Failure(
                    "not_live", f"Envoy does not serve within {self.timeout:g} s of its start; it says: {state}."
                )
            time.sleep(_PAUSE)
        reason = _last_line(self.output, before) or f"see {self.output}"
        raise Failure(
            "not_started", f"Envoy ended at its start, with status {process.returncode}: {reason}.", reason=reason
        )


def _last_line(path: str, offset: int) -> str:
    """The last line of a file from ``offset`` on: an Envoy that ends at its start says there why."""
    with open(path, "rb") as file:
        file.seek(offset)
        lines = file.read(1024 * 1024).decode("utf-8", "replace").split("\n")
    return next((line.strip()[:500].rstrip(".") for line in reversed(lines) if line.strip()), "")


def _acquire(descriptor: int) -> bool:
    """Whether the lock was free. It is held until the last copy of the descriptor is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def reach(detached: Detached, state: str, write: bool) -> dict[str, t.Any]:
    """Bring Envoy to ``started``, ``restarted`` or ``stopped``; the result of the module."""
    pid = detached.pid()
    if (state == "stopped" and pid is None) or (state == "started" and pid is not None):
        return {"changed": False, "action": "none", "pid": pid, "previous_pid": pid}
    action = "started" if pid is None else "restarted" if state == "restarted" else "stopped"
    result = {"changed": True, "action": action, "pid": None, "previous_pid": pid}
    if write:
        if pid is not None:
            detached.stop(pid)
        if state != "stopped":
            result["pid"] = detached.start()
    return result
