# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Envoy comes from: a file or a URL. What is not what was meant never reaches its place."""

from __future__ import annotations

import functools
import hashlib
import http.server
import pathlib
import threading
import typing as t

import pytest
from plays import Site
from real import envoy_binary


class Quiet(http.server.SimpleHTTPRequestHandler):
    requests: t.ClassVar[list[str]] = []

    def log_request(self, *_arguments: object) -> None:
        self.requests.append(self.path)


@pytest.fixture
def site(basic_auth: pathlib.Path) -> t.Iterator[Site]:
    found = Site(basic_auth)
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture
def web(tmp_path: pathlib.Path) -> t.Iterator[str]:
    """A web server with an Envoy."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "envoy").symlink_to(envoy_binary())
    Quiet.requests.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/envoy"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_download(site: Site, web: str, tmp_path: pathlib.Path) -> None:
    digest = hashlib.sha256(envoy_binary().read_bytes()).hexdigest()
    options = {"envoy_install_method": "url", "envoy_install_url": {"x86_64": web}}
    cache = str(tmp_path / "cache")
    refused = site.site(**options, envoy_cache_dir=cache, envoy_install_sha256={"x86_64": "0" * 64})
    assert refused.status == 2
    assert f"expected: {'0' * 64}" in refused.output or "did not match" in refused.output, refused.output
    assert list((tmp_path / "cache").iterdir()) == []
    assert not (site.root / "envoy").exists()
    before = len(Quiet.requests)
    done = site.site(**options, envoy_cache_dir=cache, envoy_install_sha256={"x86_64": digest})
    assert done.status == 0, done.output
    assert (site.get(), site.get("foo:bar")) == (401, 200)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"envoy-{digest}"]
    assert [path.name for path in (site.root / "envoy").iterdir()] == ["envoy-1.40.0"]
    # What the controller has is not fetched again, for another host or at another time.
    assert len(Quiet.requests) == before + 1
    (site.root / "envoy" / "envoy-1.40.0").unlink()
    again = site.site(**options, envoy_cache_dir=cache, envoy_install_sha256={"x86_64": digest})
    assert again.status == 0, again.output
    assert len(Quiet.requests) == before + 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("another machine", "envoy_install_file: found a program for aarch64 at "),
        ("no program", "envoy_install_file: found a program for none at "),
        ("another version", "expected Envoy 1.39.3 (envoy_version)."),
    ],
)
def test_a_file_that_is_not_what_was_meant(site: Site, tmp_path: pathlib.Path, damage: str, message: str) -> None:
    variables = {}
    file = tmp_path / "envoy"
    if damage == "another machine":
        head = bytearray(envoy_binary().read_bytes()[:4096])
        head[18:20] = b"\xb7\0"
        file.write_bytes(head)
    elif damage == "no program":
        file.write_text("#!/bin/sh\n")
    else:
        file = envoy_binary()
        variables["envoy_version"] = "1.39.3"
    refused = site.site(envoy_install_file=str(file), **variables)
    assert refused.status == 2
    assert message in " ".join(refused.output.replace("\\n", " ").split()), refused.output
    # A version is only told by a program that runs on the host.
    assert [path.name for path in site.root.rglob("*")] == (["envoy"] if damage == "another version" else [])
