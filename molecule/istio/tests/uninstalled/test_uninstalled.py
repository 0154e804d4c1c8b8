# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is left of a control plane but what somebody else put there, and gateways go on without it."""

from __future__ import annotations

import pytest
import testinfra
from conftest import EPHEMERAL, Gateway

#: Somebody else's, on the host that has them, with the directories that they are in.
FOREIGN = {"istiod1": ["/etc/istio", "/etc/istio/notes.txt"], "istiod2": []}


@pytest.mark.parametrize("name", FOREIGN)
def test_nothing_is_left(name: str) -> None:
    host = testinfra.get_host(f"ssh://{name}", ssh_config=str(EPHEMERAL / "ssh_config"))
    # Of a host that lost its power, systemd's own stay until it cleans up.
    systemd = "-not -path '*/systemd-private-*' -not -path '/var/lib/systemd/*' -not -path '/run/credentials/*'"
    found = host.check_output(f"find / /run -xdev -path '*istio*' {systemd} -print")
    assert sorted({*found.split()}) == FOREIGN[name]
    for what in ("units", "unit-files"):
        assert "istio" not in host.check_output(f"systemctl list-{what} --all --full --plain --no-legend")
    assert host.run("pgrep -f 'etcd|kube-apiserver|pilot-discovery'").rc == 1


def test_the_gateway_goes_on(gateway: Gateway) -> None:
    assert (gateway.status(), gateway.status("foo:wrong"), gateway.status("foo:qux")) == (401, 401, 200)
