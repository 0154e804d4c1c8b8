# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the programs of a real control plane, for the tests of Istio and Kubernetes, into build/control_plane/bin.

tests/kubernetes pins their sources as Go modules; nothing else is downloaded. What Istio installs into a cluster (its
custom resource definitions and charts) comes out of the same sources into build/control_plane/istio. A program that was
built of the same pins is not built anew, and one that is running is replaced, never written to.

The machine's own Go is used where it is new enough, with its own build cache, else the one that also builds extensions.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "tests" / "kubernetes"
BUILD = ROOT / "build" / "control_plane"
BIN = BUILD / "bin"
#: What every program in BIN, and the folder ISTIO, were made from.
STAMP = BUILD / "stamp.json"
ISTIO = BUILD / "istio"
LOCK = BUILD / ".lock"
sys.path.insert(0, str(ROOT / "build" / "collections"))

from ansible_collections.moe.gateway.plugins.module_utils import _build  # noqa: E402
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure  # noqa: E402

CHARTS = ("base", "gateway", "istio-control/istio-discovery")
_KUBERNETES = "k8s.io/kubernetes/cmd/"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd/"


class Module(t.NamedTuple):
    """A Go module with the packages of its programs, by their names, and the build tags that they want."""

    folder: Path
    tags: str
    programs: dict[str, str]


MODULES = (
    Module(
        SOURCES,
        # Istio's own: less allocation for each push, and no second set of validators. The others don't know them.
        "vtprotobuf,disable_pgv",
        {
            "etcd": "go.etcd.io/etcd/server/v3",
            "kube-apiserver": _KUBERNETES + "kube-apiserver",
            "pilot-discovery": "istio.io/istio/pilot/cmd/pilot-discovery",
            "istioctl": "istio.io/istio/istioctl/cmd/istioctl",
            "kube-controller-manager": _KUBERNETES + "kube-controller-manager",
            "kube-scheduler": _KUBERNETES + "kube-scheduler",
            "kubelet": _KUBERNETES + "kubelet",
        },
    ),
    Module(
        SOURCES / "containerd",
        # Storage that needs C libraries.
        "no_btrfs,no_zfs,no_devmapper",
        {name: _CONTAINERD + name for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
    ),
    Module(SOURCES / "etcdutl", "", {"etcdutl": "go.etcd.io/etcd/etcdutl/v3"}),
)
PROGRAMS = {name: module for module in MODULES for name in module.programs}


def pinned(name: str) -> str:
    """The version of a module that SOURCES pins."""
    match = re.search(rf"^\s*{re.escape(name)} v(\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    assert match, f"{SOURCES / 'go.mod'} doesn't require {name}"
    return match[1]


def ldflags() -> str:
    """Programs that are smaller and that say which release they are."""
    kubernetes, istio = pinned("k8s.io/kubernetes"), pinned("istio.io/api")
    major, minor, _patch = kubernetes.split(".")
    named = {
        "istio.io/istio/pkg/version.buildVersion": istio,
        "k8s.io/component-base/version.gitVersion": f"v{kubernetes}",
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
    }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in named.items())])


def flags(module: Module) -> list[str]:
    # Two at a time, each in one thread: a linker of these takes up to 2 GB of memory. Without inlining, which saves a
    # third of the time.
    common = ["-trimpath", "-buildvcs=false", "-p", "2", "-gcflags", "all=-l -dwarf=false -c=1", "-ldflags", ldflags()]
    return [*common, "-tags", module.tags]


def made_from(module: Module) -> str:
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((module.folder / name).read_bytes())
    digest.update(json.dumps([module.tags, ldflags(), platform.machine(), CHARTS]).encode())
    return digest.hexdigest()


