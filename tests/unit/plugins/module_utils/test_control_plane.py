# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an Envoy does not hear from its control plane."""

from __future__ import annotations

import socket

from ansible_collections.moe.gateway.plugins.module_utils import _control_plane
from ansible_collections.moe.gateway.plugins.module_utils._control_plane import Way, closings, ways

LOG = """\
[2030-01-31 12:00:00.000][41][warning][config] [./source/x.h:1] DeltaAggregatedResources gRPC config stream to istiod \
closed: 14, of a process before
[2030-01-31 12:00:01.000][42][warning][config] [./source/x.h:1] DeltaAggregatedResources gRPC config stream to istiod \
closed: 16, request unauthenticated
[2030-01-31 12:00:02.000][42][warning][config] [./source/x.h:1] StreamAggregatedResources gRPC config stream to istiod \
closed since 31s ago: 14, upstream connect error
[2030-01-31 12:00:03.000][42][info][main] [source/server/server.cc:1] starting main dispatch loop
[2030-01-31 12:00:04.000][43][warning][config] [./source/x.h:1] gRPC config stream to istiod closed: 14, of a thread
"""


def test_the_last_reason_of_this_process_counts() -> None:
    assert closings(LOG, 42) == "14, upstream connect error"
    assert closings(LOG, 41) == "14, of a process before"
    assert closings(LOG, 40) == ""
    assert closings("", 42) == ""


def test_a_bootstrap_of_another_has_no_ways() -> None:
    assert ways({}) == ways({"static_resources": {"clusters": [{"name": "other"}]}}) == []


def test_what_is_tried_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert _control_plane._try(Way("127.0.0.1", port)) == ""
    assert _control_plane._try(Way("127.0.0.1", port)) == f"127.0.0.1:{port}: Connection refused"
