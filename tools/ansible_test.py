# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-test on this repository with the Pythons of managed hosts that this machine has.

Sanity is tested with the oldest and the newest of them, units with the oldest, since each takes a minute.

usage: python tools/ansible_test.py [--every] sanity|units [ARGUMENT...]

ansible-test wants the collection in a real folder .../ansible_collections/moe/gateway, works in $HOME, and drops all
settings of pip that stand in the environment. So it gets a copy of the files that git knows or would add, a home of its
own in build/, and pip's settings as a file there.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / "build" / "ansible-test"
COLLECTION = BUILD / "ansible_collections" / "moe" / "gateway"
HOME = BUILD / "home"
BIN = BUILD / "bin"
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")

# ansible-test puts pip into its virtual environments by a script that it downloads, unless the script is there already.
# Python brings a pip of its own, which does as well.
GET_PIP = HOME / ".ansible" / "test" / "cache" / "get_pip_24_2.py"
BOOTSTRAP = """\
import subprocess
import sys

subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", action="store_true", help="with all of them")
    parser.add_argument("command", choices=("sanity", "units"))
    options, arguments = parser.parse_known_args()

    pythons = {version: python for version in PYTHONS if (python := find_python(version))}
    if not pythons:
        sys.exit(f"ansible-test needs one of Python {', '.join(PYTHONS)}, with venv.")
    missing = [version for version in PYTHONS if version not in pythons]
    if not options.every:
        # What the oldest has no word for yet, and what the newest has taken away. They are in order.
        ordered = [*pythons]
        wanted = ordered[:1] + (ordered[-1:] if options.command == "sanity" else [])
        pythons = {version: pythons[version] for version in wanted}
    link_pythons(pythons)
    if options.command == "units":
        pythons = {version: units_environment(version, python) for version, python in pythons.items()}
    copy_collection()
    make_home()

    command = ["ansible-test", options.command, "--color", "no", *arguments]
    for version, python in pythons.items():
        command += ["--target-python", f"{version}@{python}"]
    status = run(command)

    print(
        f"ansible-test {options.command}: Python {', '.join(pythons)}; not found here: {', '.join(missing) or 'none'}."
    )
    return status


def run(command: list[str]) -> int:
    """Run a command in the copy and show its output. That no test ran is a failure, though not for ansible-test."""
    environment = {
        **os.environ,
        "ANSIBLE_TEST_CONTENT_ROOT": str(COLLECTION),  # or it asks git, which ignores all of build/
        "HOME": str(HOME),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(BIN), os.environ.get("PATH", os.defpath)]),
    }
    ran = False
    with subprocess.Popen(
        command, cwd=COLLECTION, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            ran = ran or re.search(r"^Running sanity test|\b[1-9]\d* passed", line) is not None
    if not ran:
        print("ansible-test ran no test.", flush=True)
    return process.returncode or (0 if ran else 1)


def find_python(version: str) -> str | None:
    """The path of a Python of exactly this version that really runs and can make a virtual environment."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    probe = f"import sys, ensurepip, venv; assert sys.version.startswith('{version}.'); print(sys.executable)"
    for candidate in (f"python{version}", "python3", *sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))):
        try:
            return subprocess.run([candidate, "-c", probe], capture_output=True, check=True, text=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            continue
    return None


def link_pythons(pythons: dict[str, str]) -> None:
    """A folder for PATH: the import test looks there for a Python to make its virtual environment from."""
    BIN.mkdir(parents=True, exist_ok=True)
    for version, python in pythons.items():
        link = BIN / f"python{version}"
        link.unlink(missing_ok=True)
        link.symlink_to(python)


def units_environment(version: str, python: str) -> str:
    """The Python of a virtual environment that holds all that `ansible-test units` needs; so it installs nothing."""
    requirements = REPOSITORY / "requirements" / "units.txt"
    environment = REPOSITORY / "build" / "units" / version
    stamp = environment / ".installed"
    if not stamp.exists() or stamp.stat().st_mtime < requirements.stat().st_mtime:
        subprocess.run([REPOSITORY / "tools" / "install.sh", environment, requirements, python], check=True)
        stamp.touch()
    return str(environment / "bin" / "python")


def copy_collection() -> None:
    """Make the copy equal to the repository, but leave what ansible-test keeps in tests/output."""
    wanted = set(repository_files())
    for path in sorted(COLLECTION.rglob("*"), reverse=True):
        relative = path.relative_to(COLLECTION)
        if relative.parts[:2] == ("tests", "output") or relative in wanted:
            continue
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()
    for relative in wanted:
        target = COLLECTION / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        # A link is not copied over what is there already.
        target.unlink(missing_ok=True)
        shutil.copy2(REPOSITORY / relative, target, follow_symlinks=False)


def repository_files() -> Iterator[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listing.split("\0")):
        if os.path.lexists(REPOSITORY / name):
            yield Path(name)


def make_home() -> None:
    GET_PIP.parent.mkdir(parents=True, exist_ok=True)
    GET_PIP.write_text(BOOTSTRAP, encoding="utf-8")
    settings = HOME / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.touch(mode=0o600)
    with settings.open("w", encoding="utf-8") as file:
        pip_settings().write(file)


def pip_settings() -> configparser.RawConfigParser:
    """What pip goes by here, from all its files and the environment."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    settings = configparser.RawConfigParser()
    settings.read_dict({"global": {"quiet": "1"}})
    # The environment (":env:.name='value'") comes last, because there it wins.
    for line in sorted(listing, key=lambda line: line.startswith(":env:")):
        name, value = line.split("=", 1)
        section, key = name.rsplit(".", 1)
        settings.read_dict({section.replace(":env:", "global"): {key: ast.literal_eval(value)}})
    return settings


if __name__ == "__main__":
    sys.exit(main())
