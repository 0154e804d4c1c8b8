# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extensions are built on the controller, the same wherever and however often, and reach the hosts that they suit."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
import typing as t

import pytest
from plays import Site
from real import REPOSITORY, Result, run_module

SOURCE = REPOSITORY / "examples" / "basic_auth"
CACHE = REPOSITORY / "build" / "toolchain"
KINDS = [("x86_64", "2.28"), ("aarch64", "2.31")]


def build(dest: pathlib.Path, check: bool = False, **options: t.Any) -> Result:
    common = {"source": str(SOURCE), "dest": str(dest), "cache_dir": str(CACHE)}
    return run_module("extension_build", {**common, **options}, check)


def elsewhere(tmp_path: pathlib.Path) -> dict[str, str]:
    """The source in another folder, and a cache that remembers nothing but the compilers."""
    shutil.copytree(SOURCE, tmp_path / "another" / "place")
    (tmp_path / "cache").mkdir()
    (toolchain,) = CACHE.glob("toolchain-*")
    (tmp_path / "cache" / toolchain.name).symlink_to(toolchain)
    # Not the modules that the source needs: those have digests of their own.
    (tmp_path / "cache" / "gopath").symlink_to(CACHE / "gopath")
    return {"source": str(tmp_path / "another" / "place"), "cache_dir": str(tmp_path / "cache")}


@pytest.mark.parametrize(("architecture", "glibc"), KINDS)
def test_two_builds_have_one_digest(tmp_path: pathlib.Path, architecture: str, glibc: str) -> None:
    kind = {"architecture": architecture, "glibc": glibc}
    first = build(tmp_path / "first" / "x.so", **kind)
    assert (first["changed"], first["target"]) == (True, f"{architecture}-linux-gnu.{glibc}"), first
    second = build(tmp_path / "second.so", **kind, **elsewhere(tmp_path))
    assert (second["changed"], second["sha256"]) == (True, first["sha256"]), second
    assert (tmp_path / "second.so").read_bytes() == (tmp_path / "first" / "x.so").read_bytes()
    target = {**kind, "envoy_version": "1.40.0", "engine": "dynamic_module"}
    info = run_module("extension_info", {"path": first["path"], "target": target})
    assert not info.failed, info
    assert info["sha256"] == first["sha256"]
    assert info["go"]["settings"]["-trimpath"] == "true"
    assert str(tmp_path).encode() not in (tmp_path / "second.so").read_bytes()


def test_nothing_is_done_twice(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(SOURCE, source)
    dest, link = tmp_path / "build" / "x.so", tmp_path / "build" / "host" / "x.so"
    options = {"source": str(source), "links": [str(link)]}
    checked = build(dest, check=True, **options)
    assert (checked["changed"], checked["sha256"], dest.exists(), link.exists()) == (True, None, False, False)
    done = build(dest, **options)
    assert (done["changed"], done["linked"]) == (True, [str(link)])
    assert link.resolve() == dest
    inode = dest.stat().st_ino
    for check in (True, False):
        again = build(dest, check=check, **options)
        assert (again["changed"], again["sha256"], again["linked"]) == (False, done["sha256"], [])
    assert dest.stat().st_ino == inode
    # What changes the code, what damages the file, and what does neither.
    (source / "README.md").write_text("other")
    assert build(dest, **options)["changed"] is False
    dest.write_bytes(b"damaged")
    assert build(dest, **options)["sha256"] == done["sha256"]
    (source / "more.go").write_text('package main\n\nvar More = "more"\n\nfunc init() { println(More) }\n')
    other = build(dest, **options)
    assert other["changed"]
    assert other["sha256"] != done["sha256"]


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"glibc": "2"}, "invalid_option", "glibc: found '2', expected a quoted version of two numbers"),
        ({"source": "/nowhere"}, "invalid_option", "source: found /nowhere, where /nowhere/go.mod can't be read"),
        ({"source": "broken"}, "build_failed", "undefined: nothing"),
        ({"defines": ["X=$(id)"]}, "invalid_option", "defines[0]: found 'X=$(id)', expected NAME or NAME=VALUE"),
        ({"links": ["a_file"]}, "invalid_option", "links: found something other than a link at "),
    ],
)
def test_what_can_not_be_built_is_named(tmp_path, options, code, text):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "go.mod").write_text("module broken\n\ngo 1.24\n")
    (broken / "main.go").write_text('package main\n\nimport "C"\n\nfunc main() { nothing() }\n')
    (tmp_path / "a_file").write_text("")
    places = {"broken": str(broken), "a_file": str(tmp_path / "a_file")}
    placed = {
        key: [places.get(item, item) for item in value] if isinstance(value, list) else places.get(value, value)
        for key, value in options.items()
    }
    failed = build(tmp_path / "x.so", **placed)
    assert (failed.code, text in failed["msg"]) == (code, True), failed


