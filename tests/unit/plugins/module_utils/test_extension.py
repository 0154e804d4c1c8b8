# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an extension's file must be for a gateway: each mismatch, and what is said of it."""

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _extension
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

HOOKS_1_36 = """
    config_new config_destroy new destroy request_headers request_body request_trailers response_headers response_body
    response_trailers stream_complete http_callout_done scheduled
"""
HOOKS_1_37 = """
    http_stream_headers http_stream_data http_stream_trailers http_stream_complete http_stream_reset
    downstream_above_write_buffer_high_watermark downstream_below_write_buffer_low_watermark
"""


def module_exports(hooks):
    names = {"envoy_dynamic_module_on_http_filter_" + hook for hook in hooks.split()}
    return frozenset(names | {"envoy_dynamic_module_on_program_init"})


FULL = module_exports(HOOKS_1_36 + HOOKS_1_37)
OLD = module_exports(HOOKS_1_36)
GOLANG = frozenset(
    "envoyGo" + name
    for name in (
        "FilterNewHttpPluginConfig",
        "FilterMergeHttpPluginConfig",
        "FilterDestroyHttpPluginConfig",
        "FilterOnHttpHeader",
        "FilterOnHttpData",
        "FilterOnHttpLog",
        "FilterOnHttpStreamComplete",
        "FilterOnHttpDestroy",
        "RequestSemaDec",
    )
)
GATEWAY = {"envoy_version": "1.40.0", "architecture": "x86_64", "glibc": "2.36", "engine": "dynamic_module"}
HASH_1_37_0 = "4dae397a7c9ff0238d318d57ea656ce8b3fbff595787dcd7ee2ff5b79c9fe10f"


def described(**facts):
    return _extension.Description(
        **{
            "architecture": "x86_64",
            "exports": FULL,
            "abi_version": "v0.2.0",
            "abi_version_from": "code",
            "glibc": "2.28",
            "needed": ["libc.so.6"],
            "nodelete": True,
            "go": None,
            "size": 1,
            "sha256": "0" * 64,
            **facts,
        }
    )


def problems(facts, target):
    return _extension.judge(described(**facts), _extension.Target.read(target))


FIT = [
    ({}, GATEWAY),
    ({}, {}),
    ({}, None),
    ({}, {"envoy_version": "v1.40.7"}),
    ({}, {"architecture": "amd64"}),
    ({"architecture": "aarch64"}, {"architecture": "arm64"}),
    ({"glibc": "2.9"}, {"glibc": "2.36"}),
    ({"glibc": "2.36"}, {"glibc": "2.36"}),
    ({"glibc": "2.36"}, {"glibc": "2.36.1"}),
    ({"glibc": None, "needed": []}, {"glibc": "2.28"}),
    ({"needed": ["libc.so"]}, {"envoy_version": "1.40.0"}),
    ({"abi_version": None}, {}),
    ({"abi_version": "v0.1.0"}, {"envoy_version": "1.38.2"}),
    ({"abi_version": "v0.1.0"}, {"envoy_version": "1.39.3"}),
    ({"abi_version": HASH_1_37_0}, {"envoy_version": "1.37.0"}),
    ({"abi_version": "v9.0.0"}, {"envoy_version": "1.99.0", "abi_version": "v9.0.0"}),
    ({"abi_version": "v9.0.0"}, {"abi_version": "v9.0.0"}),
    ({"exports": OLD, "abi_version": "x"}, {"envoy_version": "1.36.9", "abi_version": "x"}),
    ({"exports": GOLANG, "abi_version": None}, {"envoy_version": "1.40.0", "engine": "golang"}),
    ({"exports": GOLANG, "abi_version": None}, {"envoy_version": "1.99.0"}),
    ({"exports": FULL | {"envoyGoRequestSemaDec"}}, {"engine": "dynamic_module"}),
]


@pytest.mark.parametrize(("facts", "target"), FIT)
def test_fits(facts, target):
    assert problems(facts, target) == []


