# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: a throwaway Envoy (``envoy --mode validate``) that has to load a configuration before the real one sees it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._engines import GOLANG
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._log import LOG_LINE, reasons
from ansible_collections.moe.gateway.plugins.module_utils._mask import mask


class Validator:
    """:param binary: the Envoy to ask: the one that runs, unless the user names another.

    :param uid: the user that it runs as, where this process may choose: a foreign library is never loaded as root.
    :param timeout: seconds for its answer.
    """

    def __init__(self, binary: str, uid: int, gid: int, timeout: float) -> None:
        self.binary = binary
        self.uid = uid
        self.gid = gid
        self.timeout = timeout

    def check(self, resources: dict[str, t.Any], what: str, secrets: t.Collection[str]) -> str:
        """Raise ``refused_in_validation`` with Envoy's own reason unless it loads ``resources``; what it warns of.

        :param resources: the ``static_resources`` of a bootstrap.
        :param secrets: are cut out of the reason.
        """
        bootstrap = {"node": {"id": "validate", "cluster": "validate"}, "static_resources": resources}
        status, answer, output = self._run(json.dumps(bootstrap).encode())
        if status == 0 and answer.rstrip().endswith("OK"):
            return mask(output, secrets)
        if status >= 0 and not LOG_LINE.search(output):
            message = f"envoy_binary: {self.binary} is not Envoy: it gives no verdict on a configuration."
            raise Failure("no_envoy_binary", message, binary=self.binary)
        if status < 0:
            name = signal.Signals(-status).name
            reason = f"the throwaway Envoy that had to load it was ended by {name}; a damaged extension does that"
        else:
            reason = (
                mask(reasons(mask(output, secrets)), secrets) or f"it ended with status {status} and gave no reason"
            )
        # Envoy's words for a filter that it does not have, in a filter's configuration and in a listener's type_urls.
        if GOLANG in reason and ("could not find @type" in reason or "no factory found" in reason):
            raise Failure(
                "engine_missing",
                f"{what}: engine: this Envoy has no filter {GOLANG}. Engine golang runs only in "
                "Envoy's contrib build and in Istio's proxy; use one of those, or build the extension as a "
                "dynamic_module. Nothing has changed.",
                reason=reason,
            )
        raise Failure(
            "refused_in_validation", f"{what}: Envoy refuses it: {reason}. Nothing has changed.", reason=reason
        )

    def _run(self, bootstrap: bytes) -> tuple[int, str, str]:
        # A named pipe, so that no secret is ever in a temporary file; Envoy refuses paths below /proc and /dev.
        folder = tempfile.mkdtemp(prefix="moe-gateway-")
        try:
            pipe = os.path.join(folder, "bootstrap.json")
            os.mkfifo(pipe, 0o600)
            identity: dict[str, t.Any] = {}
            if os.geteuid() == 0 and self.uid != 0:
                # The folder stays root's, so that nothing else can be put in the pipe's place.
                os.chown(pipe, self.uid, self.gid)
                os.chmod(folder, 0o711)
                identity = {"user": self.uid, "group": self.gid, "extra_groups": []}
            command = [self.binary, "--mode", "validate", "-c", pipe, "--disable-hot-restart", "--concurrency", "1"]
            try:
                with _opened(self.binary) as (executable, descriptors):
                    process = subprocess.Popen(
                        [*command, "--log-level", "warning"],
                        executable=executable,
                        pass_fds=descriptors,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        cwd="/",
                        **identity,
                    )
            except OSError as error:
                message = f"envoy_binary: {self.binary} can't be run: {error.strerror}."
                raise Failure("no_envoy_binary", message, binary=self.binary) from error
            # The requests that the gateway serves meanwhile go first.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, 19)
            try:
                deadline = time.monotonic() + self.timeout
                _feed(pipe, bootstrap, process, deadline)
                answer, errors = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                message = f"The throwaway Envoy has given no verdict within {self.timeout:g} s. Nothing has changed."
                raise Failure("validation_timeout", message) from None
            return process.returncode, answer.decode("utf-8", "replace"), errors.decode("utf-8", "replace")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _opened(binary: str) -> t.Iterator[tuple[str, list[int]]]:
    """A path to run it by, and the file descriptors that this takes.

    The file of a process, ``/proc/PID/exe``, is closed to the process's own user if it has capabilities. What root has
    opened is not.
    """
    if not binary.startswith("/proc/"):
        yield binary, []
        return
    descriptor = os.open(binary, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}", [descriptor]
    finally:
        os.close(descriptor)


def _feed(pipe: str, data: bytes, process: subprocess.Popen[bytes], deadline: float) -> None:
    """Write ``data`` into a pipe whose reader may end at any time."""
    descriptor = -1
    try:
        rest = memoryview(data)
        while rest and process.poll() is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(process.args, 0)
            try:
                if descriptor < 0:
                    descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                rest = rest[os.write(descriptor, rest) :]
            except OSError as error:
                # ENXIO: the reader has not opened its end yet; EAGAIN: the pipe is full; EPIPE: the reader has left
                if error.errno == errno.EPIPE:
                    return
                if error.errno not in (errno.ENXIO, errno.EAGAIN):
                    raise
                time.sleep(0.001)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
