# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges what is known of an extension's file against the gateway that is to load it. Pure: reads no file."""

from __future__ import annotations

import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._keys import Mapping

DYNAMIC_MODULE = "dynamic_module"
GOLANG = "golang"

PROGRAM_INIT = "envoy_dynamic_module_on_program_init"
_MODULE_HOOK = "envoy_dynamic_module_on_"
_HTTP_HOOK = "envoy_dynamic_module_on_http_filter_"

# What a dynamic module must export for its HTTP filters. Found by leaving out one hook at a time of all that the
# release names, and asking `envoy --mode validate`: Envoy 1.36.2-1.36.4, then 1.37.0-1.40.0, which differ only here.
# Upstream: newDynamicModuleHttpFilterConfig in source/extensions/filters/http/dynamic_modules/filter_config.cc.
_HOOKS_1_36 = frozenset(
    _HTTP_HOOK + hook
    for hook in (
        "config_new",
        "config_destroy",
        "new",
        "destroy",
        "request_headers",
        "request_body",
        "request_trailers",
        "response_headers",
        "response_body",
        "response_trailers",
        "stream_complete",
        "http_callout_done",
        "scheduled",
    )
)
_HOOKS_1_37 = _HOOKS_1_36 | frozenset(
    _HTTP_HOOK + hook
    for hook in (
        "http_stream_headers",
        "http_stream_data",
        "http_stream_trailers",
        "http_stream_complete",
        "http_stream_reset",
        "downstream_above_write_buffer_high_watermark",
        "downstream_below_write_buffer_low_watermark",
    )
)

# What the contrib filter looks up, and refuses the library without.
# Upstream: HttpFilterDsoImpl in contrib/golang/common/dso/dso.cc.
_GOLANG_EXPORTS = frozenset(
    (
        "envoyGoFilterNewHttpPluginConfig",
        "envoyGoFilterMergeHttpPluginConfig",
        "envoyGoFilterDestroyHttpPluginConfig",
        "envoyGoFilterOnHttpHeader",
        "envoyGoFilterOnHttpData",
        "envoyGoFilterOnHttpLog",
        "envoyGoFilterOnHttpStreamComplete",
        "envoyGoFilterOnHttpDestroy",
        "envoyGoRequestSemaDec",
    )
)

# The string that PROGRAM_INIT must return. Up to 1.37 it is a hash over the ABI's headers (kAbiVersion in
# source/extensions/dynamic_modules/abi_version.h), so a patch release can change it, and another string is refused.
# From 1.38 it is a version (ENVOY_DYNAMIC_MODULES_ABI_VERSION in source/extensions/dynamic_modules/abi/abi.h),
# and another string is only warned of. All were compared with what the released binaries accept.
_ABI_OF_PATCH: dict[tuple[int, ...], str] = {
    (1, 36, 2): "ca2be3b80954d2a0e22b41d033b18eff9390c30261c8ec9ffe6e6bf971f41c27",
    (1, 36, 3): "7ee559f16f35086fa7dc9ed380e2efc6b4d89031a001fb504aa71eccd25882f7",
    (1, 36, 4): "7ee559f16f35086fa7dc9ed380e2efc6b4d89031a001fb504aa71eccd25882f7",
    (1, 37, 0): "4dae397a7c9ff0238d318d57ea656ce8b3fbff595787dcd7ee2ff5b79c9fe10f",
}
_ABI_OF_MINOR: dict[tuple[int, ...], str] = {(1, 38): "v0.1.0", (1, 39): "v0.1.0", (1, 40): "v0.2.0"}
KNOWN_ABIS = frozenset(_ABI_OF_PATCH.values()) | frozenset(_ABI_OF_MINOR.values())

# Envoy is released for these two; the names on the right are Go's and Debian's for the same.
_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class Description(t.NamedTuple):
    """What the file says of itself."""

    architecture: str
    exports: frozenset[str]
    """All functions whose name begins with ``envoy``: no other can belong to an engine."""
    abi_version: str | None
    abi_version_from: str | None
    """``code`` when PROGRAM_INIT was read, ``string`` when only a known string was found, None when neither."""
    glibc: str | None
    needed: list[str]
    nodelete: bool
    go: dict[str, t.Any] | None
    size: int
    sha256: str


class Target(t.NamedTuple):
    """The gateway that is to load it; None is whatever the caller does not know."""

    envoy_version: str | None = None
    architecture: str | None = None
    glibc: str | None = None
    engine: str | None = None
    abi_version: str | None = None

    @classmethod
    def read(cls, value: object) -> Target:
        options = Mapping({} if value is None else value, "target").only(*cls._fields)
        # An unquoted 1.40 or 2.30 is a number that YAML has already shortened, hence strings only.
        three_numbers = 'a quoted version of three numbers, e.g. "1.40.0"'
        version = options.text("envoy_version", None, r"v?[0-9]{1,4}(\.[0-9]{1,4}){2}", three_numbers)
        machines = "one of " + ", ".join(_ARCHITECTURES)
        architecture = options.text("architecture", None, "|".join(_ARCHITECTURES), machines)
        glibc = options.text("glibc", None, r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}", 'a quoted version, e.g. "2.36"')
        return cls(
            envoy_version=version and version.lstrip("v"),
            architecture=architecture and _ARCHITECTURES[architecture],
            glibc=glibc,
            engine=options.text("engine", None, f"{DYNAMIC_MODULE}|{GOLANG}", f"one of {DYNAMIC_MODULE}, {GOLANG}"),
            abi_version=options.text("abi_version", None),
        )


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def engines(exports: frozenset[str]) -> list[str]:
    """The engines that the file was written for, complete or not."""
    found = []
    if any(name.startswith(_MODULE_HOOK) for name in exports):
        found.append(DYNAMIC_MODULE)
    if exports & _GOLANG_EXPORTS:
        found.append(GOLANG)
    return found