UNFIT = [
    ({"architecture": "aarch64"}, GATEWAY, "wrong_architecture", "aarch64", "x86_64"),
    ({"architecture": "riscv"}, {"architecture": "arm64"}, "wrong_architecture", "riscv", "aarch64"),
    ({"glibc": "2.34"}, {"glibc": "2.28"}, "glibc_too_old", "2.34", "2.28"),
    ({"glibc": "2.10"}, {"glibc": "2.9"}, "glibc_too_old", "2.10", "2.9"),
    ({"glibc": "2.36.1"}, {"glibc": "2.36"}, "glibc_too_old", "2.36.1", "2.36"),
    ({"glibc": None, "needed": ["libc.so"]}, {"glibc": "2.36"}, "wrong_libc", "musl", "glibc"),
    ({"glibc": None, "needed": ["libc.musl-x86_64.so.1"]}, {"glibc": "2.36"}, "wrong_libc", "musl", "glibc"),
    ({"exports": frozenset()}, {}, "no_engine", "no exported function", "envoy_dynamic_module_on_program_init"),
    ({"exports": frozenset()}, GATEWAY, "no_engine", "no exported function", "envoy_dynamic_module_on_program_init"),
    ({"exports": frozenset({"envoy_else"})}, {}, "no_engine", "no exported function", "envoyGoFilter"),
    ({}, {"engine": "golang"}, "wrong_engine", "dynamic_module", "golang"),
    ({"exports": GOLANG}, {"engine": "dynamic_module"}, "wrong_engine", "golang", "dynamic_module"),
    ({"exports": OLD}, GATEWAY, "missing_exports", "http_filter_http_stream_reset", "Envoy 1.40.0"),
    ({"exports": OLD}, {}, "missing_exports", "http_filter_http_stream_reset", "every function"),
    ({"exports": FULL - {"envoy_dynamic_module_on_program_init"}}, {}, "missing_exports", "program_init", "function"),
    ({"exports": GOLANG - {"envoyGoFilterOnHttpLog"}}, {}, "missing_exports", "envoyGoFilterOnHttpLog", "golang"),
    ({"abi_version": "v0.1.0"}, GATEWAY, "wrong_abi", "v0.1.0", "v0.2.0 of Envoy 1.40.0"),
    ({"abi_version": "v0.2.0"}, {"envoy_version": "1.39.0"}, "wrong_abi", "v0.2.0", "v0.1.0"),
    ({"abi_version": "v0.1.0"}, {"envoy_version": "1.37.0"}, "wrong_abi", "v0.1.0", HASH_1_37_0),
    ({}, {"abi_version": "v0.3.0"}, "wrong_abi", "v0.2.0", "v0.3.0"),
    ({"abi_version": None}, GATEWAY, "unknown_abi", "can't be told", "v0.2.0"),
    ({}, {"envoy_version": "1.41.0"}, "unknown_envoy_version", "1.41.0", "1.40.x"),
    ({}, {"envoy_version": "1.37.1"}, "unknown_envoy_version", "1.37.1", "1.37.0"),
]


@pytest.mark.parametrize(("facts", "target", "code", "found", "expected"), UNFIT)
def test_does_not_fit(facts, target, code, found, expected):
    (problem,) = problems(facts, target)
    assert problem.code == code
    assert found in problem.details["found"]
    assert expected in problem.details["expected"]
    # One sentence for what is wrong, and at least one for what to do.
    assert problem.message.startswith(f"{problem.details['key']}: found {problem.details['found']}, expected ")
    assert problem.message.count(". ") >= 1


def test_names_every_mismatch_at_once():
    facts = {"architecture": "aarch64", "glibc": "2.38", "abi_version": "v0.1.0", "exports": OLD}
    found = problems(facts, GATEWAY)
    assert [problem.code for problem in found] == [
        "wrong_architecture",
        "glibc_too_old",
        "missing_exports",
        "wrong_abi",
    ]
    failure = _extension.unfit("/srv/a.so", found)
    assert failure.code == "unfit_extension"
    assert failure.message.startswith("/srv/a.so ")
    assert all(problem.message in failure.message for problem in found)
    assert failure.details["problems"] == [problem.as_dict() for problem in found]


def test_judges_both_engines_of_one_file():
    exports = (OLD | GOLANG) - {"envoyGoFilterOnHttpData"}
    assert _extension.engines(exports) == ["dynamic_module", "golang"]
    missing = _extension.missing_exports(exports, None)
    assert missing["golang"] == ["envoyGoFilterOnHttpData"]
    assert set(missing["dynamic_module"]) == FULL - OLD
    assert _extension.missing_exports(exports, "1.36.4")["dynamic_module"] == []


BAD_TARGETS = [
    ("x", "target", "a mapping"),
    ({"envoy": "1.40.0"}, "target.envoy", "envoy_version"),
    ({"envoy_version": 1.4}, "target.envoy_version", "quoted"),
    ({"envoy_version": "1.40"}, "target.envoy_version", "three numbers"),
    ({"envoy_version": "latest"}, "target.envoy_version", "three numbers"),
    ({"architecture": "x86-64"}, "target.architecture", "x86_64"),
    ({"architecture": "riscv64"}, "target.architecture", "x86_64"),
    ({"glibc": 2.3}, "target.glibc", "quoted"),
    ({"glibc": "glibc 2.36"}, "target.glibc", "2.36"),
    ({"engine": "native"}, "target.engine", "dynamic_module, golang"),
    ({"abi_version": ""}, "target.abi_version", "a string"),
]


@pytest.mark.parametrize(("target", "key", "expected"), BAD_TARGETS)
def test_refuses_a_bad_target(target, key, expected):
    with pytest.raises(Failure) as error:
        _extension.Target.read(target)
    assert error.value.details["key"] == key
    assert expected in error.value.details["expected"]
