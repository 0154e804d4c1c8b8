# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that change a gateway have in common: options, and the way from options to a gateway."""

from __future__ import annotations

import contextlib
import os
import pwd
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _options
from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin, Peer
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._process import binary
from ansible_collections.moe.gateway.plugins.module_utils._store import Store
from ansible_collections.moe.gateway.plugins.module_utils._transaction import Gateway

if t.TYPE_CHECKING:
    from ansible_collections.moe.gateway.plugins.module_utils._validator import Validator

#: See the doc fragment ``moe.gateway.gateway``.
OPTIONS: dict[str, t.Any] = {
    "directory": {"type": "path", "default": "/etc/envoy/xds"},
    "admin_socket": {"type": "path", "default": "/run/envoy/admin.sock"},
    "envoy_binary": {"type": "path"},
    "owner": {"type": "str"},
    "timeout": {"type": "float", "default": 5.0},
    "keep": {"type": "int", "default": 5},
    "origin": _options.ORIGIN,
}

#: The option ``second_runtime`` (see ``_decision.way``).
SECOND_RUNTIME: dict[str, t.Any] = {
    "type": "str",
    "choices": ["side_by_side", "hot_restart"],
    "default": "side_by_side",
}

#: What a module does with its options and its gateway.
Apply = t.Callable[[dict[str, t.Any], Gateway], dict[str, t.Any]]

#: A throwaway Envoy has to load a foreign library; that is slow on a busy host, and it changes nothing meanwhile.
_SHORTEST_VALIDATION = 10.0


def run(module: AnsibleModule, apply: Apply) -> None:
    """End the module with what ``apply`` makes of its options and its gateway, or with the failure that it raises."""

    def work() -> dict[str, t.Any]:
        with opened(module.params, write=not module.check_mode) as gateway:
            return apply(module.params, gateway)

    _options.conclude(module, work)


@contextlib.contextmanager
def opened(params: dict[str, t.Any], write: bool) -> t.Iterator[Gateway]:
    """The gateway that the options name, locked for this run."""
    timeout, keep = params["timeout"], params["keep"]
    if not 0.1 <= timeout <= 600:
        raise invalid("timeout", f"{timeout:g}", "seconds from 0.1 to 600")
    if not 1 <= keep <= 1000:
        raise invalid("keep", str(keep), "a number of generations from 1 to 1000")
    directory = params["directory"]
    if not os.path.isabs(directory):
        raise invalid("directory", repr(directory), "an absolute path")
    uid, gid = _owner(directory, params["owner"])
    if os.geteuid() not in (0, uid):
        raise Failure(
            "wrong_user",
            f"directory: found {directory} of user id {uid}, and this runs as user id {os.geteuid()}. "
            "Run as that user, or with become. Nothing has changed.",
        )
    store = Store(directory.rstrip("/"), Files(uid, gid))

    def validator(peer: Peer) -> Validator:
        # Every import costs each run some milliseconds; one that has nothing to do needs no validator.
        from ansible_collections.moe.gateway.plugins.module_utils._validator import Validator

        envoy = params["envoy_binary"] or binary(peer.process.pid)
        return Validator(envoy, peer.uid, peer.gid, max(timeout, _SHORTEST_VALIDATION))

    origin = {key: text for key, text in params["origin"].items() if text}
    gateway = Gateway(store, Admin(params["admin_socket"], timeout), validator, timeout, keep, write, origin=origin)
    with store.locked(timeout, write):
        gateway.key = store.key(write)
        yield gateway


def _owner(directory: str, name: str | None) -> tuple[int, int]:
    """Who the files belong to: the named user, or whoever owns the directory."""
    if name is not None:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise invalid("owner", repr(name), "a user of this host") from None
        return entry.pw_uid, entry.pw_gid
    try:
        status = os.stat(directory)
    except FileNotFoundError:
        raise invalid(
            "directory",
            f"no directory at {directory}",
            "the directory that Envoy reads from",
            "moe.gateway.envoy makes it.",
        ) from None
    except OSError as error:
        raise Failure("file_error", f"directory: {directory} can't be used: {error.strerror}.") from error
    return status.st_uid, status.st_gid
