# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve: from the options of one filter to the content that should run, and to what people may see of it. Pure.

And back: from a content that was kept to what has to be known of it where nobody has the variables any more.
"""

from __future__ import annotations

import typing as t

from ansible_collections.moe.gateway.plugins.module_utils import _engines
from ansible_collections.moe.gateway.plugins.module_utils._engines import Extension
from ansible_collections.moe.gateway.plugins.module_utils._failure import invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import Mapping, describe
from ansible_collections.moe.gateway.plugins.module_utils._revision import keyed_digest, substitute


class Revision(t.NamedTuple):
    """Everything that decides what one filter does."""

    content: dict[str, t.Any]
    view: dict[str, t.Any]
    extension: Extension | None


def extension_of(params: dict[str, t.Any]) -> Extension | None:
    """The compiled library that the options name; the blog's form of engine golang names it in its config."""
    if params["engine"] == "native":
        if params["extension"] is not None:
            raise invalid("extension", describe(params["extension"]), "nothing, since engine is native")
        return None
    if params["extension"] is not None:
        return Extension.at(params["extension"])
    path = Mapping(params["config"], "config").text("library_path", None)
    if params["engine"] == "golang" and path is not None:
        return Extension.at(path, "config.library_path")
    raise invalid("extension", "nothing", f"the path of the compiled library, since engine is {params['engine']}")


def revision(params: dict[str, t.Any], secrets: dict[str, str], key: bytes) -> Revision:
    """What the options of ``envoy_filter`` say should run.

    :param key: the gateway's, for the digests that stand for secrets in the view.
    """
    if params["state"] == "absent":
        return Revision(_engines.DENY, {"state": "absent"}, None)
    engine, name = params["engine"], params["name"]
    filter_name = params["filter_name"]
    if filter_name is not None and engine != "dynamic_module":
        raise invalid("filter_name", describe(filter_name), f"nothing, since engine is {engine}")
    if filter_name == "":
        raise invalid("filter_name", describe(filter_name), "the name of one of the library's filters")
    extension = extension_of(params)
    config, used = substitute(params["config"], secrets, "config")
    redacted = bool(used) and params["redact"] and engine == "dynamic_module"
    # First without secrets: an error describes the value that is wrong.
    _engines.typed_config(engine, name, params["config"], extension, filter_name, redacted)
    content = _engines.typed_config(engine, name, config, extension, filter_name, redacted)
    view = {
        "engine": engine,
        "extension": extension.path if extension else None,
        "filter_name": filter_name or name,
        "config": params["config"],
        "redacted": redacted,
        "secrets": {secret: f"digest {keyed_digest(key, 'secret', value)}" for secret, value in sorted(used.items())},
    }
    return Revision(content, view, extension)


def kept_extension(content: dict[str, t.Any]) -> Extension | None:
    """The compiled library that a kept content names."""
    path = _engines.library_of(content)
    return Extension.at(path) if path is not None else None


def kept_secrets(content: dict[str, t.Any], view: dict[str, t.Any]) -> list[str]:
    """The values in a kept content that no message may hold: all that its view does not show."""
    found: list[str] = []

    def walk(item: t.Any, seen: t.Any) -> None:
        if isinstance(item, dict):
            for key, child in item.items():
                walk(child, seen.get(key) if isinstance(seen, dict) else None)
        elif isinstance(item, list):
            pairs = seen if isinstance(seen, list) and len(seen) == len(item) else [None] * len(item)
            for child, part in zip(item, pairs):
                walk(child, part)
        elif isinstance(item, str) and item and item != seen:
            found.append(item)

    try:
        config = _engines.config_of(content)
    except (KeyError, TypeError, ValueError):
        config = content
    if isinstance(config, dict):
        # Tells nothing that the listener does not.
        config = {key: value for key, value in config.items() if key != "@type"}
    walk(config, view.get("config"))
    return found
