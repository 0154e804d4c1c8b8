# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines: from what a user says of a filter to the typed configuration that Envoy takes. Pure.

Upstream: ``envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter``,
``envoy.extensions.filters.http.golang.v3alpha.Config``, ``envoy.extensions.filters.http.rbac.v3.RBAC``.
"""

from __future__ import annotations

import json
import math
import re
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import Mapping, describe

ENGINES = ("dynamic_module", "golang", "native")
TYPE_PREFIX = "type.googleapis.com/"
DYNAMIC_MODULE = "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter"
GOLANG = "envoy.extensions.filters.http.golang.v3alpha.Config"
RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC"
SEAL = "envoy.extensions.transport_sockets.tls.v3.GenericSecret"
TYPED_STRUCT = "xds.type.v3.TypedStruct"

#: Refuses every request with 403: an allow-list without an entry. Stands wherever a filter has no revision.
DENY: dict[str, t.Any] = {"@type": TYPE_PREFIX + RBAC, "rules": {"action": "ALLOW", "policies": {}}}

_ADDRESSED = r"/(?:.*/)?(?:[^/]*[^/0-9a-f])?([0-9a-f]{64})\.so"
_TYPE_NAME = r"[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)+"


def type_name(typed: dict[str, t.Any]) -> str:
    """The message type in an ``@type``: what follows the last slash (as Envoy reads it)."""
    return typed["@type"].rpartition("/")[2]


def filter_type(engine: str, declared: str | None, path: str) -> str:
    """The type that a listener must allow for a filter of this engine.

    :param declared: for ``native``, the type or type URL of the stock filter.
    :param path: where the filter stands in the options, for errors.
    """
    if engine not in ENGINES:
        raise invalid(f"{path}.engine", describe(engine), "one of " + ", ".join(ENGINES))
    if engine != "native":
        if declared is not None:
            raise invalid(f"{path}.type", describe(declared), f"nothing, since engine is {engine}")
        return DYNAMIC_MODULE if engine == "dynamic_module" else GOLANG
    name = declared.rpartition("/")[2] if isinstance(declared, str) else ""
    if not re.fullmatch(_TYPE_NAME, name):
        raise invalid(f"{path}.type", describe(declared), "the type of a stock filter, such as " + RBAC)
    return name


class Extension(t.NamedTuple):
    """A compiled library on the gateway, under a path that never changes its code."""

    path: str
    sha256: str

    @staticmethod
    def named(path: str) -> bool:
        """Whether a path names its content, as every extension's does."""
        return re.fullmatch(_ADDRESSED, path) is not None

    @classmethod
    def at(cls, path: str, option: str = "extension") -> Extension:
        match = re.fullmatch(_ADDRESSED, path)
        if not match:
            raise invalid(
                option,
                describe(path),
                "an absolute path whose file name holds the SHA-256 of the file, as /dir/basic_auth-<64 hex digits>.so",
                "Envoy and Go never read the same path twice, so a path must never change its code.",
            )
        return cls(path, match.group(1))


def typed_config(
    engine: str,
    name: str,
    config: dict[str, t.Any],
    extension: Extension | None,
    filter_name: str | None,
    seal: bool,
) -> dict[str, t.Any]:
    """The ``typed_config`` of a filter.

    :param config: with its secrets in; for ``dynamic_module`` what the module gets as JSON, for the others Envoy's own
        message.
    :param filter_name: which of the module's filters; ``name`` by default.
    :param seal: hand a dynamic module its configuration inside a ``GenericSecret``, which the admin interface redacts.
    """
    _check_numbers(config, "config", 2**53 if engine == "native" else None)
    if engine == "native":
        return _native(config)
    if extension is None:
        raise invalid("extension", "nothing", f"the path of the compiled library, since engine is {engine}")
    if engine == "golang":
        return _golang(name, config, extension)
    text = json.dumps(config, ensure_ascii=False, separators=(",", ":"))
    payload: dict[str, t.Any] = {"@type": TYPE_PREFIX + "google.protobuf.StringValue", "value": text}
    if seal:
        payload = {"@type": TYPE_PREFIX + SEAL, "secret": {"inline_string": text}}
    return {
        "@type": TYPE_PREFIX + DYNAMIC_MODULE,
        "dynamic_module_config": {"module": {"local": {"filename": extension.path}}},
        "filter_name": filter_name or name,
        "filter_config": payload,
    }


