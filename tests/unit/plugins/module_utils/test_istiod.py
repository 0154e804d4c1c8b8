# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._istiod import istiods
from ansible_collections.moe.gateway.plugins.module_utils._kubernetes import Place


class Pods:
    """What an API server tells of Pods."""

    def __init__(self, *names):
        self.names = names
        self.asked = []

    def items(self, place, **selectors):
        self.asked.append((place, selectors))
        found = [{"metadata": {"name": name}} for name in self.names]
        return [*found, {"metadata": {"name": "ends", "deletionTimestamp": "2030-01-31T12:00:00Z"}}]


def nobody():
    raise AssertionError("nobody has to be asked")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "istiod",
        "http://",
        "ftp://a",
        "http://a/debug",
        "pods://",
        "pods://a",
        "pods://a/b",
        "pods://a/b=c:d",
        "pods://A/b=c",
    ],
)
def test_what_is_no_istiod(url):
    with pytest.raises(
        Failure, match=r"^istiods\[1\]: found .*, expected a URL such as http://127.0.0.1:15014, or pods://"
    ):
        istiods(["http://one:1", url], None, None, 1, nobody)


def test_urls():
    found = istiods(["http://one:15014/", "https://[2001:db8::1]:443"], None, None, 1, nobody)
    assert [istiod.url for istiod in found] == ["http://one:15014", "https://[2001:db8::1]:443"]
    with pytest.raises(Failure, match=r"^istiods: found none"):
        istiods([], None, None, 1, nobody)


@pytest.mark.parametrize(
    ("url", "labels"),
    [("pods://a/app=istiod", "app=istiod"), ("pods://a/app=istiod,istio.io/rev=b:99", "app=istiod,istio.io/rev=b")],
)
def test_pods(url, labels):
    api = Pods("two", "one")
    found = istiods(["http://one:15014", url], None, None, 1, lambda: api)
    assert [istiod.url for istiod in found] == ["http://one:15014", "pods://a/one", "pods://a/two"]
    place = Place("v1", "pods", "a", "")
    assert api.asked == [(place, {"labelSelector": labels, "fieldSelector": "status.phase=Running"})]
    with pytest.raises(Failure, match=r"^istiods\[0\]: found no Pod that runs, expected one or more: pods://a/"):
        istiods([url], None, None, 1, Pods)
