# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gateway_files puts in place, leaves alone, and refuses."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import sys
import tempfile

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _placement
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.modules import gateway_files

NOBODY = "no-such-user"


def directory(path, **keys):
    return {"path": str(path), "mode": "0700", "keep": False, **keys}


def file(path, content="new", **keys):
    item = {
        "secret": None,
        "mode": "0600",
        "owner": None,
        "group": None,
        "initial": False,
        "held": False,
        "validate": [],
    }
    return {"path": str(path), "content": content, **item, **keys}


def run(write=True, **options):
    params = {"directories": [], "files": [], "needs": [], "owner": None, "group": None, "admin_socket": None}
    params.update(started_with={}, hot_restart=None, preflight=None)
    return gateway_files.run({**params, **options}, write)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def everything(folder):
    return sorted(os.path.join(root, name) for root, folders, files in os.walk(folder) for name in folders + files)


def refused(**options):
    with pytest.raises(Failure) as caught:
        run(**options)
    return caught.value


def test_all_at_once_and_a_second_time_nothing(tmp_path):
    options = {
        "directories": [directory(tmp_path / "a" / "b"), directory(tmp_path / "c", mode="0755")],
        "files": [file(tmp_path / "a" / "b" / "f", "text\n"), file(tmp_path / "c" / "run", mode="0700")],
    }
    planned = run(write=False, **options)
    assert everything(tmp_path) == []
    result = run(**options)
    assert result["changed"]
    assert result["created"] == planned["created"] == [item["path"] for group in options.values() for item in group]
    assert (tmp_path / "a" / "b" / "f").read_text() == "text\n"
    assert mode(tmp_path / "a" / "b") == 0o700
    assert mode(tmp_path / "c") == 0o755
    assert mode(tmp_path / "a" / "b" / "f") == 0o600
    assert mode(tmp_path / "c" / "run") == 0o700
    again = run(**options)
    assert (again["changed"], again["created"], again["updated"]) == (False, [], [])
    assert again["diff"] == []


def test_what_is_not_as_it_should_be_is_updated(tmp_path):
    (tmp_path / "d").mkdir(mode=0o755)
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o644)
    options = {"directories": [directory(tmp_path / "d")], "files": [file(tmp_path / "f")]}
    planned = run(write=False, **options)
    assert (tmp_path / "f").read_text() == "old"
    result = run(**options)
    assert result["updated"] == planned["updated"] == [str(tmp_path / "d"), str(tmp_path / "f")]
    assert (mode(tmp_path / "d"), mode(tmp_path / "f")) == (0o700, 0o600)
    assert "old" in result["diff"][1]["before"]
    assert "new" in result["diff"][1]["after"]


def test_a_secret_is_never_shown_and_a_change_of_it_is(tmp_path):
    path = tmp_path / "f"
    options = {"files": [file(path, None, secret="one key")]}
    shown = []
    for action in ("created", None, "mode", "content"):
        if action == "mode":
            path.chmod(0o640)
        if action == "content":
            options = {"files": [file(path, None, secret="another key")]}
        for write in (False, True):
            result = run(write, **options)
            assert result["changed"] is bool(action), action
            assert " key" not in json.dumps(result)
        shown.append([(item["before"], item["after"]) for item in result["diff"]])
        assert path.read_text() == options["files"][0]["secret"]
        assert mode(path) == 0o600
    assert shown[1] == []
    assert all(before != after for ((before, after),) in (shown[0], shown[2], shown[3]))


def test_a_directory_to_keep_is_left_as_it_is(tmp_path):
    (tmp_path / "d").mkdir(mode=0o755)
    assert not run(directories=[directory(tmp_path / "d", keep=True)])["changed"]
    assert mode(tmp_path / "d") == 0o755


def test_a_directory_of_another_user_is_not_taken_over(tmp_path):
    path = "/" if os.geteuid() else tmp_path / "d"
    if not os.geteuid():
        path.mkdir()
        os.chown(path, 65534, 65534)
    failure = refused(directories=[directory(path)])
    assert failure.details["key"] == "directories[0].path"
    assert "owned by" in failure.details["found"]


def test_nothing_is_changed_while_something_is_missing(tmp_path):
    options = {
        "needs": [{"path": str(tmp_path / "envoy"), "sha256": None}],
        "owner": NOBODY,
        "group": NOBODY,
        "directories": [directory(tmp_path / "d")],
        "files": [file(tmp_path / "d" / "f")],
    }
    missing = [str(tmp_path / "envoy"), f"user {NOBODY}", f"group {NOBODY}"]
    result = run(**options)
    assert (result["changed"], result["missing"]) == (False, missing)
    planned = run(write=False, **options)
    assert (planned["changed"], planned["missing"]) == (True, missing)
    assert everything(tmp_path) == []


def test_a_needed_file_has_to_be_what_it_should_be(tmp_path):
    path = tmp_path / "x.so"
    path.write_bytes(b"code")
    digest = hashlib.sha256(b"code").hexdigest()
    assert run(needs=[{"path": str(path), "sha256": digest}])["missing"] == []
    path.write_bytes(b"co")
    failure = refused(needs=[{"path": str(path), "sha256": digest}])
    assert failure.code == "damaged_file"
    assert failure.details == {
        "path": str(path),
        "found": hashlib.sha256(b"co").hexdigest(),
        "expected": digest,
    }
    assert refused(needs=[{"path": str(tmp_path), "sha256": None}]).details["key"] == "needs[0].path"