def toolchain() -> tuple[str, dict[str, str], str]:
    """Go, what its environment needs, and its name for people."""
    found = _build.system_go(max((_build.needed_go(str(module.folder)) for module in MODULES), key=_numbers))
    if not isinstance(found, str):
        return found[0], {}, found[1]
    registry = _build.registry(platform.machine(), _build.OLDEST_GLIBC, str(ROOT / "build" / "toolchain"))
    _build.prepare(registry)
    return registry.go, registry.environment, registry.name


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def build(module: Module, names: list[str], go: str, environment: dict[str, str]) -> None:
    """Build some of a module's programs, all in one run, which shares what they have in common."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=BUILD) as scratch:
        packages = [module.programs[name] for name in names]
        command = [go, "build", *flags(module), "-o", f"{scratch}/", *packages]
        subprocess.run(command, cwd=module.folder, env=environment, check=True)
        for name, package in zip(names, packages, strict=True):
            os.replace(Path(scratch, _go_name(package)), BIN / name)


def _go_name(package: str) -> str:
    """How Go names the program of a package: a last element such as v3 is the version of a module."""
    elements = package.split("/")
    return elements[-2] if re.fullmatch(r"v\d+", elements[-1]) else elements[-1]


def copy_istio(go: str, environment: dict[str, str]) -> None:
    """What Istio's sources hold for its installation, and the definitions of the Gateway API, which it serves too."""

    def sources(name: str) -> Path:
        command = [go, "list", "-m", "-f", "{{.Dir}}", name]
        done = subprocess.run(command, cwd=SOURCES, env=environment, check=True, capture_output=True, text=True)
        return Path(done.stdout.strip())

    manifests = sources("istio.io/istio") / "manifests" / "charts"
    gateway_api = sources("sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    with tempfile.TemporaryDirectory(prefix=".istio-", dir=BUILD) as scratch:
        made = Path(scratch, "istio")
        for chart in CHARTS:
            # A module cache is read-only, and its modes would come along.
            shutil.copytree(manifests / chart, made / "charts" / Path(chart).name, copy_function=shutil.copyfile)
        for folder in [made, *filter(Path.is_dir, made.rglob("*"))]:
            folder.chmod(0o755)
        shutil.copyfile(manifests / "base" / "files" / "crd-all.gen.yaml", made / "crds.yaml")
        definitions = [path.read_text() for path in sorted(gateway_api.glob("gateway.networking.k8s.io_*.yaml"))]
        (made / "gateway-api.yaml").write_text("---\n".join(definitions))
        shutil.rmtree(ISTIO, ignore_errors=True)
        os.replace(made, ISTIO)


def run(wanted: list[str]) -> list[str]:
    """Build what of the wanted programs is not up to date; their names. Another run that does so is waited for."""
    BIN.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _run(wanted)


def _run(wanted: list[str]) -> list[str]:
    stamp = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    sums = {module.folder: made_from(module) for module in MODULES}

    def stale(name: str, module: Module, there: Path) -> bool:
        return stamp.get(name) != sums[module.folder] or not there.exists()

    todo = [name for name in wanted if stale(name, PROGRAMS[name], BIN / name)]
    if stale("istio", MODULES[0], ISTIO):
        todo.append("istio")
    if not todo:
        return []
    go, settings, name = toolchain()
    print(f"building {', '.join(todo)} with {name}", flush=True)
    environment = {**os.environ, **_build.FIXED, **settings, "CGO_ENABLED": "0"}
    environment["GOARCH"] = _build.ARCHITECTURES[platform.machine()]
    # The compiler is as much faster as it collects less garbage, up to some GB of memory.
    environment.setdefault("GOGC", "400")
    for module in MODULES:
        if names := [name for name in todo if PROGRAMS.get(name) is module]:
            build(module, names, go, environment)
            stamp.update(dict.fromkeys(names, sums[module.folder]))
    if "istio" in todo:
        copy_istio(go, environment)
        stamp["istio"] = sums[SOURCES]
    STAMP.write_text(json.dumps(stamp, indent=1))
    return todo


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="by default all: " + ", ".join(PROGRAMS))
    options = parser.parse_args()
    if unknown := sorted({*options.programs} - {*PROGRAMS}):
        parser.error(f"no such program: {', '.join(unknown)}")
    begin = time.monotonic()
    try:
        built = run(options.programs or [*PROGRAMS])
    except (Failure, OSError, subprocess.CalledProcessError) as error:
        print(f"cannot build the control plane: {error}", file=sys.stderr)
        return 1
    print(f"{BIN}: {f'built in {time.monotonic() - begin:.0f} s' if built else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
