# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What extension_files finds, removes and leaves alone."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _files
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.modules import extension_files


class Host:
    """A directory of extensions and one of revisions."""

    def __init__(self, root):
        self.extensions = root / "extensions"
        self.directory = root / "xds"
        for folder in ("extensions", "xds", "xds/filters", "xds/state", "xds/state/filters", "xds/state/filters/f"):
            (root / folder).mkdir()

    def put(self, code, name="x", age=0):
        data = code.encode()
        path = self.extensions / f"{name}-{hashlib.sha256(data).hexdigest()}.so"
        path.write_bytes(data)
        os.utime(path, (10_000 - age, 10_000 - age))
        return path

    def run(self, *wanted, write=True, **options):
        files = [{"path": str(path), "sha256": path.stem[-64:]} for path in wanted]
        where = {"path": str(self.extensions), "directory": str(self.directory), "revisions": []}
        params = {**where, "files": files, "keep": 0, "collect": True, "timeout": 0.2, **options}
        return extension_files.run(params, write)

    def left(self):
        return sorted(path.name for path in self.extensions.iterdir())


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_what_nothing_uses_is_removed(host):
    old, new = host.put("old"), host.put("new")
    looked = host.run(new, collect=False)
    assert (looked["changed"], looked["unused"], looked["surplus"]) == (False, [str(old)], [str(old)])
    predicted = host.run(new, write=False)
    assert (predicted["changed"], predicted["unused"]) == (True, [str(old)])
    assert host.left() == sorted([old.name, new.name])
    done = host.run(new)
    assert (done["changed"], done["unused"], done["diff"]["before"]) == (True, [str(old)], f"{old}\n")
    assert host.left() == [new.name]
    again = host.run(new)
    assert (again["changed"], again["unused"], again["surplus"]) == (False, [], [])


@pytest.mark.parametrize("place", ["filters/f.json", "filters/gone.json", "state/filters/f/7.json", "listeners.json"])
def test_a_revision_needs_it(host, place):
    old = host.put("old")
    (host.directory / place).write_text(f'{{"filename": "{old}"}}')
    done = host.run()
    assert (done["changed"], done["unused"], done["surplus"]) == (False, [], [str(old)])
    (host.directory / place).unlink()
    assert host.run()["unused"] == [str(old)]


def test_the_bootstrap_needs_it(host, tmp_path):
    old = host.put("old")
    bootstrap = tmp_path / "bootstrap.json"
    assert host.run(collect=False, revisions=[str(bootstrap)])["unused"] == [str(old)]
    bootstrap.write_text(f'{{"filename": "{old}"}}')
    for place in (bootstrap, tmp_path):
        assert host.run(revisions=[str(place)])["unused"] == []


@pytest.mark.parametrize("since", ["", "removed and put there again"])
def test_a_process_runs_it(host, since):
    old = host.put("old")
    with open(old, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        if since:
            old.unlink()
            host.put("old")
        assert host.run()["unused"] == []
    assert host.run()["unused"] == [str(old)]


def test_some_are_kept(host):
    paths = [host.put(f"code {age}", age=age) for age in range(4)]
    others = [host.put(f"code {age}", name="y", age=age) for age in range(2)]
    assert host.run(keep=2)["unused"] == sorted(map(str, paths[2:]))
    assert host.left() == sorted(path.name for path in paths[:2] + others)


def test_files_of_others_stay(host, tmp_path):
    folder = host.extensions / f"x-{'0' * 64}.so"
    folder.mkdir()
    link = host.extensions / f"x-{'1' * 64}.so"
    link.symlink_to(tmp_path)
    for name in ("basic_auth.so", f"x-{'2' * 64}.so.whole", f".x-{'3' * 64}.so"):
        (host.extensions / name).write_text("")
    before = host.left()
    old = host.put("old")
    assert host.run()["unused"] == [str(old)]
    assert host.left() == before


def test_without_the_gateways_directory_nothing_goes(host, tmp_path):
    old = host.put("old")
    done = host.run(directory=str(tmp_path / "elsewhere"))
    assert (done["changed"], done["unused"]) == (False, [])
    assert old.exists()


def test_without_extensions_there_is_nothing(host):
    host.extensions.rmdir()
    assert host.run()["unused"] == []


def test_what_is_missing_or_damaged_is_told(host):
    new = host.put("new")
    gone = host.put("gone")
    gone.unlink()
    assert host.run(new, gone)["missing"] == [str(gone)]
    new.write_bytes(b"other")
    old = host.put("old")
    with pytest.raises(Failure, match=rf"files\[0\].sha256: found .* at {new}, expected") as caught:
        host.run(new)
    assert caught.value.code == "damaged_file"
    assert old.exists()


def test_a_revision_that_can_not_be_read_stops_it(host, monkeypatch):
    old = host.put("old")
    (host.directory / "filters" / "f.json").write_text("{}")

    def damaged(_files, name):
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    monkeypatch.setattr(_files.Files, "read", damaged)
    with pytest.raises(Failure, match="The revisions in .* can't be read") as caught:
        host.run()
    assert caught.value.code == "file_error"
    assert old.exists()


def test_another_run_is_waited_for(host):
    old = host.put("old")
    descriptor = os.open(host.directory / "state", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(Failure) as caught:
            host.run()
        assert caught.value.code == "locked"
        assert host.run(collect=False)["unused"] == [str(old)]
    finally:
        os.close(descriptor)


def test_a_negative_number_is_refused(host):
    with pytest.raises(Failure, match="keep: found -1, expected a number of files, 0 or more"):
        host.run(keep=-1)


def test_files_that_end_during_a_look_are_no_failure(host, monkeypatch):
    """A look takes no lock, so a run beside it may let go of a generation that was listed."""
    old = host.put("old")
    path = host.directory / "state" / "filters" / "f" / "7.json"
    path.write_text("{}")
    read = _files.Files.read

    def vanishing(files, name):
        if name == str(path):
            path.unlink()
        return read(files, name)

    monkeypatch.setattr(_files.Files, "read", vanishing)
    assert host.run(collect=False)["unused"] == [str(old)]


def test_an_empty_directory_in_place_of_a_file_is_named(host):
    gone = host.put("gone")
    gone.unlink()
    gone.mkdir()
    found = host.run(gone)
    assert (found["missing"], found["directories"]) == ([str(gone)], [str(gone)])
    (gone / "somebody's").touch()
    with pytest.raises(Failure, match="found something other than a file"):
        host.run(gone)
