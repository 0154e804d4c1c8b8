# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What istiod's debug pages tell, and when a gateway counts as running a revision."""

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _sync
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version
from ansible_collections.moe.gateway.plugins.module_utils._sync import Ack, Dump, Watch

VERSION = Version("0123456789abcdef", 7)


def nonce(push, rest="42e5ac8e-0d1b-4e8f-8d75-8b6d2a0f6a11"):
    return f"2030-01-31T12:00:00Z/{push}{rest}"


#: Of push 5 too, but to another request.
ANSWER = nonce(5, "00000000-0d1b-4e8f-8d75-8b6d2a0f6a11")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-01-31T12:00:00Z/42", 42),
        ("2030-01-31T12:00:00+01:00/42", 42),
        ("2030-01-31T12:00:00Z/4212345678-0d1b-4e8f-8d75-8b6d2a0f6a11", 42),
        ("", 0),
        ("42", 0),
        ("2030-01-31T12:00:00Z/", 0),
    ],
)
def test_push_number(text, expected):
    assert _sync.push_number(text) == expected


SYNCZ = [
    {
        "proxy": "first.istio-system",
        "proxy_type": "router",
        "resources": {
            _sync.LDS: {"sent": "n1", "acked": "n1"},
            _sync.ECDS: {"sent": "n3", "acked": "n2", "lastError": "no"},
        },
    },
    {"proxy": "leaving.istio-system", "proxy_type": "router"},
    {"proxy": "workload.istio-system", "proxy_type": "sidecar"},
]
ADSZ = {
    "clients": [
        {
            "connectionId": "first.istio-system-12",
            "connectedAt": "2030",
            "labels": {"istio": "ingressgateway", "gateway": "first"},
            "metadata": {"NAMESPACE": "istio-system"},
        },
        {"connectionId": "coming.istio-system-13", "metadata": {}},
        {"connectionId": "workload.istio-system-14", "metadata": {"NAMESPACE": "istio-system"}},
    ]
}


def test_gateways_of_an_istiod():
    (proxy,) = _sync.proxies("http://one", SYNCZ, ADSZ)
    assert (proxy.name, proxy.namespace, proxy.connection) == (
        "first.istio-system",
        "istio-system",
        "first.istio-system-12",
    )
    assert proxy.acks[_sync.LDS].is_acked
    assert proxy.acks[_sync.ECDS] == Ack("n3", "n2", "no")
    assert not proxy.acks[_sync.ECDS].is_acked
    assert _sync.proxies("http://one", [], {"clients": None}) == []


@pytest.mark.parametrize(
    ("namespace", "labels", "expected"),
    [
        ("istio-system", {}, True),
        ("istio-system", {"istio": "ingressgateway"}, True),
        ("root", {"gateway": "first"}, True),
        ("default", {}, False),
        ("istio-system", {"istio": "egressgateway"}, False),
        ("istio-system", {"other": ""}, False),
    ],
)
def test_who_is_selected(namespace, labels, expected):
    found = _sync.proxies("http://one", SYNCZ, ADSZ)
    assert bool(_sync.selected(found, namespace, labels, "root")) is expected


def test_what_a_push_is_made_of():
    def of(version):
        typed = {"typeUrl": f"moe.gateway/{version}/x.y.Z"}
        entry = {"versionInfo": "2030-01-31T12:00:00Z/5", "ecdsFilter": {"typedConfig": typed}}
        return {"configs": [{"@type": "bootstrap"}, {"@type": "ecds", "ecdsFilters": [entry]}]}

    assert _sync.dump(of(VERSION), VERSION) == Dump(5, True)
    # Not a version that begins in the same way.
    assert _sync.dump(of("0123456789abcdef-70"), VERSION) == Dump(5, False)
    assert _sync.dump({}, VERSION) == Dump(0, False)


def watch(*dumps):
    """:param dumps: each after what had been sent last then, if that is not of the same push."""
    found = Watch()
    for push, holds, *sent in dumps:
        found = found.seen(Dump(push, holds), *(sent or [nonce(push)]))
    return found


@pytest.mark.parametrize(
    ("ack", "seen", "settled", "expected"),
    [
        # The usual one: push 4 had not, push 5 has.
        (Ack(nonce(5), nonce(5), ""), [(4, False), (5, True)], False, "done"),
        (Ack(nonce(5), nonce(4), ""), [(4, False), (5, True)], False, "waiting"),
        (Ack(nonce(5), nonce(4), "no such key"), [(4, False), (5, True)], False, "refused"),
        # The push has begun, and this is not sent yet.
        (Ack(nonce(4), nonce(4), ""), [(4, False), (5, True)], False, "waiting"),
        # A refusal of something before it.
        (Ack(nonce(4), nonce(3), "no such key"), [(4, False), (5, True)], False, "waiting"),
        # Nothing has it yet.
        (Ack(nonce(4), nonce(4), ""), [(4, False)], True, "waiting"),
        (Ack("", "", ""), [(4, False), (5, True)], True, "waiting"),
        # A later push went out as well.
        (Ack(nonce(6), nonce(6), ""), [(4, False), (5, True)], False, "done"),
        # Push 5 may have had it or not: not told from push 6 that is still sending, until nothing moves any more.
        (Ack(nonce(5), nonce(5), ""), [(4, False), (6, True)], False, "waiting"),
        (Ack(nonce(5), nonce(5), ""), [(4, False), (6, True)], True, "done"),
        (Ack(nonce(4), nonce(4), ""), [(4, False), (6, True)], True, "waiting"),
        # One that connected meanwhile.
        (Ack(nonce(6), nonce(6), ""), [(6, True)], False, "done"),
        # Push 5 had it not in what was asked for then; since then it was asked for, and answered.
        (Ack(ANSWER, nonce(5), ""), [(5, False), (5, True)], False, "waiting"),
        (Ack(ANSWER, ANSWER, ""), [(5, False), (5, True)], False, "done"),
        (Ack(ANSWER, nonce(5), "no such key"), [(5, False), (5, True)], False, "refused"),
        (Ack(ANSWER, ANSWER, ""), [(5, False, nonce(4)), (5, True)], False, "done"),
        (Ack(nonce(5), nonce(5), ""), [(5, False), (5, True)], True, "waiting"),
        # What has it is a later push, of which nothing was sent yet.
        (Ack(nonce(5), nonce(5), ""), [(5, False, nonce(4)), (6, True)], True, "waiting"),
        # It had it and has it no more: somebody else changed it.
        (Ack(nonce(6), nonce(6), ""), [(4, False), (5, True), (6, False)], True, "waiting"),
    ],
)
def test_when_a_gateway_runs_it(ack, seen, settled, expected):
    assert _sync.judge(ack, watch(*seen), settled) == expected
