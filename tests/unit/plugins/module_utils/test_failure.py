# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a refusal is worded and what a playbook gets of it."""

from __future__ import annotations

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid


def test_a_failure_carries_what_a_module_returns():
    failure = Failure("port_shared", "PID 7 listens there.", pid=7)
    assert str(failure) == "PID 7 listens there."
    assert failure.as_dict() == {"code": "port_shared", "message": "PID 7 listens there.", "details": {"pid": 7}}


def test_a_wrong_input_is_named_with_what_was_found_and_expected():
    failure = invalid("listeners[0].port", "'x' (str)", "an integer from 1 to 65535")
    assert failure.message == "listeners[0].port: found 'x' (str), expected an integer from 1 to 65535."
    assert failure.code == "invalid_option"
    assert failure.details == {
        "key": "listeners[0].port",
        "found": "'x' (str)",
        "expected": "an integer from 1 to 65535",
    }


def test_what_to_do_follows_as_a_sentence():
    assert invalid("a", "b", "c", "Quote it.").message == "a: found b, expected c. Quote it."
