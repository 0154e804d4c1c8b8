# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the bootstrap of the config source ``static``: clusters, listeners and filters of a gateway are part of it.

usage: static.py BASE DIRECTORY BOOTSTRAP

The supervisor calls it before each start of an Envoy, so that every start, after a crash too, begins with what is on
disk. From BASE, a bootstrap without them, and from the files in DIRECTORY, which an Envoy of the config source
``filesystem`` would watch, it writes BOOTSTRAP. The node's metadata tells which versions are in there, and so Envoy
tells them on its admin interface.

Needs Python 3.9 and its standard library.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import typing as t

#: Below the node's metadata; plugins/module_utils/_admin.py reads it.
KEY = "moe.gateway"


def compose(base: dict[str, t.Any], directory: str, load: t.Callable[[str], dict[str, t.Any]]) -> dict[str, t.Any]:
    """The bootstrap; without side effects.

    :param load: the document of a file, by its path.
    """
    versions: dict[str, str] = {}

    def resources(name: str, path: str) -> list[dict[str, t.Any]]:
        document = load(path)
        versions[name] = document.get("version_info", "")
        return [{key: value for key, value in item.items() if key != "@type"} for item in document["resources"]]

    def with_filters(tree: t.Any) -> t.Any:
        if isinstance(tree, list):
            return [with_filters(child) for child in tree]
        if not isinstance(tree, dict):
            return tree
        path = tree.get("config_discovery", {}).get("config_source", {}).get("path_config_source", {}).get("path", "")
        if not path.startswith(f"{directory}/filters/"):
            return {key: with_filters(child) for key, child in tree.items()}
        (found,) = resources(f"filter {tree['name']}", path)
        rest = {key: value for key, value in tree.items() if key != "config_discovery"}
        return {**rest, "typed_config": found["typed_config"]}

    static = base.get("static_resources", {})
    clusters = resources("clusters", f"{directory}/clusters.json")
    listeners = with_filters(resources("listeners", f"{directory}/listeners.json"))
    node = base.get("node", {})
    metadata = {**node.get("metadata", {}), KEY: {"directory": directory, "versions": versions}}
    return {
        **base,
        "node": {**node, "metadata": metadata},
        "static_resources": {
            **static,
            "clusters": [*static.get("clusters", []), *clusters],
            "listeners": [*static.get("listeners", []), *listeners],
        },
    }


def main(base: str, directory: str, bootstrap: str) -> str:
    """Write it; what prevents that, without a word of what is in the files, which may be a secret."""

    def load(path: str) -> dict[str, t.Any]:
        with open(path, encoding="utf-8") as file:
            try:
                return json.load(file)
            except ValueError:
                raise OSError(errno.EINVAL, "found something else than JSON", path) from None

    try:
        text = json.dumps(compose(load(base), directory, load))
        # Whole or not at all: an Envoy that starts meanwhile reads it too.
        new = bootstrap + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(new, bootstrap)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return f"{directory}: found a file of another shape than moe.gateway writes ({type(error).__name__})"
    return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) or 0)
