# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is left of a gateway on its host but what somebody else put there."""

from __future__ import annotations

#: Somebody else's, on the host that has them, with the directories that they are in.
FOREIGN = {
    "bookworm": [],
    "trixie": [
        "/etc/envoy",
        "/etc/envoy/notes.txt",
        "/opt/envoy",
        "/opt/envoy/extensions",
        "/opt/envoy/extensions/another.so",
    ],
}


def test_no_file_is_left(host, gateway):
    # A private /tmp whose host lost its power stays until systemd cleans up.
    found = host.check_output("find / /run /dev/shm -xdev -path '*envoy*' -not -path '*/systemd-private-*' -print")
    assert sorted(set(found.split())) == FOREIGN[gateway.name]


def test_systemd_knows_nothing_of_it(host):
    assert host.run("systemctl list-units --all --full --plain --no-legend | grep envoy").stdout == ""
    assert host.run("systemctl list-unit-files --full --plain --no-legend | grep envoy").stdout == ""


def test_its_user_and_group_are_gone(host):
    assert not host.user("envoy").exists
    assert not host.group("envoy").exists


def test_nothing_runs_or_listens(host, gateway):
    assert host.run("pgrep -f '[e]nvoy-'").rc == 1
    assert not host.socket("tcp://0.0.0.0:80").is_listening


def test_nobody_was_let_in_meanwhile(gateway):
    answers = gateway.answers("uninstall")
    for client in ("nobody", "wrong"):
        outcomes = [answer.outcome for answer in answers[client]]
        assert outcomes[0] == 401
        assert 200 not in outcomes
        assert outcomes[-1] == "ConnectionRefusedError"
