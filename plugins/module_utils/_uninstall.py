# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: takes a gateway off a host. It stops serving first; what is not ours stays, and is named."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import re
import subprocess
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _process, _removal
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._removal import Entry, Places
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version

#: What the role envoy puts into the comment of a user that it makes.
MARK = "made by moe.gateway"
_COMMAND_TIMEOUT = 120.0
#: What Envoy shares with the next epoch in a hot restart; it outlives both.
_SHARED_MEMORY = "/dev/shm/envoy_shared_memory_*"


def entries(places: Places) -> list[Entry]:
    """The places that are there, and what is in them. Directories of others are not looked into."""
    found: list[Entry] = []

    def walk(path: str) -> None:
        found.append(Entry(path, True))
        with os.scandir(path) as items:
            for item in items:
                is_directory = item.is_dir(follow_symlinks=False)
                if is_directory and _removal.is_ours(places, item.path):
                    walk(item.path)
                else:
                    found.append(Entry(item.path, is_directory))

    roots = (places.install_dir, places.extensions_dir, places.config_dir, *places.directories, places.run_dir)
    for root in roots:
        if root and os.path.isdir(root):
            walk(root)
    if places.log_path and os.path.lexists(places.log_path):
        found.append(Entry(places.log_path, False))
    folder = os.path.dirname(places.log_path)
    # Others may keep their logs there too: it is ours if it belongs to Envoy's user, and nothing else is in it.
    if folder and os.path.isdir(folder) and not os.path.islink(folder):
        alone = set(os.listdir(folder)) <= {os.path.basename(places.log_path)}
        if alone and os.path.isdir(places.config_dir) and _owner(folder) == _owner(places.config_dir):
            found.append(Entry(folder, True))
    return found


def filters(directory: str) -> set[str]:
    """Names of the filters that this collection has published or denied, also where somebody edited the live file."""
    found = set()
    with contextlib.suppress(OSError):
        found |= set(os.listdir(os.path.join(directory, "state", "filters")))
    for path in glob.glob(os.path.join(glob.escape(directory), "filters", "*.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError, Failure):
            status = os.lstat(path)
            document = json.loads(Files(status.st_uid, status.st_gid).read(path))
            if Version.parse(document.get("version_info")):
                found.add(os.path.basename(path)[: -len(".json")])
    return found


def _owner(path: str) -> int:
    return os.lstat(path).st_uid


def users_of(paths: t.Collection[str]) -> dict[str, int]:
    """Of these files, those that a process executes or has loaded, with its PID."""
    inodes = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            inodes[status.st_dev, status.st_ino] = path
    found: dict[str, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{pid}/exe")
            if (status.st_dev, status.st_ino) in inodes:
                found[inodes[status.st_dev, status.st_ino]] = pid
        # It may end meanwhile, or be another user's.
        with contextlib.suppress(Failure, OSError):
            for library in _process.libraries(pid):
                if library.path in inodes.values():
                    found[library.path] = pid
    return found


def serving(admin_socket: str) -> int | None:
    """The PID of an Envoy that still answers."""
    try:
        return Admin(admin_socket, 5.0).peer().process.pid
    except Failure as failure:
        if failure.code == "envoy_down":
            return None
        raise


class Unit:
    """The unit of systemd that the role envoy writes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = os.path.basename(path)

    def there(self) -> bool:
        return os.path.lexists(self.path)

    def ours(self) -> bool:
        try:
            with open(self.path, encoding="utf-8") as file:
                text = file.read(4096)
        except (OSError, ValueError):
            return False
        return text.startswith("# Written by Ansible.\n") and "Description=Envoy gateway\n" in text

    def running(self) -> bool:
        return _run("systemctl", "is-active", "--quiet", self.name, check=False) == 0

    def stop(self) -> None:
        _run("systemctl", "disable", "--now", self.name)

    def remove(self) -> None:
        os.unlink(self.path)
        _run("systemctl", "daemon-reload")
        # Of a unit that had failed, systemd would remember that.
        _run("systemctl", "reset-failed", self.name, check=False)


def shared_memory(user: str) -> list[str]:
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return []
    return sorted(path for path in glob.glob(_SHARED_MEMORY) if _owner(path) == uid)


def user_made(name: str) -> bool | None:
    """Whether a user is one that the role envoy made; ``None`` if there is none."""
    try:
        return MARK in pwd.getpwnam(name).pw_gecos
    except KeyError:
        return None


def remove_user(name: str) -> None:
    """Its group goes with it, if nobody else is in it."""
    _run("userdel", name)


def remove(entry: Entry) -> None:
    """Remove a file, or an empty directory, as the user who owns the directory that it is in.

    A directory of Envoy's user may hold links that lead elsewhere; root follows none of them.
    """
    parent = os.lstat(os.path.dirname(entry.path))
    files = Files(parent.st_uid, parent.st_gid)
    try:
        if entry.is_directory:
            files.remove_directory(entry.path)
        else:
            files.remove(entry.path)
    except OSError as error:
        message = f"{entry.path} can't be removed: {error.strerror}."
        raise Failure("file_error", message, path=entry.path, errno=error.errno or 0) from error


def _run(*command: str, check: bool = True) -> int:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise Failure("command_failed", f"{command[0]} can't be run: {error.strerror}.") from error
    except subprocess.TimeoutExpired:
        text = f"{' '.join(command)} took longer than {_COMMAND_TIMEOUT:g} s."
        raise Failure("command_failed", text) from None
    if check and done.returncode:
        said = re.sub(r"\s+", " ", done.stdout.decode("utf-8", "replace")).strip()
        raise Failure("command_failed", f"{' '.join(command)} ended with status {done.returncode}: {said}")
    return done.returncode
