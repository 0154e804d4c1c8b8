# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root changes a gateway that belongs to Envoy's user: that user must gain nothing by it, and must lose nothing.

Envoy runs foreign code on what strangers send. Whoever took it over owns the gateway's directory, and can plant links
there.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil

import pytest
from real import NATIVE, RealGateway, htpasswd, native_users, run_module

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: root on a gateway of another user (needs root)")

USER = pwd.getpwnam("nobody")
GOOD = native_users(htpasswd("foo", "bar"))
NEXT = native_users(htpasswd("foo", "baz"))


@pytest.fixture
def gateway():
    """An Envoy of the user nobody; the modules run as root."""
    real = RealGateway()
    try:
        # The environment's Envoy may be where only root can look.
        real.binary = pathlib.Path(shutil.copy(real.binary, real.root / "envoy"))
        real.root.chmod(0o711)
        for path in (real.directory, real.log.parent, *real.directory.iterdir()):
            os.chown(path, USER.pw_uid, USER.pw_gid)
        run = real.root / "run"
        run.mkdir(mode=0o700)
        os.chown(run, USER.pw_uid, USER.pw_gid)
        real.socket = run / "admin.sock"
        real.bootstrap["admin"]["address"]["pipe"]["path"] = str(real.socket)
        real.start(user=USER.pw_uid, group=USER.pw_gid, extra_groups=[], umask=0o022)
        yield real
    finally:
        real.remove()


@pytest.fixture
def treasure(tmp_path):
    """A directory of root's, and what is in it."""
    folder = tmp_path / "treasure"
    folder.mkdir(mode=0o755)
    (folder / "users.json").write_text("root's own")
    return folder


def state_of(folder):
    status = folder.stat()
    return (status.st_uid, status.st_mode, sorted(path.name for path in folder.iterdir()))


def test_everything_belongs_to_envoys_user(gateway):
    gateway.serve(NATIVE)
    gateway.filter("users", **GOOD)
    os.chown(gateway.live("users"), 0, 0)
    assert "belonged to user id 0" in gateway.filter("users", **GOOD)["found"][0]
    gateway.filter("users", **native_users(htpasswd("foo", "first")))
    for options, credential in ((GOOD, "foo:bar"), (NEXT, "foo:baz")):
        result = gateway.filter("users", **options)
        assert result["action"] == "published", result
        assert [gateway.get(credential), gateway.get()] == [200, 401]
    assert gateway.filter("users", **NEXT)["action"] == "none"
    for path in [gateway.directory, *gateway.directory.rglob("*")]:
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (USER.pw_uid, USER.pw_gid), path
        assert status.st_mode & 0o077 == 0, path


def test_a_bad_configuration_is_refused_by_a_throwaway_envoy_of_that_user(gateway):
    gateway.serve(NATIVE)
    gateway.filter("users", **GOOD)
    result = gateway.filter("users", **native_users("no-password"))
    assert result.code == "refused_in_validation"
    assert gateway.get("foo:bar") == 200


def test_an_envoy_that_may_bind_low_ports_is_its_own_judge_although_its_file_is_gone(gateway):
    """Its user may not open its /proc/PID/exe then, and there is no other way left to what it runs."""
    gateway.stop()
    envoy, gateway.binary = gateway.binary, gateway.root / "start"
    user = f"--reuid={USER.pw_uid} --regid={USER.pw_gid} --clear-groups"
    capability = "--inh-caps=+net_bind_service --ambient-caps=+net_bind_service"
    gateway.binary.write_text(f'#!/bin/sh\nexec setpriv {user} {capability} {envoy} "$@"\n')
    gateway.binary.chmod(0o755)
    gateway.start()
    gateway.serve(NATIVE)
    envoy.unlink()
    assert gateway.filter("users", **GOOD)["action"] == "published"
    assert gateway.filter("users", **native_users("no-password")).code == "refused_in_validation"
    assert gateway.get("foo:bar") == 200


@pytest.mark.parametrize("planted", ["filters", "state", "state/filters", "state/filters/users"])
def test_a_link_that_envoys_user_planted_leads_root_nowhere(gateway, treasure, planted):
    gateway.serve(NATIVE)
    gateway.filter("users", **GOOD)
    before = state_of(treasure)
    place = gateway.directory / planted
    shutil.move(place, gateway.root / "elsewhere")
    place.symlink_to(treasure)
    result = gateway.filter("users", **NEXT)
    assert result.failed
    assert result.code == "file_error"
    assert state_of(treasure) == before
    assert (treasure / "users.json").read_text() == "root's own"
    assert gateway.get("foo:bar") == 200


def test_the_roles_files_are_put_in_place_as_their_owner(tmp_path, treasure):
    """gateway_files makes the directories that Envoy's user owns; a link there is not followed."""
    root = pathlib.Path("/tmp") / f"moe-{tmp_path.name}-{os.getpid()}"
    root.mkdir(mode=0o711)
    try:
        options = {
            "directories": [{"path": str(root / "config")}],
            "files": [{"path": str(root / "config" / "bootstrap.json"), "content": "{}\n"}],
            "owner": USER.pw_name,
        }
        assert run_module("gateway_files", options)["changed"] is True
        file = root / "config" / "bootstrap.json"
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (USER.pw_uid, 0o600)
        assert run_module("gateway_files", options)["changed"] is False
        before = state_of(treasure)
        (root / "config" / "xds").symlink_to(treasure)
        inside = {"path": str(root / "config" / "xds" / "clusters.json"), "content": "{}\n"}
        assert run_module("gateway_files", {**options, "files": [inside]}).failed
        assert state_of(treasure) == before
    finally:
        shutil.rmtree(root)
