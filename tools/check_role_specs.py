# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that a role's defaults and its argument spec say the same: one is what runs, the other what users read."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml


def problems(role: Path) -> list[str]:
    defaults = load(role / "defaults" / "main.yml")
    options = load(role / "meta" / "argument_specs.yml").get("argument_specs", {}).get("main", {}).get("options", {})
    documented = {name: spec["default"] for name, spec in options.items() if "default" in spec}
    found = []
    for name in sorted(defaults.keys() | documented.keys()):
        if name not in options:
            found.append(f"{name}: has a default but is not in the argument spec")
        elif name not in documented:
            found.append(f"{name}: default {defaults[name]!r} is not in the argument spec")
        elif name not in defaults:
            found.append(f"{name}: documented default {documented[name]!r} is not in defaults/main.yml")
        elif documented[name] != defaults[name]:
            found.append(f"{name}: default is {defaults[name]!r}, documented as {documented[name]!r}")
    return [f"{role}: {problem}" for problem in found]


def load(path: Path) -> dict:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def main() -> int:
    roles = sorted(path for path in Path("roles").glob("*") if path.is_dir())
    found = [problem for role in roles for problem in problems(role)]
    print(*found, f"{len(roles)} roles, {len(found)} problems", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
