# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: directories and small files that are put in place as a whole, and what the host is."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pwd
import re
import secrets
import stat
import subprocess
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _process
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._log import reasons

_VALIDATION_TIMEOUT = 60.0
_ADMIN_TIMEOUT = 5.0


def platform() -> dict[str, str]:
    """What a binary for this host has to suit."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except ValueError:
        libc = ""
    result = {"architecture": os.uname().machine}
    if libc.startswith("glibc "):
        result["glibc"] = libc[len("glibc ") :]
    return result


def missing(needs: list[dict[str, t.Any]], owner: str | None, group: str | None, option: str = "needs") -> list[str]:
    """The needed files, user and group that this host lacks; a ``Failure`` for a file that is not what it should be."""
    found = []
    for index, need in enumerate(needs):
        path, wanted = need["path"], need.get("sha256")
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise invalid(f"{option}[{index}].path", f"something other than a file at {path}", "a file")
            digest = wanted and _sha256(path)
        except FileNotFoundError:
            found.append(path)
            continue
        except OSError as error:
            raise Failure(
                "file_error", f"{option}[{index}].path: {path} can't be read: {error.strerror}.", path=path
            ) from None
        if digest != wanted:
            raise Failure(
                "damaged_file",
                f"{option}[{index}].sha256: found {digest} at {path}, expected {wanted}. The file was damaged or "
                "replaced after it was put there. Move it away, and it will be put there again; don't write into it, "
                "since a process may run it.",
                path=path,
                found=digest,
                expected=wanted,
            )
    for name, database, lookup in ((owner, "user", pwd.getpwnam), (group, "group", grp.getgrnam)):
        try:
            if name is not None:
                lookup(name)
        except KeyError:
            found.append(f"{database} {name}")
    return found


def check_immutable(needs: list[dict[str, t.Any]], admin_socket: str | None) -> None:
    """Raise ``damaged_file`` if Envoy runs from one of them, and there is another file by now."""
    immutable = {need["path"]: index for index, need in enumerate(needs) if need.get("immutable")}
    if admin_socket is None or not immutable:
        return
    try:
        pid = Admin(admin_socket, _ADMIN_TIMEOUT).peer().process.pid
    except Failure as failure:
        if failure.code == "envoy_down":
            return
        raise
    path = _process.replaced(pid)
    if path in immutable:
        raise Failure(
            "damaged_file",
            f"needs[{immutable[path]}].path: found another file at {path} than the one that the Envoy with PID {pid} "
            "was started from. It was damaged or replaced since, and Envoy would not come back from a restart. Move it "
            "away, and it will be put there again.",
            path=path,
            pid=pid,
        )


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def outdated(admin_socket: str | None, environment: dict[str, str]) -> bool:
    """Whether an Envoy runs that was started without these variables in its environment.

    They name what it was started from, so a restart that an interrupted run still owes is seen, whatever the clock
    says.
    """
    if admin_socket is None or not environment:
        return False
    try:
        pid = Admin(admin_socket, _ADMIN_TIMEOUT).peer().process.pid
        with open(f"/proc/{pid}/environ", "rb") as file:
            found = file.read().split(b"\0")
    except FileNotFoundError:
        return False
    except PermissionError:
        message = f"/proc/{pid}/environ may not be read. Run as Envoy's user, or with become."
        raise Failure("process_denied", message, pid=pid) from None
    except Failure as failure:
        if failure.code == "envoy_down":
            return False
        raise
    return any(f"{name}={value}".encode() not in found for name, value in environment.items())


class Placement:
    """Puts things in place, unless ``write`` is false, and keeps account of what it did.

    A user that does not exist is possible only without ``write``: an earlier task would have made it.
    """

    def __init__(self, owner: str | None, group: str | None, admin_socket: str | None, write: bool) -> None:
        self.owner = owner
        self.group = group
        self.admin_socket = admin_socket
        self.write = write
        self.created: list[str] = []
        self.updated: list[str] = []
        self.diff: list[dict[str, str]] = []
        #: what the initial files would hold, by their paths
        self._initial: dict[str, bytes] = {}

    def directory(self, at: str, path: str, mode: str, keep: bool) -> None:
        with _explained(path):
            self._directory(at, path, mode, keep)

    def file(self, at: str, path: str, **item: t.Any) -> None:
        with _explained(path):
            self._file(at, path, **item)

    def _directory(self, at: str, path: str, mode: str, keep: bool) -> None:
        bits = _mode(at, mode)
        if path in self.created:
            return
        try:
            status = os.stat(path)
        except FileNotFoundError:
            if self.write:
                _make_directory(path, bits, *_ids(self.owner, self.group))
            self._note(path, None, _describe(bits, self.owner))
            return
        if not stat.S_ISDIR(status.st_mode):
            raise invalid(f"{at}.path", f"something other than a directory at {path}", "a directory")
        uid = _ids(self.owner, self.group)[0]
        if keep or uid < 0:
            return
        if status.st_uid != uid:
            # Not taken over: it may be /etc.
            raise invalid(
                f"{at}.path",
                f"{path} owned by {_user(status.st_uid)}",
                f"a directory of {_user(uid)}",
                "Choose another path, or give it to that user.",
            )
        if stat.S_IMODE(status.st_mode) != bits:
            if self.write:
                _set(path, bits)
            self._note(path, _describe(stat.S_IMODE(status.st_mode), self.owner), _describe(bits, self.owner))

    def _file(
        self,
        at: str,
        path: str,
        content: str | None,
        secret: str | None,
        mode: str,
        owner: str | None,
        group: str | None,
        initial: bool,
        validate: list[str],
        held: bool,
    ) -> None:
        bits = _mode(at, mode)
        owner, group = owner or self.owner, group or self.group
        uid, gid = _ids(owner, group)
        hidden = secret is not None
        data = (content or secret or "").encode()
        before = old = None
        if initial:
            self._initial[path] = data
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                raise invalid(f"{at}.path", f"something other than a file at {path}", "a file")
            if initial:
                return
            old = Files(status.st_uid, status.st_gid).read(path)
            text = b"# It is not shown.\n" if hidden else old
            before = _describe(stat.S_IMODE(status.st_mode), _user(status.st_uid), text)
            if old == data and stat.S_IMODE(status.st_mode) == bits and (status.st_uid, status.st_gid) == (uid, gid):
                return
        except FileNotFoundError:
            if initial and self._answers():
                return
        if not held:
            self._place(at, path, data, bits, uid, gid, validate)
        text = data
        if hidden:
            text = b"# It is not shown.\n" if old == data else b"# It is not shown, and is another one now.\n"
        self._note(path, before, _describe(bits, owner or _user(uid), text))

    def _place(self, at: str, path: str, data: bytes, bits: int, uid: int, gid: int, validate: list[str]) -> None:
        if not self.write:
            return
        new = _beside(path)
        files = Files(uid, gid)
        try:
            files.create(new, data, bits)
            if validate:
                self._try(files, at, path, new, data, validate)
            files.rename(new, path)
        finally:
            files.remove(new)

    def _try(self, files: Files, at: str, path: str, new: str, data: bytes, validate: list[str]) -> None:
        """Raise a ``Failure`` unless the command takes the new file.

        An initial file that is gone while Envoy runs comes back by a transaction, later. Until then another stands in.
        """
        made: list[str] = []
        tried = data
        try:
            for initial, content in self._initial.items():
                try:
                    files.read(initial)
                except OSError:
                    made.append(_beside(path, os.path.basename(initial)))
                    files.create(made[-1], content)
                    tried = tried.replace(json.dumps(initial).encode(), json.dumps(made[-1]).encode())
            if tried != data:
                new = _beside(path)
                files.create(new, tried)
                made.append(new)
            command = [part.replace("%s", new) for part in validate]
            _validate(f"{at}.content", path, command, files.uid, files.gid)
        finally:
            for name in made:
                files.remove(name)

    def _answers(self) -> bool:
        """Whether somebody listens on the admin socket."""
        if self.admin_socket is None:
            return False
        try:
            Admin(self.admin_socket, _ADMIN_TIMEOUT).peer()
        except Failure as failure:
            # One that hangs, or may not be asked, still reads its files.
            return failure.code != "envoy_down"
        return True

    def _note(self, path: str, before: str | None, after: str) -> None:
        (self.created if before is None else self.updated).append(path)
        self.diff.append({"before_header": path, "after_header": path, "before": before or "", "after": after})


def _beside(path: str, name: str = "") -> str:
    """A new path in the same directory. The end of the name stays: by it, Envoy tells JSON from YAML."""
    return os.path.join(os.path.dirname(path), f".new-{secrets.token_hex(8)}-{name or os.path.basename(path)}")


def _validate(at: str, path: str, command: list[str], uid: int, gid: int) -> None:
    # As the one who will use it: what the file makes the command load is not loaded as root.
    identity: dict[str, t.Any] = {}
    if os.geteuid() == 0 and uid != 0:
        identity = {"user": uid, "group": gid, "extra_groups": []}
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            timeout=_VALIDATION_TIMEOUT,
            check=False,
            **identity,
        )
    except OSError as error:
        raise Failure(
            "no_validator", f"{at}: {command[0]} can't be run: {error.strerror}. Nothing has changed."
        ) from None
    except subprocess.TimeoutExpired:
        raise Failure("validation_timeout", f"{at}: {command[0]} took longer than {_VALIDATION_TIMEOUT:g} s.") from None
    if result.returncode:
        output = result.stdout.decode("utf-8", "replace")
        last = (output.strip().splitlines() or [f"it ended with status {result.returncode}"])[-1]
        reason = reasons(output) or last
        message = f"{at}: what {path} would hold is refused: {reason}. That file has not changed."
        raise Failure("refused_in_validation", message, path=path, reason=reason)


@contextlib.contextmanager
def _explained(path: str) -> t.Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{path} can't be put in place: {error.strerror}."
        raise Failure("file_error", message, path=path, errno=error.errno or 0) from error


def _make_directory(path: str, bits: int, uid: int, gid: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.mkdir(path, 0o700)
    _set(path, bits, uid, gid)


def _set(path: str, bits: int, uid: int = -1, gid: int = -1) -> None:
    """Mode and owner of a directory, not of what a link leads to that somebody put in its place meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, bits)
    finally:
        os.close(descriptor)


def _mode(at: str, text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3,4}", text):
        raise invalid(f"{at}.mode", repr(text), 'an octal number in quotes, such as "0600"')
    return int(text, 8)


def _ids(owner: str | None, group: str | None) -> tuple[int, int]:
    """Numbers of user and group; -1, which no file has, for those that don't exist yet."""
    try:
        entry = pwd.getpwnam(owner) if owner is not None else None
        uid, gid = (entry.pw_uid, entry.pw_gid) if entry else (os.geteuid(), os.getegid())
    except KeyError:
        uid = gid = -1
    try:
        return uid, gid if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        return uid, -1


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def _describe(bits: int, owner: str | None, data: bytes = b"") -> str:
    """A file or directory as text, for diffs."""
    return f"# mode {bits:04o}" + (f", owner {owner}" if owner else "") + "\n" + data.decode("utf-8", "replace")
