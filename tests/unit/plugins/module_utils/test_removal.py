# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host is ours. Whatever is not stays, and so does every directory that it is in."""

from __future__ import annotations

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._removal import PARTS, Entry, Places, is_ours, plan

DIGEST = "0123456789abcdef" * 4
PLACES = Places(
    "/opt/envoy", "/opt/envoy/extensions", "/etc/envoy", "/etc/envoy/xds", "/run/envoy", "/var/log/envoy/envoy.log"
)

#: path → the part that it belongs to; a directory ends with a slash
OURS = {
    "/opt/envoy/": "binaries",
    "/opt/envoy/envoy-1.40.0": "binaries",
    "/opt/envoy/envoy-1.40.0+custom": "binaries",
    "/opt/envoy/supervisor.py": "binaries",
    "/opt/envoy/static.py": "binaries",
    "/opt/envoy/envoy.service.previous": "binaries",
    "/opt/envoy/extensions/": "extensions",
    f"/opt/envoy/extensions/basic_auth-{DIGEST}.so": "extensions",
    "/etc/envoy/": "configuration",
    "/etc/envoy/bootstrap.json": "configuration",
    "/etc/envoy/bootstrap-0123456789abcdef.json": "configuration",
    "/etc/envoy/.new-0123456789abcdef-bootstrap.json": "configuration",
    "/etc/envoy/run": "configuration",
    "/etc/envoy/ads/": "configuration",
    "/etc/envoy/ads/identity.pem": "configuration",
    "/etc/envoy/ads/ca.json": "configuration",
    "/etc/envoy/ads/.new-0123456789abcdef-identity.pem": "configuration",
    "/etc/envoy/xds/": "configuration",
    "/etc/envoy/xds/clusters.json": "configuration",
    "/etc/envoy/xds/listeners.json": "configuration",
    "/etc/envoy/xds/filters/": "configuration",
    "/etc/envoy/xds/filters/basic_auth.json": "configuration",
    "/etc/envoy/xds/state/": "configuration",
    "/etc/envoy/xds/state/key": "configuration",
    "/etc/envoy/xds/state/staged-0123456789abcdef": "configuration",
    "/etc/envoy/xds/state/listeners/": "configuration",
    "/etc/envoy/xds/state/listeners/7.json": "configuration",
    "/etc/envoy/xds/state/filters/": "configuration",
    "/etc/envoy/xds/state/filters/basic_auth/": "configuration",
    "/etc/envoy/xds/state/filters/basic_auth/12.json": "configuration",
    "/etc/envoy/xds/state/filters/basic_auth/record.json": "configuration",
    "/etc/envoy/xds/state/twin": "configuration",
    "/etc/envoy/xds.next/": "configuration",
    "/etc/envoy/xds.next/filters/": "configuration",
    "/etc/envoy/xds.next/filters/basic_auth.json": "configuration",
    "/etc/envoy/xds.next/state/": "configuration",
    "/etc/envoy/xds.next/state/twin": "configuration",
    "/run/envoy/": "configuration",
    "/run/envoy/admin.sock": "configuration",
    "/run/envoy/envoy.lock": "configuration",
    "/run/envoy/supervisor.sock": "configuration",
    "/run/envoy/base-id": "configuration",
    "/run/envoy/hot-restart_udp_parent_18446744071835266100": "configuration",
    "/run/envoy/bootstrap.json": "configuration",
    "/var/log/envoy/": "logs",
    "/var/log/envoy/envoy.log": "logs",
}

FOREIGN = [
    "/opt/envoy/envoy",
    "/opt/envoy/envoy-1.40.0/",
    "/opt/envoy/README",
    "/opt/envoy/extensions/basic_auth.so",
    f"/opt/envoy/extensions/basic_auth-{DIGEST}.so/",
    f"/opt/envoy/extensions/basic_auth-{DIGEST}.so.bak",
    "/etc/envoy/envoy.yaml",
    "/etc/envoy/bootstrap.json.bak",
    "/etc/envoy/certificates/",
    "/etc/envoy/xds/routes.json",
    "/etc/envoy/xds/filters/mine.json",
    "/etc/envoy/xds.next/filters/mine.json",
    "/etc/envoy/xds.old/",
    "/etc/envoy/xds/filters/basic_auth.json.bak",
    "/etc/envoy/xds/filters/basic_auth.json/",
    "/etc/envoy/xds/state/notes",
    "/etc/envoy/xds/state/filters/basic_auth/0.json",
    "/etc/envoy/xds/state/filters/basic_auth/other.json",
    "/run/envoy/other.sock",
]


