# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts are those that this scenario is about."""

from __future__ import annotations

import typing as t

from conftest import Gateway

#: name of a host to the versions of Debian, Python and systemd that it has
VERSIONS = {
    "bullseye": ("11", "3.9", "247"),
    "bookworm": ("12", "3.11", "252"),
    "trixie": ("13", "3.13", "257"),
}


def test_it_is_what_it_is_called(host: t.Any, gateway: Gateway) -> None:
    python = host.check_output("python3 -c 'import sys; print(*sys.version_info[:2], sep=\".\")'")
    systemd = host.check_output("systemctl --version").split()[1]
    assert (host.system_info.release.partition(".")[0], python, systemd) == VERSIONS[gateway.name]
