# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook uninstall on a gateway without a service manager: all of it goes, and nothing else."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from plays import Site
from real import run_module

BOOK = "playbooks/uninstall.yml"


@pytest.fixture(scope="module")
def place(basic_auth: pathlib.Path) -> t.Iterator[Site]:
    found = Site(basic_auth)
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture
def site(place: Site) -> Site:
    """A gateway that serves: that of the test before, unless it is uninstalled."""
    if place.get("foo:bar") != 200:
        done = place.site()
        assert done.status == 0, done.output
        assert place.get("foo:bar") == 200
    return place


def everything(site: Site) -> list[str]:
    return sorted(str(path.relative_to(site.root)) for path in site.root.rglob("*"))


def with_folders(*files: str) -> list[str]:
    return sorted({*files, *(str(parent) for name in files for parent in pathlib.Path(name).parents)} - {"."})


def test_check_run_check_run(site: Site) -> None:
    """Nothing of it is left, not even a directory, but for those that somebody made before."""
    before = everything(site)
    checked = site.play(BOOK, "--check", "--diff")
    assert (checked.status, checked.changed) == (0, 1), checked.output
    assert (everything(site), site.get("foo:bar")) == (before, 200)
    for path in before:
        assert f"-{site.root}/{path}\n" in checked.output, "check mode lists it"
    done = site.play(BOOK)
    assert (done.status, done.changed) == (0, 1), done.output
    assert "Name what is not of this collection" not in "".join(done.tasks())
    assert (everything(site), site.get("foo:bar")) == ([], 0)
    for options in ([], ["--check"]):
        again = site.play(BOOK, *options)
        assert (again.status, again.changed) == (0, 0), again.output
    # And it can be installed again.
    assert site.site().status == 0
    assert (site.get("foo:bar"), site.get()) == (200, 401)


def where(root: pathlib.Path, **options: t.Any) -> dict[str, t.Any]:
    return {
        "service_manager": "process",
        "install_dir": f"{root}/envoy",
        "extensions_dir": f"{root}/extensions",
        "config_dir": f"{root}/config",
        "directory": f"{root}/config/xds",
        "run_dir": f"{root}/run",
        "admin_socket": f"{root}/run/admin.sock",
        **options,
    }


def test_nothing_goes_while_an_envoy_serves_that_is_not_ours(site: Site) -> None:
    lock = site.root / "run" / "envoy.lock"
    pid = site.pid()
    lock.rename(lock.with_suffix(".aside"))
    try:
        before = everything(site)
        for check in (True, False):
            refused = run_module("gateway_uninstall", where(site.root), check)
            assert refused.code == "still_serving"
            assert f"PID {pid}" in refused["msg"]
            assert (everything(site), site.get("foo:bar")) == (before, 200)
    finally:
        lock.with_suffix(".aside").rename(lock)


def test_what_is_not_ours_or_in_use_stays_and_is_named(site: Site, basic_auth: pathlib.Path) -> None:
    foreign = ["config/notes.txt", "config/xds/filters/mine.json", "extensions/mine.so", "run/mine/file"]
    for name in foreign:
        (site.root / name).parent.mkdir(exist_ok=True)
        (site.root / name).write_text("{}")
    # One of ours that somebody edited is still ours.
    (site.root / "config/xds/filters/basic_auth.json").write_text("{}")
    (extension,) = (site.root / "extensions").glob("basic_auth-*")
    # It can be restricted.
    restricted = site.play(BOOK, envoy_uninstall_keep=["extensions", "logs"])
    assert restricted.status == 0, restricted.output
    assert everything(site) == with_folders(*foreign, f"extensions/{extension.name}", "run/envoy.log")
    used = ["envoy/envoy-1.40.0", f"extensions/{extension.name}"]
    other = Site(basic_auth)
    other.variables["envoy_install_dir"] = str(site.root / "envoy")
    other.variables["envoy_extensions_dir"] = str(site.root / "extensions")
    try:
        assert other.site().status == 0
        done = site.play(BOOK)
        assert done.status == 0, done.output
        for name in [*foreign[:3], "run/mine"]:
            assert str(site.root / name) in done.output
        for name in used:
            assert f"{site.root}/{name}: PID {other.pid()} uses it" in done.output
        assert everything(site) == with_folders(*foreign, *used)
        assert (site.get("foo:bar"), other.get("foo:bar")) == (0, 200)
    finally:
        other.remove()
    for changed in (1, 0):
        again = site.play(BOOK)
        assert (again.status, again.changed) == (0, changed), again.output
        assert str(site.root / "config/notes.txt") in again.output
    assert everything(site) == with_folders(*foreign)


def test_a_directory_that_is_a_link_is_not_followed(tmp_path: pathlib.Path) -> None:
    """Not even as root: the directory is Envoy's user's, who may put a link there."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "basic_auth.json").write_text('{"version_info": "0123456789abcdef-1"}')
    xds = tmp_path / "config" / "xds"
    xds.mkdir(parents=True)
    (xds / "listeners.json").write_text("{}")
    (xds / "filters").symlink_to(elsewhere)
    done = run_module("gateway_uninstall", where(tmp_path))
    assert not done.failed, done
    assert done["left"] == [str(xds / "filters")]
    assert done["removed"] == [str(xds / "listeners.json")]
    assert (elsewhere / "basic_auth.json").exists()


@pytest.mark.parametrize("path", ["/etc", "/", "relative", "/etc//envoy", "/etc/envoy/"])
def test_a_place_that_is_none(tmp_path: pathlib.Path, path: str) -> None:
    refused = run_module("gateway_uninstall", where(tmp_path, config_dir=path))
    assert refused.code == "invalid_option"
    assert refused["msg"].startswith("config_dir: found ")
