# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reasons that are taken from what Envoy writes: whole, on one line, and without what Envoy was given."""

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._log import reasons

CRITICAL = "[2030-01-31 12:00:00.123][77][critical][main] [source/server/config_validation/server.cc:76] "
REFUSED = CRITICAL + "error initializing configuration '/tmp/x/bootstrap.json': "
UPDATE = (
    "[2030-01-31 12:00:00.123][77][warning][config] [source/extensions/config_subscription/filesystem/"
    "filesystem_subscription_impl.cc:130] Filesystem config update rejected: "
)
MODULE = "[2030-01-31 12:00:00.123][77][error][dynamic_modules] [source/extensions/dynamic_modules/abi_impl.cc:40] "
WARNING = "[2030-01-31 12:00:00.123][77][warning][misc] [source/common/protobuf/message_validator_impl.cc:20] "


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", ""),
        ("no line of Envoy's\n", ""),
        (WARNING + "Deprecated field: type envoy.x Using deprecated option\n", ""),
        (REFUSED + "DataSource cannot be empty\n", "DataSource cannot be empty"),
        (UPDATE + "basic auth: invalid htpasswd format\n", "basic auth: invalid htpasswd format"),
        # The module's own reason comes first, without a line for itself.
        (
            MODULE
            + "moe basic_auth: configuration refused: users: required\n"
            + REFUSED
            + "Failed to create filter config: Failed to initialize dynamic module\n",
            "moe basic_auth: configuration refused: users: required; "
            "Failed to create filter config: Failed to initialize dynamic module",
        ),
        (
            REFUSED + "Failed to load dynamic module.\n" + MODULE + "no such symbol\n",
            "no such symbol; Failed to load dynamic module",
        ),
        # What Envoy says twice is said once.
        (REFUSED + "x\n" + CRITICAL + "x\n" + UPDATE + "x.\n", "x"),
        (WARNING + "something else\n" + REFUSED + "x\n" + WARNING + "more\n", "x"),
        ("\n" + REFUSED + "x", "x"),
    ],
)
def test_a_line(log, reason):
    assert reasons(log) == reason


# What Envoy 1.40 writes over several lines: it prints the message that it got, in its own form, within the reason.
PRINTED = """goo.gle/debugstr \x20
static_resources {
  clusters {
    name: "HIDDEN"
    load_assignment {
    }
  }
}
: Proto constraint validation failed (ClusterLoadAssignmentValidationError.ClusterName: value length must be at least 1)
"""


@pytest.mark.parametrize("marker", ["goo.gle/debugstr", "goo.gle/debugonly", "goo.gle/debugproto"])
def test_the_reason_after_the_message_is_kept_and_the_message_is_not(marker):
    log = REFUSED + PRINTED.replace("goo.gle/debugstr", marker) + WARNING + "more\n"
    expected = (
        "Proto constraint validation failed "
        "(ClusterLoadAssignmentValidationError.ClusterName: value length must be at least 1)"
    )
    assert reasons(log) == expected


def test_the_reason_before_the_message_is_kept_and_the_message_is_not():
    log = (
        REFUSED + 'Invalid duration: Expected positive duration: goo.gle/debugonly   \nseconds: -1\nname: "HIDDEN"\n\n'
    )
    assert reasons(log) == "Invalid duration: Expected positive duration"


def test_a_reason_of_several_lines_is_one_line():
    assert reasons(REFUSED + "one\n  two\n\nthree\n" + UPDATE + "four\n") == "one two three; four"


def test_the_whole_configuration_is_not_part_of_the_reason():
    """Envoy repeats all that it could not parse, and a secret may stand there in a form that nobody looks for."""
    reason = (
        "Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in envoy.config.bootstrap.v3.Bootstrap @ "
        "static_resources.listeners[0].users: message envoy.config.core.v3.DataSource, near 1:538 (offset 537): "
        "unexpected character: '['; expected '{')"
    )
    log = REFUSED + reason + ': {"node": {"id": "validate"}, "static_resources": {"p": "HID\\\\\\"DEN"}}\n'
    assert reasons(log) == reason


def test_the_whole_file_is_not_part_of_the_reason():
    """The running Envoy repeats the file, which has many lines."""
    reason = "Unable to parse JSON as proto (INVALID_ARGUMENT: no such field: 'x')"
    log = UPDATE + reason + ': {\n "resources": [\n  {"p": "HIDDEN"}\n ]\n}\n\n' + WARNING + "more\n"
    assert reasons(log) == reason


def test_the_spaces_that_envoy_strews_in_are_evened_out():
    """protobuf puts a random number of spaces into its errors, so that nobody compares them."""
    log = REFUSED + "near  1:537   (offset 536):  no  such field: 'userz'\n"
    assert reasons(log) == "near 1:537 (offset 536): no such field: 'userz'"