def entry(path):
    return Entry(path.rstrip("/"), path.endswith("/"))


def planned(*more, keep=(), used=()):
    return plan(PLACES, [entry(path) for path in (*OURS, *more)], {"basic_auth"}, keep, used)


def test_all_that_is_ours_goes_and_directories_after_what_is_in_them():
    found = planned()
    assert {(item.path, item.is_directory) for item in found.remove} == set(map(entry, OURS))
    assert found.left == []
    gone = set()
    for item in found.remove:
        below = {path.rstrip("/") for path in OURS if path.startswith(item.path + "/")} - {item.path}
        assert below <= gone, item
        gone.add(item.path)


@pytest.mark.parametrize("path", FOREIGN)
def test_what_is_not_ours_stays_and_is_named_with_what_it_is_in(path):
    found = planned(path)
    name = path.rstrip("/")
    assert found.left == [name]
    staying = {item.rstrip("/") for item in OURS} - {item.path for item in found.remove}
    assert staying == {
        item.rstrip("/") for item in OURS if item.endswith("/") and name.startswith(item) and name != item.rstrip("/")
    }


@pytest.mark.parametrize("part", [part for part in PARTS if part != "user"])
def test_what_is_kept_stays_and_is_not_named(part):
    found = planned(keep=[part])
    staying = {path for path in OURS if path.rstrip("/") not in {item.path for item in found.remove}}
    kept = {path for path, belongs in OURS.items() if belongs == part}
    # What it is in stays too.
    around = {path for path in OURS if path.endswith("/") and any(item.startswith(path) for item in kept)}
    assert staying == kept | around
    assert found.left == []


def test_what_others_put_beside_what_is_kept_is_not_named():
    assert planned("/etc/envoy/envoy.yaml", keep=["configuration"]).left == []


def test_what_somebody_uses_stays_and_is_named():
    path = f"/opt/envoy/extensions/basic_auth-{DIGEST}.so"
    found = planned(used=[path])
    assert found.left == [path]
    assert not {path, "/opt/envoy", "/opt/envoy/extensions"} & {item.path for item in found.remove}
    assert "/opt/envoy/envoy-1.40.0" in {item.path for item in found.remove}


def test_the_live_file_of_a_filter_that_was_never_ours_stays():
    found = plan(PLACES, [entry("/etc/envoy/xds/filters/"), entry("/etc/envoy/xds/filters/basic_auth.json")], set(), [])
    assert (found.remove, found.left) == ([], ["/etc/envoy/xds/filters/basic_auth.json"])


def test_a_place_that_is_a_link_is_somebody_elses():
    found = plan(PLACES, [Entry("/etc/envoy/xds", False), Entry("/etc/envoy", True)], set(), [])
    assert (found.remove, found.left) == ([], ["/etc/envoy/xds"])


def test_a_log_beside_the_socket_and_no_log_at_all():
    here = PLACES._replace(log_path="/run/envoy/envoy.log")
    found = plan(here, [entry("/run/envoy/"), entry("/run/envoy/envoy.log")], set(), [])
    assert [item.path for item in found.remove] == ["/run/envoy/envoy.log", "/run/envoy"]
    kept = plan(here, [entry("/run/envoy/"), entry("/run/envoy/envoy.log")], set(), ["logs"])
    assert kept == ([], [])
    nothing = PLACES._replace(log_path="")
    assert plan(nothing, [entry("/etc/envoy/")], set(), []).remove == [entry("/etc/envoy/")]


@pytest.mark.parametrize(
    ("path", "ours"),
    [(path.rstrip("/"), True) for path in OURS if path.endswith("/")]
    + [("/etc/envoy/certificates", False), ("/etc/envoy/xds/state/other", False), ("/etc", False), ("/", False)],
)
def test_only_directories_of_ours_are_looked_into(path, ours):
    assert is_ours(PLACES, path) is ours