def test_each_host_gets_what_suits_it(tmp_path: pathlib.Path, basic_auth: pathlib.Path) -> None:
    site = Site(basic_auth)
    try:
        built = tmp_path / "built"
        extension = {"name": "basic_auth", "source": str(SOURCE)}
        site.variables |= {"envoy_extensions": [extension], "envoy_extensions_build_dir": str(built)}
        site.variables["envoy_extensions_cache_dir"] = str(CACHE)
        unbuilt = site.site()
        assert unbuilt.status == 2
        assert f"envoy_extensions[0].source: found no file at {built}/local/basic_auth.so" in unbuilt.output
        assert "Run the playbook moe.gateway.build for this host first." in unbuilt.output
        done = site.play("playbooks/build.yml")
        assert (done.status, done.changed) == (0, 1), done.output
        again = site.play("playbooks/build.yml")
        assert (again.status, again.changed) == (0, 0), again.output
        assert (built / "local" / "basic_auth.so").resolve() == built / "basic_auth-x86_64-glibc2.28.so"
        assert site.site().status == 0
        assert (site.get(), site.get("foo:bar")) == (401, 200)
    finally:
        site.remove()


def test_each_kind_of_host_is_built_for_once(tmp_path: pathlib.Path, basic_auth: pathlib.Path) -> None:
    """What a host says of itself is given here, since this machine is of one kind."""
    site = Site(basic_auth)
    try:
        built = tmp_path / "built"
        hosts = {
            name: {"kind": {"architecture": architecture, "glibc": glibc}}
            for name, architecture, glibc in [
                ("a", "x86_64", "2.36"),
                ("b", "x86_64", "2.41"),
                ("old", "x86_64", "2.17"),
                ("arm", "aarch64", "2.31"),
            ]
        }
        common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        variables = {
            **common,
            "envoy_extensions": [{"name": "basic_auth", "source": str(SOURCE)}],
            "envoy_extensions_build_dir": str(built),
            "envoy_extensions_cache_dir": str(CACHE),
            "__envoy_extensions_host": {"platform": "{{ kind }}"},
        }
        inventory = tmp_path / "hosts.json"
        inventory.write_text(json.dumps({"gateways": {"hosts": hosts}}))
        (tmp_path / "vars.json").write_text(json.dumps(variables))
        done = site.run("-i", str(inventory), "-e", f"@{tmp_path / 'vars.json'}", "playbooks/build.yml")
        assert done.returncode == 0, done.stdout
        links = {path.name: (path / "basic_auth.so").resolve().name for path in built.iterdir() if path.is_dir()}
        assert links == {
            "a": "basic_auth-x86_64-glibc2.28.so",
            "b": "basic_auth-x86_64-glibc2.28.so",
            "old": "basic_auth-x86_64-glibc2.17.so",
            "arm": "basic_auth-aarch64-glibc2.28.so",
        }
        for name in ("a", "old", "arm"):
            info = run_module(
                "extension_info", {"path": str(built / name / "basic_auth.so"), "target": hosts[name]["kind"]}
            )
            assert not info.failed, info
    finally:
        site.remove()