def missing_exports(exports: frozenset[str], envoy_version: str | None) -> dict[str, list[str]]:
    """For each engine found, the required exports that are not there; without a version, those of the newest known."""
    hooks = _HOOKS_1_36 if envoy_version and numbers(envoy_version) < (1, 37) else _HOOKS_1_37
    required = {DYNAMIC_MODULE: hooks | {PROGRAM_INIT}, GOLANG: _GOLANG_EXPORTS}
    return {engine: sorted(required[engine] - exports) for engine in engines(exports)}


def expected_abi(target: Target) -> str | None:
    """The ABI string of the target, None where it is not known."""
    if target.abi_version or not target.envoy_version:
        return target.abi_version
    version = numbers(target.envoy_version)
    return _ABI_OF_PATCH.get(version) or _ABI_OF_MINOR.get(version[:2])


def _problem(code: str, found: str, expected: str, fix: str, key: str = "path") -> Failure:
    return Failure(code, f"{key}: found {found}, expected {expected}. {fix}", key=key, found=found, expected=expected)


def judge(description: Description, target: Target) -> list[Failure]:
    """Every reason why the target must not load the file."""
    problems = []
    if target.architecture and description.architecture != target.architecture:
        problems.append(
            _problem(
                "wrong_architecture",
                f"code for {description.architecture}",
                f"code for {target.architecture}",
                f"Build the extension for {target.architecture}.",
            )
        )
    problems += _judge_libc(description, target)
    found = engines(description.exports)
    if not found:
        problems.append(
            _problem(
                "no_engine",
                "no exported function that Envoy calls",
                f"{PROGRAM_INIT} (a dynamic module) or envoyGoFilterNewHttpPluginConfig (a contrib Go filter)",
                "Export the hooks: in Go by //export and -buildmode=c-shared, in C by default visibility.",
            )
        )
    elif target.engine and target.engine not in found:
        problems.append(
            _problem(
                "wrong_engine",
                f"an extension for {found[0]}",
                f"one for {target.engine}",
                f"Set the engine to {found[0]}, or build the extension against {target.engine}.",
            )
        )
    envoy = f"Envoy {target.envoy_version}" if target.envoy_version else "Envoy"
    for engine, missing in missing_exports(description.exports, target.envoy_version).items():
        if target.engine not in (None, engine):
            continue
        if missing:
            problems.append(
                _problem(
                    "missing_exports",
                    f"no exported function {', '.join(missing)}",
                    f"every function that {envoy} requires of {engine}",
                    "Export them; a hook that has nothing to do may be empty.",
                )
            )
        if engine == DYNAMIC_MODULE:
            problems += _judge_abi(description, target)
    return problems


def _judge_libc(description: Description, target: Target) -> list[Failure]:
    if not target.glibc:
        return []
    # glibc's is libc.so.6 everywhere; musl's is libc.so, or libc.musl-<architecture>.so.1 where Alpine built it.
    musl = [library for library in description.needed if library == "libc.so" or library.startswith("libc.musl-")]
    if musl:
        found = f"a need for musl ({musl[0]})"
        fix = "Build the extension against glibc."
        return [_problem("wrong_libc", found, f"a need for glibc {target.glibc} or older", fix)]
    if description.glibc and numbers(description.glibc) > numbers(target.glibc):
        return [
            _problem(
                "glibc_too_old",
                f"a need for glibc {description.glibc}",
                f"a need for glibc {target.glibc} or older",
                "Build the extension against an older glibc (zig cc -target takes its version), or upgrade the host.",
            )
        ]
    return []


def _judge_abi(description: Description, target: Target) -> list[Failure]:
    if not target.envoy_version and not target.abi_version:
        return []
    expected = expected_abi(target)
    if expected is None:
        known = [".".join(map(str, patch)) for patch in _ABI_OF_PATCH]
        known += [f"{major}.{minor}.x" for major, minor in _ABI_OF_MINOR]
        return [
            _problem(
                "unknown_envoy_version",
                target.envoy_version or "",
                "a version whose ABI is known here: " + ", ".join(known),
                "Set target.abi_version to what that Envoy's ABI header says.",
                key="target.envoy_version",
            )
        ]
    wanted = f"ABI {expected}" + (f" of Envoy {target.envoy_version}" if target.envoy_version else "")
    if description.abi_version is None:
        fix = f"Let {PROGRAM_INIT} return a constant string, and do nothing else."
        return [_problem("unknown_abi", "an ABI version that can't be told without running the code", wanted, fix)]
    if description.abi_version != expected:
        fix = "Build the extension against the ABI header of the gateway's Envoy."
        return [_problem("wrong_abi", f"ABI {description.abi_version}", wanted, fix)]
    return []


def unfit(path: str, problems: list[Failure]) -> Failure:
    """All problems of the file at ``path`` as one failure."""
    return Failure(
        "unfit_extension",
        f"{path} does not fit its gateway. " + " ".join(problem.message for problem in problems),
        path=path,
        problems=[problem.as_dict() for problem in problems],
    )
