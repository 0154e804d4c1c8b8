# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the compiled library on the gateway: is the file what its name says, and is it what Envoy runs?"""

from __future__ import annotations

import hashlib
import os
import stat

from ansible_collections.moe.gateway.plugins.module_utils import _process
from ansible_collections.moe.gateway.plugins.module_utils._decision import Process
from ansible_collections.moe.gateway.plugins.module_utils._engines import Extension
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid

_AGAIN = "Remove it and let moe.gateway.envoy_extensions copy it again. Nothing has changed."


def check_before(extension: Extension | None, process: Process) -> None:
    """Raise a ``Failure`` unless this process may be handed a filter that uses this library."""
    if extension:
        check_file(extension)
        check_not_replaced(extension, process)


def check_after(extension: Extension | None, process: Process) -> None:
    """Raise a ``Failure`` unless this process, which has taken such a filter, runs that library."""
    if extension:
        check_loaded(extension, process)


def check_file(extension: Extension) -> None:
    """Raise ``extension_missing`` or ``extension_damaged`` unless the file is there and is what its name says."""
    try:
        # Not waiting for the other end of a named pipe.
        descriptor = os.open(extension.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise invalid("extension", f"something that is not a regular file at {extension.path}", "a .so")
            digest = hashlib.sha256()
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
    except OSError as error:
        raise Failure(
            "extension_missing",
            f"extension: found no readable file at {extension.path} ({error.strerror}), expected the compiled library. "
            "Let moe.gateway.envoy_extensions copy it. Nothing has changed.",
            path=extension.path,
        ) from error
    if digest.hexdigest() != extension.sha256:
        raise Failure(
            "extension_damaged",
            f"extension: found SHA-256 {digest.hexdigest()} at {extension.path}, expected {extension.sha256} as in its "
            f"name: the file is damaged or was changed. {_AGAIN}",
            path=extension.path,
            found=digest.hexdigest(),
            expected=extension.sha256,
        )


def check_not_replaced(extension: Extension, process: Process) -> None:
    """Raise ``extension_replaced`` if the process has loaded another file under this path.

    A loaded path is never read again: Envoy would run the old code with the new configuration.
    """
    # The kernel tells paths without links.
    path, inode = os.path.realpath(extension.path), os.stat(extension.path).st_ino
    for library in _process.libraries(process.pid):
        if library.path == path and (library.deleted or library.inode != inode):
            raise Failure(
                "extension_replaced",
                f"extension: Envoy (PID {process.pid}) has loaded another file under {extension.path}, which was "
                "replaced since, and would go on with the old code. Give the new code a new path, as "
                "moe.gateway.envoy_extensions does, or restart Envoy. Nothing has changed.",
                path=extension.path,
            )


def check_loaded(extension: Extension, process: Process) -> None:
    """Raise ``extension_not_loaded`` unless the process has this very file mapped."""
    path, inode = os.path.realpath(extension.path), os.stat(extension.path).st_ino
    if not any(
        library.path == path and library.inode == inode and not library.deleted
        for library in _process.libraries(process.pid)
    ):
        raise Failure(
            "extension_not_loaded", f"Envoy (PID {process.pid}) has taken the filter but not loaded {extension.path}."
        )
