# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live file in the hands of others: each change is found, named and mended, and traffic never notices."""

from __future__ import annotations

import json
import os

import pytest
from real import NATIVE, htpasswd, native_users

GOOD = native_users(htpasswd("foo", "bar"))


def edit_in_place(path):
    document = json.loads(path.read_text())
    document["resources"][0]["typed_config"]["value"]["users"]["inline_string"] = htpasswd("mallory", "in")
    path.write_text(json.dumps(document))


def edit_only_white_space(path):
    path.write_text(path.read_text() + "\n")


def raise_the_generation(path):
    document = json.loads(path.read_text())
    digest, _dash, _number = document["version_info"].partition("-")
    document["version_info"] = f"{digest}-4000"
    path.write_text(json.dumps(document))


def truncate(path):
    """What a crash leaves of a file that was written without care."""
    os.truncate(path, path.stat().st_size // 2)


def make_empty(path):
    os.truncate(path, 0)


def delete(path):
    path.unlink()


def open_to_others(path):
    path.chmod(0o644)


def replace_by_link(path):
    elsewhere = path.with_suffix(".elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def replace_by_directory(path):
    path.unlink()
    path.mkdir()


CASES = {
    edit_in_place: "had been changed by somebody else: its content does not belong to its version",
    raise_the_generation: "had been changed by somebody else",
    truncate: "are not JSON",
    make_empty: "its 0 bytes are not JSON",
    delete: "the file was missing",
    open_to_others: "could be read by other users (mode 0644)",
    replace_by_link: "could not be used",
}


@pytest.fixture
def served(gateway):
    gateway.serve(NATIVE)
    assert not gateway.filter("users", **GOOD).failed
    return gateway


@pytest.mark.parametrize(("fault", "found"), CASES.items(), ids=lambda item: getattr(item, "__name__", ""))
def test_found_named_and_mended(served, fault, found):
    fault(served.live("users"))
    assert served.get("foo:bar") == 200, "Envoy has not seen it"
    check = served.filter("users", check=True, **GOOD)
    assert (check["changed"], check["action"]) == (True, "healed")
    result = served.filter("users", **GOOD)
    assert (result["changed"], result["action"]) == (True, "healed")
    assert any(found in text for text in result["found"]), result["found"]
    assert not served.live("users").is_symlink()
    assert served.live("users").stat().st_mode & 0o777 == 0o600
    again = served.filter("users", **GOOD)
    assert (again["action"], again["found"]) == ("none", [])
    served.restart()
    assert [served.get("foo:bar"), served.get("mallory:in"), served.get()] == [200, 401, 401]
    assert served.filter("users", **GOOD)["action"] == "none"


def test_white_space_is_no_change(served):
    edit_only_white_space(served.live("users"))
    assert served.filter("users", **GOOD)["action"] == "none"


def test_a_directory_in_the_files_place_is_refused_by_name(served):
    replace_by_directory(served.live("users"))
    result = served.filter("users", **GOOD)
    assert result.code == "file_error"
    assert str(served.live("users")) in result["msg"]
    assert served.get("foo:bar") == 200


def test_a_filter_that_another_run_changed(served):
    """The other one's revision is replaced, as any earlier one."""
    assert served.filter("users", **native_users(htpasswd("foo", "other"))).failed is False
    result = served.filter("users", **GOOD)
    assert (result["action"], result["found"]) == ("published", [])
    assert served.get("foo:bar") == 200


def test_a_lost_state_is_made_anew(served):
    """Without the key nothing on disk can be told to be ours; traffic goes on all the same."""
    for path in sorted((served.directory / "state").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (served.directory / "state").rmdir()
    assert served.filter("users", **GOOD)["changed"] is True
    assert served.filter("users", **GOOD)["action"] == "none"
    assert served.get("foo:bar") == 200


def test_a_damaged_record_is_no_obstacle(served):
    (served.directory / "state" / "filters" / "users" / "record.json").write_text("{")
    assert not served.filter("users", **GOOD).failed
    assert served.filter("users", **GOOD)["action"] == "none"
    assert served.get("foo:bar") == 200


def test_a_missing_file_comes_back_with_the_listener(served):
    """envoy_config puts the last good revision back, not the deny, where there is one."""
    served.live("users").unlink()
    result = served.serve(NATIVE)
    assert result["denied"] == ["users"]
    served.restart()
    assert served.get("foo:bar") == 200