def _check_numbers(value: t.Any, path: str, largest: int | None) -> None:
    """Raise unless every number is one that JSON has and that arrives as it is.

    :param largest: what a ``Struct``, in which :func:`wrap` puts it all, holds exactly: its numbers are doubles.
    """
    if isinstance(value, dict):
        for key, child in value.items():
            _check_numbers(child, f"{path}.{key}", largest)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _check_numbers(child, f"{path}[{index}]", largest)
    elif isinstance(value, float) and not math.isfinite(value):
        raise invalid(path, describe(value), "a number")
    elif isinstance(value, int) and largest is not None and abs(value) > largest:
        raise invalid(path, describe(value), f"an integer of at most {largest}, or a string", "Quote it.")


def _native(config: dict[str, t.Any]) -> dict[str, t.Any]:
    url = config.get("@type")
    if not isinstance(url, str) or not re.fullmatch(r"type\.googleapis\.com/" + _TYPE_NAME, url):
        raise invalid("config.@type", describe(url), "the type URL of a stock filter, such as " + TYPE_PREFIX + RBAC)
    if type_name(config) == TYPED_STRUCT:
        raise invalid("config.@type", describe(url), "the type of the filter itself", "Give its fields beside it.")
    return config


def _golang(name: str, config: dict[str, t.Any], extension: Extension) -> dict[str, t.Any]:
    keys = Mapping({key: value for key, value in config.items() if key != "@type"}, "config")
    url = config.get("@type", TYPE_PREFIX + GOLANG)
    if url != TYPE_PREFIX + GOLANG:
        raise invalid("config.@type", describe(url), f"nothing, or {TYPE_PREFIX}{GOLANG}, since engine is golang")
    path = keys.text("library_path", extension.path)
    if path != extension.path:
        raise invalid("config.library_path", describe(path), f"nothing, or the value of extension ({extension.path})")
    # Envoy caches Go libraries by library_id alone: the same id with another path would keep the old code.
    library_id = f"{keys.text('library_id', name)}-{extension.sha256}"
    plugin = keys.text("plugin_name", name)
    payload = keys.mapping("plugin_config", None)
    if payload is not None and not isinstance(payload.value.get("@type"), str):
        raise invalid(
            payload.at("@type"),
            describe(payload.value.get("@type")),
            f"a type URL, such as {TYPE_PREFIX}{TYPED_STRUCT}",
        )
    return {
        **config,
        "@type": TYPE_PREFIX + GOLANG,
        "library_id": library_id,
        "library_path": path,
        "plugin_name": plugin,
    }


def config_of(typed: dict[str, t.Any]) -> t.Any:
    """The inverse of :func:`typed_config`: what was given as ``config``, with its secrets in."""
    if type_name(typed) != DYNAMIC_MODULE:
        return typed
    payload = typed["filter_config"]
    return json.loads(payload["secret"]["inline_string"] if "secret" in payload else payload["value"])


def library_of(typed: dict[str, t.Any]) -> str | None:
    """The path of the compiled library that a configuration names."""
    if type_name(typed) == DYNAMIC_MODULE:
        return typed["dynamic_module_config"]["module"]["local"]["filename"]
    return typed["library_path"] if type_name(typed) == GOLANG else None


def with_library(typed: dict[str, t.Any], path: str) -> dict[str, t.Any]:
    """The same configuration of a dynamic module, for another build of its library."""
    module = {**typed["dynamic_module_config"], "module": {"local": {"filename": path}}}
    return {**typed, "dynamic_module_config": module}


def wrap(typed: dict[str, t.Any], nonce: str) -> dict[str, t.Any]:
    """The same configuration in bytes that Envoy has not seen before.

    Envoy never evaluates the bytes of the last push again, though it counts them as a success, even if it had refused
    them. Of a ``TypedStruct``'s type URL only what follows the last slash selects the type; the rest enters the hash.
    """
    value = {key: item for key, item in typed.items() if key != "@type"}
    return {"@type": TYPE_PREFIX + TYPED_STRUCT, "type_url": f"{nonce}/{type_name(typed)}", "value": value}


def unwrap(wrapped: dict[str, t.Any]) -> dict[str, t.Any]:
    """The inverse of :func:`wrap`."""
    if wrapped.get("@type") != TYPE_PREFIX + TYPED_STRUCT or not isinstance(wrapped.get("type_url"), str):
        raise Failure("not_ours", "the typed_config is not a TypedStruct as this collection writes it")
    return {"@type": TYPE_PREFIX + wrapped["type_url"].rpartition("/")[2], **wrapped.get("value", {})}
