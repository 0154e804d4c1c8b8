#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look after the files of extensions on a gateway: what is missing, what nothing uses any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: extension_files
short_description: Tell which files of extensions a gateway lacks, and remove those that nothing uses any more
version_added: 0.2.0
description:
  - Compares O(files) with what is on the host. A file whose content is not what its digest says is an error.
  - Finds the files in O(path) that may go, and removes them with O(collect=true). No revision in O(directory), in
    service or kept, names such a file, no process on the host has mapped it, O(files) does not have it, and it is not
    one of the newest O(keep) of its name that are unused like it.
  - Only regular files with names such as C(NAME-SHA256.so) are ever removed.
options:
  path:
    description: The directory of extensions.
    type: path
    required: true
  files:
    description: The extensions that have to be there. They are never removed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where.
        type: path
        required: true
      sha256:
        description: The digest of its content.
        type: str
        required: true
  directory:
    description:
      - The directory that Envoy reads its configuration from. Every file below it counts as a revision.
      - Where it is missing, nothing is removed.
    type: path
    default: /etc/envoy/xds
  revisions:
    description: More files that may name an extension, such as Envoy's bootstrap, or directories with such files.
    type: list
    elements: path
    default: []
  keep:
    description: How many unused files of each name stay, the newest first.
    type: int
    default: 1
  collect:
    description: Whether to remove what may go. No other run changes the gateway meanwhile.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the lock of the gateway, with O(collect=true).
    type: float
    default: 5.0
extends_documentation_fragment: [moe.gateway.host]
notes:
  - Needs Python 3.9 or later and nothing else on the gateway.
  - Another user than root can look only at its own processes.
seealso:
  - module: moe.gateway.envoy_filter
    description: Proves which file the running Envoy has mapped.
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Remove what nothing uses any more
  moe.gateway.extension_files:
    path: /opt/envoy/extensions
    directory: /etc/envoy/xds
    revisions: [/etc/envoy]
    collect: true
"""

RETURN = r"""
missing:
  description: Paths of O(files) that are not there.
  returned: success
  type: list
  elements: str
directories:
  description:
    - Those of RV(missing) in whose place an empty directory is. A kubelet makes one where a Pod starts that mounts a
      file without a type, and the file is not there.
  returned: success
  type: list
  elements: str
surplus:
  description: Paths of the files with a name of ours that O(files) does not have, used or not.
  returned: success
  type: list
  elements: str
unused:
  description: Paths of the files that may go. With O(collect=true) they are gone.
  returned: success
  type: list
  elements: str
platform:
  description: What an extension for this host has to suit, for C(target) of M(moe.gateway.extension_info).
  returned: success
  type: dict
  sample: {architecture: x86_64, glibc: "2.36"}
failure:
  description: Why it failed, as C(code), C(message) and C(details).
  returned: failure
  type: dict
"""

import contextlib
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _extension_files, _placement
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, conclude, invalid
from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._store import Store


def run(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    path = os.path.realpath(params["path"])
    if params["keep"] < 0:
        raise invalid("keep", str(params["keep"]), "a number of files, 0 or more")
    directories = _extension_files.directories(file["path"] for file in params["files"])
    files = [file for file in params["files"] if file["path"] not in directories]
    missing = directories + _placement.missing(files, None, None, "files")
    wanted = {os.path.basename(file["path"]) for file in params["files"]}
    unused: list[str] = []
    with contextlib.ExitStack() as stack:
        store = _store(params["directory"])
        if store is not None:
            if params["collect"]:
                stack.enter_context(store.locked(params["timeout"], write))
            unused = _extension_files.unused(path, wanted, store, params["revisions"], params["keep"])
        if params["collect"] and write:
            _extension_files.remove(unused)
    collected = unused if params["collect"] else []
    return {
        "changed": bool(collected),
        "missing": missing,
        "directories": directories,
        "surplus": _extension_files.surplus(path, wanted) if store is not None else [],
        "unused": unused,
        "platform": _placement.platform(),
        "diff": {"before": "".join(f"{path}\n" for path in collected), "after": ""},
    }


def _store(directory: str) -> Store | None:
    try:
        status = os.stat(directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure("file_error", f"directory: {directory} can't be used: {error.strerror}.") from error
    return Store(directory.rstrip("/"), Files(status.st_uid, status.st_gid))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "path", "required": True}, "sha256": {"type": "str", "required": True}},
            },
            "directory": {"type": "path", "default": "/etc/envoy/xds"},
            "revisions": {"type": "list", "elements": "path", "default": []},
            "keep": {"type": "int", "default": 1},
            "collect": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 5.0},
        },
        supports_check_mode=True,
    )
    conclude(module, lambda: run(module.params, write=not module.check_mode))


if __name__ == "__main__":
    main()
