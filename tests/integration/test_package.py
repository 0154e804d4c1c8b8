# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as its users get it: built into a tarball, installed from that, away from this repository."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import typing as t

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent
# What a user runs or reads; each file of it that git knows must be in the tarball.
SHIPPED = ["README.md", "LICENSE", "CHANGELOG.rst", "meta", "plugins", "roles", "playbooks", "examples"]
# What only develops, tests or shows the collection.
LEFT_OUT = {
    "build",
    "tests",
    "molecule",
    "tools",
    "demo",
    "bench",
    "requirements",
    "inventory",
    "Makefile",
    "pyproject.toml",
}


class Installed(t.NamedTuple):
    """The collection in a folder of its own, and nothing else in sight of Ansible."""

    folder: pathlib.Path
    files: frozenset[str]

    def run(self, *command: str) -> str:
        return run(self.folder, *command)


def run(folder: pathlib.Path, *command: str) -> str:
    """Run an Ansible tool as a user with no settings who has only what `folder` holds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"HOME": str(folder), "ANSIBLE_COLLECTIONS_PATH": str(folder), "NO_COLOR": "1"}
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def tracked(*paths: str) -> set[str]:
    listing = subprocess.run(["git", "ls-files", "-z", *paths], cwd=REPOSITORY, capture_output=True, check=True)
    return {name for name in listing.stdout.decode().split("\0") if name and (REPOSITORY / name).exists()}


def names(pattern: str) -> list[str]:
    return sorted({path.stem for path in REPOSITORY.glob(pattern) if not path.name.startswith("_")})


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("user")
    run(folder, "ansible-galaxy", "collection", "build", str(REPOSITORY), "--output-path", str(folder))
    (tarball,) = folder.glob("moe-gateway-*.tar.gz")
    # What it depends on a user gets from a server of collections, which the tests have none of.
    others = pathlib.Path("ansible_collections", "kubernetes", "core")
    shutil.copytree(REPOSITORY / "build" / "collections" / others, folder / others)
    run(folder, "ansible-galaxy", "collection", "install", "--offline", "--collections-path", str(folder), str(tarball))
    with tarfile.open(tarball) as archive:
        return Installed(folder, frozenset(archive.getnames()))


def test_tarball_holds_all_that_users_need(installed: Installed) -> None:
    assert tracked(*SHIPPED) - installed.files == set()


def test_tarball_holds_nothing_that_only_developers_need(installed: Installed) -> None:
    assert {name.split("/")[0] for name in installed.files} & LEFT_OUT == set()
    hidden = {name for name in installed.files if any(part.startswith(".") for part in name.split("/"))}
    assert hidden == set()


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("module", "plugins/modules/*.py"),
        ("filter", "plugins/filter/*"),
        ("lookup", "plugins/lookup/*"),
        ("role", "roles/*"),
    ],
)
def test_documentation_of_each_plugin_and_role_shows(installed: Installed, kind: str, pattern: str) -> None:
    expected = [f"moe.gateway.{name}" for name in names(pattern)]
    listing = json.loads(installed.run("ansible-doc", "--json", "--list", "--type", kind, "moe.gateway"))
    assert sorted(listing) == expected

    shown = json.loads(installed.run("ansible-doc", "--json", "--type", kind, *expected))
    assert sorted(shown) == expected


def test_playbooks_run_by_their_names(installed: Installed) -> None:
    playbooks = names("playbooks/*.yml")
    assert playbooks
    output = installed.run("ansible-playbook", "--syntax-check", *(f"moe.gateway.{name}" for name in playbooks))
    checked = [pathlib.Path(line.split()[1]) for line in output.splitlines() if line.startswith("playbook:")]
    folder = installed.folder / "ansible_collections" / "moe" / "gateway" / "playbooks"
    assert checked == [folder / f"{name}.yml" for name in playbooks]
