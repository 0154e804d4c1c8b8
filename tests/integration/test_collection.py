# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extensions come and go: which policy loads the next, what proves that it runs, and which files are removed."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from plays import Site
from real import RealGateway, content_addressed, run_module

FILTER = {"name": "basic_auth", "engine": "dynamic_module"}


def version(source: pathlib.Path, folder: pathlib.Path, number: int) -> pathlib.Path:
    """The same code with another digest: no loader looks at what follows the last section.

    In each folder it is another, since a file is in use for as long as any process has mapped one of its name.
    """
    path = folder / f"version-{number}" / "basic_auth.so"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes() + f"version {number} in {folder}".encode())
    return path


def publish(gateway: RealGateway, extension: pathlib.Path, **options: t.Any) -> t.Any:
    config = {"users": [{"username": "foo", "password": "${secret.foo}"}]}
    common = {"engine": "dynamic_module", "extension": str(extension), "config": config, "secrets": {"foo": "bar"}}
    return gateway.filter("basic_auth", **{**common, **options})


def collect(gateway: RealGateway, **options: t.Any) -> t.Any:
    where = {"path": str(gateway.extensions), "directory": str(gateway.directory)}
    return run_module("extension_files", {**where, "keep": 0, "collect": True, **options})


@pytest.fixture
def versions(gateway: RealGateway, basic_auth: pathlib.Path) -> list[pathlib.Path]:
    """A gateway's files of three versions, the first of which it runs."""
    sources = [version(basic_auth, gateway.root, number) for number in range(3)]
    files = [content_addressed(source, gateway.extensions) for source in sources]
    gateway.serve(FILTER)
    assert publish(gateway, files[0]).get("action") == "published"
    return files


def test_envoy_runs_the_file_that_was_meant(gateway: RealGateway, versions: list[pathlib.Path]) -> None:
    for action, extension in (("none", versions[0]), ("published", versions[1]), ("none", versions[1])):
        result = publish(gateway, extension)
        assert result["action"] == action
        loaded = result["loaded"]
        assert (loaded["path"], loaded["sha256"]) == (str(extension), extension.stem[-64:])
        assert (loaded["pid"], loaded["inode"]) == (gateway.process.pid, extension.stat().st_ino)
        maps = pathlib.Path(f"/proc/{loaded['pid']}/maps").read_text()
        assert f" {loaded['device']} {loaded['inode']} " in maps
    assert publish(gateway, versions[2], check=True)["loaded"] is None


def test_a_second_go_runtime_is_refused_by_policy(gateway: RealGateway, versions: list[pathlib.Path]) -> None:
    pushes = gateway.counters("basic_auth")
    for check in (True, False):
        refused = publish(gateway, versions[1], second_runtime="hot_restart", check=check)
        assert refused.code == "hot_restart_needed", refused
        details = {"loaded": str(versions[0]), "wanted": str(versions[1]), "pid": gateway.process.pid}
        assert refused["failure"]["details"] == details
    assert (gateway.counters("basic_auth"), gateway.get("foo:bar")) == (pushes, 200)
    # What needs no new code is live as ever.
    again = publish(gateway, versions[0], second_runtime="hot_restart", secrets={"foo": "baz"})
    assert (again["action"], gateway.get("foo:bar"), gateway.get("foo:baz")) == ("published", 401, 200)
    # A new process runs the new code alone.
    gateway.stop()
    os.rename(versions[0], versions[0].with_suffix(".away"))
    gateway.start()
    assert gateway.get("foo:baz") == 500
    assert publish(gateway, versions[1], second_runtime="hot_restart").get("action") == "published"
    assert gateway.get("foo:bar") == 200


def test_what_runs_or_may_come_back_is_never_collected(gateway: RealGateway, versions: list[pathlib.Path]) -> None:
    first, second, third = versions
    assert collect(gateway)["unused"] == sorted([str(second), str(third)])
    for number in (1, 2):
        content_addressed(gateway.root / f"version-{number}" / "basic_auth.so", gateway.extensions)
    # With one generation kept, no revision names the first any more, but the process still has it.
    for number, extension in enumerate((second, third)):
        assert publish(gateway, extension, secrets={"foo": str(number)}, keep=1)["action"] == "published"
    assert collect(gateway)["unused"] == []
    gateway.restart()
    assert collect(gateway, keep=2)["unused"] == []
    assert collect(gateway, keep=1)["unused"] == [str(first)]
    assert collect(gateway)["unused"] == [str(second)]
    assert (third.exists(), gateway.get("foo:1")) == (True, 200)


def test_site_collects_after_it_has_published(basic_auth: pathlib.Path) -> None:
    site = Site(basic_auth)
    try:
        sources = [version(basic_auth, site.root / "sources", number) for number in range(2)]
        collected = "moe.gateway.envoy_extensions : Remove the extensions that nothing uses any more"
        for number, source in enumerate(sources):
            run = site.site(local_extension=str(source), envoy_filters_keep=1, envoy_extensions_keep=0)
            assert run.status == 0, run.output
            # There is nothing to look for on the first run.
            assert (collected in run.tasks()) == (number > 0)
        # The process still has both.
        assert len(list((site.root / "extensions").iterdir())) == 2
        assert site.part("stop").status == 0
        options = {"local_extension": str(sources[1]), "envoy_filters_keep": 1, "envoy_extensions_keep": 0}
        checked = site.site("--check", **options)
        assert checked.status == 0, checked.output
        assert len(list((site.root / "extensions").iterdir())) == 2
        run = site.site(**options)
        assert run.status == 0, run.output
        assert collected in run.tasks()
        (left,) = (site.root / "extensions").iterdir()
        assert left.read_bytes() == sources[1].read_bytes()
        assert (site.get(), site.get("foo:bar")) == (401, 200)
        again = site.site(**options)
        assert (again.status, again.changed, collected in again.tasks()) == (0, 0, False), again.output
    finally:
        site.remove()
