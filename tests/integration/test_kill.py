# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at every file operation: the disk holds either revision whole, Envoy restarted serves one of the two, and the
next run converges and says what it found."""

from __future__ import annotations

import json
import re
import signal

from real import NATIVE, htpasswd, native_users

# Kept generations are removed at the end of a run; here each run shall have the same operations.
OLD = native_users(htpasswd("foo", "old"), keep=1000)
NEW = native_users(htpasswd("foo", "new"), keep=1000)


def killed(gateway, number):
    """Publish NEW, killed before its ``number``-th file operation; whether it was, and the operations before that."""
    process, operations = gateway.faulty_filter("users", NEW, "kill", number)
    assert process.returncode in (0, -signal.SIGKILL), process.stdout + process.stderr
    return process.returncode != 0, [re.sub("staged-[0-9a-f]+|[0-9]+.json", "*", operation) for operation in operations]


def test_killed_at_every_operation_of_a_publish(gateway):
    gateway.serve(NATIVE)
    assert not gateway.filter("users", **OLD).failed
    _killed, whole = killed(gateway, 0)
    assert len(whole) > 15, whole
    renamed = whole.index(f"rename {gateway.live('users')}")
    noted = whole.index(f"rename {gateway.directory}/state/filters/users/record.json")
    for number, operation in enumerate(whole):
        assert not gateway.filter("users", **OLD).failed
        assert killed(gateway, number + 1) == (True, whole[:number])
        published = number > renamed
        document = json.loads(gateway.live("users").read_text())
        line = document["resources"][0]["typed_config"]["value"]["users"]["inline_string"]
        assert line == htpasswd("foo", "new" if published else "old"), operation

        gateway.restart()
        statuses = [gateway.get(credential) for credential in ("foo:old", "foo:new", None)]
        assert statuses == ([401, 200, 401] if published else [200, 401, 401]), operation

        result = gateway.filter("users", **NEW)
        assert not result.failed, result
        confirmed = number > noted
        assert result["action"] == ("none" if confirmed else "healed" if published else "published"), operation
        told = any("did not live to confirm" in text for text in result["found"])
        assert told is (renamed < number <= noted), (operation, result["found"])
        assert gateway.get("foo:new") == 200
        assert not [name for name in gateway.files() if "staged" in name]
        assert (result["action"], gateway.filter("users", **NEW)["found"]) == (result["action"], [])


def test_killed_at_every_operation_of_the_first_publish(gateway):
    """No key, no generation, a deny in place: whatever a kill leaves, nobody gets in without the credential."""
    number = 0
    was_killed = True
    while was_killed:
        number += 1
        forget(gateway)
        assert gateway.serve(NATIVE)["denied"] == ["users"]
        was_killed, _operations = killed(gateway, number)
        assert gateway.get() in (401, 403)
        gateway.restart()
        assert gateway.get() in (401, 403)
        assert gateway.get("foo:new") in (200, 403)
        assert not gateway.filter("users", **NEW).failed
        assert [gateway.get("foo:new"), gateway.get()] == [200, 401]
    assert number > 15


def forget(gateway):
    """Back to a gateway that was just installed, but for its listener, which goes last."""
    gateway.config()
    gateway.filter("users", state="absent", purge=True)
