# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory and its twin: who sees what, before and after they exchange their names."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._decision import Process
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._store import Store
from ansible_collections.moe.gateway.plugins.module_utils._twin import Twin

OLD, NEW = Process(100, 5000), Process(101, 6000)


@pytest.fixture
def store(tmp_path):
    directory = tmp_path / "xds"
    (directory / "filters").mkdir(parents=True)
    (directory / "state" / "filters" / "a").mkdir(parents=True)
    store = Store(str(directory), Files(os.geteuid(), os.getegid()))
    for name in ("filters/a.json", "state/key", "state/filters/a/1.json", "state/staged-1"):
        store.files.create(str(directory / name), b"old " + name.encode())
    return store


def tree(directory):
    found = {}
    for root, _folders, files in os.walk(directory):
        for name in files:
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, directory)] = file.read()
    return found


def change(twin):
    twin.store.put(b"new", os.path.join(twin.store.directory, "filters", "a.json"))


def test_a_copy_is_private_and_whole(store):
    before = tree(store.directory)
    twin = Twin(store)
    twin.make(OLD)
    copied = tree(twin.store.directory)
    assert copied.pop("state/twin") == b"100 5000"
    assert copied == {name: data for name, data in before.items() if "staged" not in name}
    for root, _folders, files in os.walk(twin.store.directory):
        assert stat.S_IMODE(os.stat(root).st_mode) == 0o700
        assert {stat.S_IMODE(os.stat(os.path.join(root, name)).st_mode) for name in files} <= {0o600}
    twin.remove()
    assert tree(store.directory) == before
    assert os.listdir(os.path.dirname(store.directory)) == ["xds"]


def test_who_looks_into_the_folder_keeps_seeing_it(store):
    before, twin = tree(store.directory), Twin(store)
    # As inotify does.
    watched = os.open(os.path.join(store.directory, "filters"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        twin.make(OLD)
        change(twin)
        twin.exchange()
        with open(os.open("a.json", os.O_RDONLY, dir_fd=watched), "rb") as file:
            assert file.read() == before["filters/a.json"]
        assert tree(store.directory)["filters/a.json"] == b"new"
        twin.exchange()
        twin.remove()
        assert tree(store.directory) == before
    finally:
        os.close(watched)


def test_in_the_end_only_the_new_one_is_left(store):
    twin = Twin(store)
    twin.make(OLD)
    change(twin)
    twin.exchange()
    twin.remove()
    assert set(tree(store.directory)) == {"filters/a.json", "state/key", "state/filters/a/1.json"}
    assert tree(store.directory)["filters/a.json"] == b"new"
    assert os.listdir(os.path.dirname(store.directory)) == ["xds"]


@pytest.mark.parametrize(
    ("exchanged", "serves", "left"),
    [
        (False, OLD, b"old filters/a.json"),  # killed before the exchange
        (True, OLD, b"old filters/a.json"),  # killed before the new one served
        (True, NEW, b"new"),  # killed after that
        (True, Process(100, 7000), b"new"),  # all was restarted since, with a PID that came again
    ],
)
def test_what_a_killed_run_left(store, exchanged, serves, left):
    twin = Twin(store)
    twin.make(OLD)
    change(twin)
    if exchanged:
        twin.exchange()
    Twin(store).recover(serves)
    assert tree(store.directory)["filters/a.json"] == left
    assert "state/twin" not in tree(store.directory)
    assert os.listdir(os.path.dirname(store.directory)) == ["xds"]


def test_nothing_to_recover(store):
    before = tree(store.directory)
    Twin(store).recover(OLD)
    assert tree(store.directory) == before


def test_a_copy_that_can_not_be_made_leaves_nothing(store, monkeypatch):
    def full(path, data, mode=0o600):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(store.files, "create", full)
    with pytest.raises(Failure, match="No space left on device"):
        Twin(store).make(OLD)
    assert os.listdir(os.path.dirname(store.directory)) == ["xds"]


def test_who_waited_for_the_lock_gets_that_of_the_directory_in_place(store):
    twin, refused = Twin(store), []
    twin.make(OLD)

    def wait():
        with store.locked(10, write=True):
            try:
                with Store(store.directory, store.files).locked(0.01, write=True):
                    pass
            except Failure as failure:
                refused.append(failure.code)

    waiting = threading.Thread(target=wait)
    with store.locked(1, write=True), twin.store.locked(1, write=True):
        waiting.start()
        # Once it waits for the directory that is in place now.
        while not any(os.path.samestat(os.stat(path), os.stat(store.state)) for path in opened(but=1)):
            pass
        twin.exchange()
        twin.remove()
    waiting.join()
    assert refused == ["locked"]


def opened(but):
    """Paths in /proc of directories that this process holds open, without as many as are known of."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{name}"
        if os.path.isdir(path) and os.readlink(path).endswith("/xds/state"):
            found.append(path)
    return found[but:]
