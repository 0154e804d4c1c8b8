# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bootstrap that the role envoy makes for the config source static."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import subprocess
import sys
import typing as t

import pytest

FILE = pathlib.Path(__file__).resolve().parents[4] / "roles" / "envoy" / "files" / "static.py"
DISCOVERY = {"config_source": {"path_config_source": {"path": "/xds/filters/auth.json"}}, "type_urls": ["x"]}
FOREIGN = {"config_source": {"path_config_source": {"path": "/etc/other.json"}}}


def load() -> t.Any:
    spec = importlib.util.spec_from_file_location("static", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compose = load().compose


def chain(*filters: dict[str, t.Any]) -> dict[str, t.Any]:
    manager = {"http_filters": [*filters, {"name": "router", "typed_config": {"@type": "router"}}]}
    return {"name": "ingress", "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}


DOCUMENTS = {
    "/xds/clusters.json": {"version_info": "c-1", "resources": [{"@type": "Cluster", "name": "httpbin"}]},
    "/xds/listeners.json": {
        "version_info": "l-2",
        "resources": [
            {"@type": "Listener", **chain({"name": "auth", "config_discovery": DISCOVERY, "disabled": True})}
        ],
    },
    "/xds/filters/auth.json": {
        "version_info": "f-3",
        "resources": [{"@type": "Extension", "name": "auth", "typed_config": {"@type": "Auth", "users": "secret"}}],
    },
}


def composed(base: dict[str, t.Any], **changes: t.Any) -> dict[str, t.Any]:
    return compose(base, "/xds", {**DOCUMENTS, **changes}.__getitem__)


def test_clusters_listeners_and_filters_are_in_it() -> None:
    found = composed({"node": {"id": "gateway1"}, "admin": {"address": {}}})
    assert found == {
        "node": {
            "id": "gateway1",
            "metadata": {
                "moe.gateway": {
                    "directory": "/xds",
                    "versions": {"clusters": "c-1", "listeners": "l-2", "filter auth": "f-3"},
                }
            },
        },
        "admin": {"address": {}},
        "static_resources": {
            "clusters": [{"name": "httpbin"}],
            "listeners": [
                chain({"name": "auth", "disabled": True, "typed_config": {"@type": "Auth", "users": "secret"}})
            ],
        },
    }


def test_what_the_base_has_stays() -> None:
    static = {"clusters": [{"name": "own"}], "listeners": [{"name": "own"}], "secrets": [{"name": "tls"}]}
    found = composed({"node": {"metadata": {"zone": "a"}}, "static_resources": static})
    assert [item["name"] for item in found["static_resources"]["clusters"]] == ["own", "httpbin"]
    assert [item["name"] for item in found["static_resources"]["listeners"]] == ["own", "ingress"]
    assert found["static_resources"]["secrets"] == [{"name": "tls"}]
    assert found["node"]["metadata"]["zone"] == "a"


def test_somebody_elses_filter_stays_as_it_is() -> None:
    listener = chain({"name": "other", "config_discovery": FOREIGN})
    found = composed({}, **{"/xds/listeners.json": {"version_info": "l-2", "resources": [listener]}})
    assert found["static_resources"]["listeners"] == [listener]
    assert "filter other" not in found["node"]["metadata"]["moe.gateway"]["versions"]


def test_before_anything_was_published() -> None:
    nothing: dict[str, t.Any] = {"resources": []}
    found = composed({}, **{"/xds/clusters.json": nothing, "/xds/listeners.json": nothing})
    assert found["static_resources"] == {"clusters": [], "listeners": []}
    assert found["node"]["metadata"]["moe.gateway"]["versions"] == {"clusters": "", "listeners": ""}


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"version_info": "f-3", "resources": []}, "ValueError"),
        ({"version_info": "f-3", "resources": [{"name": "secret"}]}, "KeyError"),
        ("{", "filters/auth.json: found something else than JSON"),
        (None, "filters/auth.json: No such file or directory"),
    ],
)
def test_it_says_what_is_wrong_and_never_what_is_in_there(tmp_path: pathlib.Path, document: t.Any, error: str) -> None:
    (tmp_path / "filters").mkdir()
    for path, content in DOCUMENTS.items():
        text = json.dumps(content).replace("/xds/", f"{tmp_path}/")
        (tmp_path / path[len("/xds/") :]).write_text(text)
    live = tmp_path / "filters" / "auth.json"
    if document is None:
        live.unlink()
    else:
        live.write_text(document if isinstance(document, str) else json.dumps(document))
    (tmp_path / "base.json").write_text("{}")
    command = [sys.executable, str(FILE), str(tmp_path / "base.json"), str(tmp_path), str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert error in done.stderr
    assert "secret" not in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_it_is_private_and_whole(tmp_path: pathlib.Path) -> None:
    for name in ("clusters", "listeners"):
        (tmp_path / f"{name}.json").write_text('{"resources": []}')
    (tmp_path / "base.json").write_text("{}")
    out = tmp_path / "out.json"
    out.write_text("before")
    out.chmod(0o644)
    command = [sys.executable, str(FILE), str(tmp_path / "base.json"), str(tmp_path), str(out)]
    subprocess.run(command, check=True)
    assert json.loads(out.read_text())["static_resources"] == {"clusters": [], "listeners": []}
    assert out.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "base.json",
        "clusters.json",
        "listeners.json",
        "out.json",
    ]