def test_an_initial_file_is_never_replaced(tmp_path):
    path = tmp_path / "listeners.json"
    item = file(path, "{}", initial=True)
    assert run(files=[item])["created"] == [str(path)]
    path.write_text("published")
    path.chmod(0o640)
    assert not run(files=[item])["changed"]
    assert path.read_text() == "published"


def test_an_initial_file_is_not_put_before_an_envoy_that_runs(tmp_path):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        options = {"files": [file(tmp_path / "f", initial=True)], "admin_socket": path}
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            assert not run(**options)["changed"]
        # The socket of an Envoy that was killed is still there.
        assert os.path.exists(path)
        assert run(**options)["changed"]


@pytest.mark.parametrize("left", [True, False], ids=["there", "gone"])
def test_what_names_an_initial_file_is_tried_although_it_is_gone(tmp_path, left):
    """As a bootstrap is: an Envoy that runs gets that file back by a transaction, which comes later."""
    initial, path = tmp_path / "xds" / "clusters.json", tmp_path / "bootstrap.json"
    initial.parent.mkdir()
    if left:
        initial.write_text("published")
    reads = (
        "import json, sys; print(open(json.load(open(sys.argv[1]))['path']).read()); sys.exit('bad' in sys.argv[2:])"
    )
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.join(folder, "s"))
        server.listen()
        content = json.dumps({"path": str(initial)})
        named = file(path, content, validate=[sys.executable, "-c", reads, "%s"])
        options = {"files": [file(initial, "{}", initial=True), named], "admin_socket": os.path.join(folder, "s")}
        assert run(**options)["created"] == [str(path)]
        assert (path.read_text(), initial.exists()) == (content, left)
        # What is refused is refused all the same, and nothing stays of it.
        named = file(path, content + " ", validate=[sys.executable, "-c", reads, "%s", "bad"])
        failure = refused(**{**options, "files": [options["files"][0], named]})
        assert failure.code == "refused_in_validation"
        assert path.read_text() == content
    assert everything(tmp_path) == sorted(map(str, [initial.parent, path] + [initial] * left))


def test_an_envoy_that_was_started_from_something_else_is_outdated():
    with open("/proc/self/environ", encoding="utf-8", errors="surrogateescape") as own:
        name, _sign, value = own.read().split("\0")[0].partition("=")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            assert not run(admin_socket=path, started_with={name: value})["outdated"]
            assert run(admin_socket=path, started_with={name: value + "x"})["outdated"]
            assert run(write=False, admin_socket=path, started_with={"MOE_NO_SUCH": "1"})["outdated"]
            assert not run(admin_socket=path)["outdated"]
        assert not run(admin_socket=path, started_with={"MOE_NO_SUCH": "1"})["outdated"]


def test_a_file_is_judged_before_it_is_put_in_place(tmp_path):
    path = tmp_path / "bootstrap.json"
    program = "import sys; text = open(sys.argv[1]).read(); assert sys.argv[1].endswith('.json'); sys.exit(text or 0)"
    validate = [sys.executable, "-c", program, "%s"]
    assert run(files=[file(path, "", validate=validate)])["created"] == [str(path)]
    failure = refused(files=[file(path, "it is bad", validate=validate)])
    assert failure.code == "refused_in_validation"
    assert failure.details["reason"] == "it is bad"
    assert "files[0].content" in failure.message
    failure = refused(files=[file(path, "x", validate=[str(tmp_path / "nothing"), "%s"])])
    assert failure.code == "no_validator"
    assert path.read_text() == ""
    assert everything(tmp_path) == [str(path)]


@pytest.mark.parametrize("text", ["", "600", "rw", "0800", "07777777"])
def test_modes(tmp_path, text):
    if text == "600":
        assert run(files=[file(tmp_path / "f", mode=text)])["changed"]
        assert mode(tmp_path / "f") == 0o600
    else:
        assert refused(files=[file(tmp_path / "f", mode=text)]).details["key"] == "files[0].mode"
        assert refused(directories=[directory(tmp_path / "d", mode=text)]).details["key"] == "directories[0].mode"


def test_something_else_in_the_way(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    assert refused(files=[file(tmp_path / "d")]).details["key"] == "files[0].path"
    assert refused(files=[file(tmp_path / "link")]).details["key"] == "files[0].path"
    assert refused(directories=[directory(tmp_path / "f")]).details["key"] == "directories[0].path"


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "f").write_text("")
    failure = refused(files=[file(tmp_path / "missing" / "f")])
    assert failure.code == "file_error"
    assert str(tmp_path / "missing" / "f") in failure.message
    failure = refused(directories=[directory(tmp_path / "f" / "d")])
    assert failure.code == "file_error"


def test_platform():
    found = _placement.platform()
    assert found["architecture"] == os.uname().machine
    assert set(found) <= {"architecture", "glibc"}
