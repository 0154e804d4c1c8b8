# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check and test the Go modules below examples/ with the toolchain that builds them; every fuzz target runs briefly."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from build_extension import ROOT, _build, choose

FUZZ_TIME = "5s"


class Go:
    """The go command in one module, with the environment of one toolchain."""

    def __init__(self, module: Path, toolchain: _build.Toolchain) -> None:
        self.module = module
        self.command = toolchain.go
        self.environment = {**os.environ, **_build.FIXED, **toolchain.environment, "CC": shlex.join(toolchain.cc)}

    def run(self, *command: str) -> bool:
        print("==", shlex.join(command), flush=True)
        return subprocess.call([self.command, *command[1:]], cwd=self.module, env=self.environment) == 0

    def output(self, *command: str) -> list[str]:
        done = subprocess.run(
            command, cwd=self.module, env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.splitlines()

    def unformatted(self) -> list[str]:
        root = self.output(self.command, "env", "GOROOT")[0]
        return self.output(str(Path(root) / "bin" / "gofmt"), "-l", ".")

    def fuzz_targets(self) -> list[tuple[str, str]]:
        packages = self.output(self.command, "list", "./...")
        listings = {package: self.output(self.command, "test", "-list", "^Fuzz", package) for package in packages}
        return [(package, line) for package, lines in listings.items() for line in lines if line.startswith("Fuzz")]


def check(module: Path) -> bool:
    toolchain = choose("auto", _build.needed_go(str(module)), None)
    _build.prepare(toolchain)
    go = Go(module, toolchain)
    print(f"== {module.relative_to(ROOT)} with {toolchain.name}", flush=True)

    unformatted = go.unformatted()
    print(*(f"{name}: not formatted, run gofmt -w" for name in unformatted), sep="\n", end="\n" if unformatted else "")

    tested = any(module.rglob("*_test.go"))
    if not tested:
        print("there is no test", flush=True)

    good = [not unformatted, tested, go.run("go", "vet", "./..."), go.run("go", "test", "-race", "./...")]
    for package, target in go.fuzz_targets():
        good.append(go.run("go", "test", "-run", "^$", "-fuzz", f"^{target}$", "-fuzztime", FUZZ_TIME, package))
    return all(good)


def main() -> int:
    modules = sorted(path.parent for path in (ROOT / "examples").glob("*/go.mod"))
    failed = [module.name for module in modules if not check(module)]
    print(f"{len(modules)} Go modules, failed: {', '.join(failed) or 'none'}", flush=True)
    return 1 if failed or not modules else 0


if __name__ == "__main__":
    sys.exit(main())
