# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Neither a password nor a bare hash of one is anywhere where it must not be.

The playbooks run with ``-vvv --diff``, in success and in every failure, on each ansible-core that is here. Then, and
while they run, everything is searched that somebody else could read: output, logs, what callbacks and caches write,
temporary files, the process table, Envoy's admin interface, and every file below the gateway.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import signal
import sys
import threading
import typing as t
import urllib.parse

import pytest
from plays import Play, Site
from real import REPOSITORY

from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin

NEWEST = REPOSITORY / "build" / "venv-newest" / "bin" / "python"

#: Passwords as people choose them, each of which no other text here contains.
OLD = "Zq7xVoldKp"
NEW = "Wn4\"s\\ü né'w"
WRONG = "Lm3wrongQa"
NUMBER = "7391846250"
HASH = "$2b$04$XHKkTyWmhqhVyNAXRqdpIe7AaQPVDvSLRWWAE7p5PrYJaGnhbaPVe"


def forms(password: str) -> dict[bytes, str]:
    """What would give the password away, or let somebody try guesses: bytes → what they are."""
    plain, text = password.encode(), password
    found = {"plain": plain, "Base64": base64.b64encode(plain)}
    found["Basic credential"] = base64.b64encode(b"foo:" + plain)
    for times in ("JSON", "JSON in JSON"):
        found[f"{times}, UTF-8"] = json.dumps(text, ensure_ascii=False)[1:-1].encode()
        text = json.dumps(text)[1:-1]
        found[times] = text.encode()
    found["in a URL"] = urllib.parse.quote(password).encode()
    found["as Python writes it"] = repr(password)[1:-1].encode()
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, plain)
        found[name] = digest.hexdigest().encode()
        found[f"{name}, Base64"] = base64.b64encode(digest.digest())
    # Many are the same for a plain word; the first name is the one to tell.
    return {form: name for name, form in reversed(found.items())}


SOUGHT = {form: f"{name} of {word}" for word in (OLD, NEW, WRONG, NUMBER) for form, name in forms(word).items()}
SOUGHT |= {HASH.encode(): "the bcrypt hash", HASH[7:].encode(): "the bcrypt hash, in part"}


def leaks(data: bytes) -> set[str]:
    return {name for form, name in SOUGHT.items() if form in data}


class Watch(threading.Thread):
    """Looks through the process table and temporary folders again and again while playbooks run."""

    def __init__(self, folders: list[pathlib.Path]) -> None:
        super().__init__(daemon=True)
        self.folders = folders
        self.stopping = threading.Event()
        self.found: set[str] = set()
        self.looks = 0

    def run(self) -> None:
        while not self.stopping.wait(0.02):
            self.look()

    def look(self) -> None:
        self.looks += 1
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            for part in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    self.found |= {
                        f"{name} in the {part} of a process" for name in leaks((process / part).read_bytes())
                    }
        for folder in self.folders:
            self.found |= {f"{name} in {path}" for path, name in in_files(folder)}


def in_files(folder: pathlib.Path) -> t.Iterator[tuple[pathlib.Path, str]]:
    for parent, _folders, files in os.walk(folder):
        for file in files:
            path = pathlib.Path(parent, file)
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_size < 20_000_000:
                    yield from ((path, name) for name in leaks(path.read_bytes()))


class Story:
    """Everything that an operator does or gets wrong, once, with what it left behind."""

    def __init__(self, site: Site, around: pathlib.Path) -> None:
        self.site = site
        self.around = around
        self.plays: dict[str, Play] = {}
        self.admin = Admin(str(site.root / "run" / "admin.sock"), 5)
        places = {name: around / name for name in ("home", "tmp", "local", "remote", "facts", "junit", "tree")}
        for place in places.values():
            place.mkdir(mode=0o700)
        site.environment = {
            "HOME": str(places["home"]),
            "TMPDIR": str(places["tmp"]),
            "ANSIBLE_LOCAL_TEMP": str(places["local"]),
            "ANSIBLE_REMOTE_TMP": str(places["remote"]),
            "ANSIBLE_LOG_PATH": str(around / "log"),
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(places["facts"]),
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit,ansible.builtin.tree",
            "ANSIBLE_CALLBACK_TREE_DIR": str(places["tree"]),
            "JUNIT_OUTPUT_DIR": str(places["junit"]),
            "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1",
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        }
        self.watch = Watch(list(places.values()))

    def play(self, title: str, book: str, *options: str, expect: bool, **variables: t.Any) -> None:
        done = self.site.play(f"playbooks/{book}.yml", "-vvv", "--diff", *options, **variables)
        assert (done.status == 0) is expect, f"{title}: {done.output[-3000:]}"
        self.plays[title] = done

    def module(self, title: str, code: str, **options: t.Any) -> list[dict[str, t.Any]]:
        """A task of envoy_filter that fails with ``code``, and one that prints what it registered."""
        arguments = {
            "name": "basic_auth",
            "engine": "dynamic_module",
            "extension": str(next((self.site.root / "extensions").glob("*.so"))),
            "config": configured("password")["config"],
            # Not the word itself, since Ansible shows the source of a task that fails.
            "secrets": "{{ envoy_filters_secrets }}",
            "directory": str(self.site.root / "config" / "xds"),
            "admin_socket": str(self.site.root / "run" / "admin.sock"),
            **options,
        }
        result = "result_" + title.replace(" ", "_")
        return [
            {
                "name": title,
                "moe.gateway.envoy_filter": arguments,
                "register": result,
                "ignore_errors": True,
                "vars": {"ansible_pipelining": True},
            },
            {"ansible.builtin.debug": {"var": result}},
            {"ansible.builtin.assert": {"that": f"{result}.failure.code | default('') == '{code}'"}},
        ]


def configured(key: str, secret: str = "foo_password", **options: t.Any) -> dict[str, t.Any]:
    """The filter of the inventory, with one user."""
    config = {"realm": "httpbin", "users": [{"username": "foo", key: f"${{secret.{secret}}}"}]}
    return {"name": "basic_auth", "engine": "dynamic_module", "extension": "basic_auth", "config": config, **options}


@pytest.fixture(scope="module", params=["2.19", "the newest"])
def story(
    request: pytest.FixtureRequest, basic_auth: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Story]:
    python = sys.executable if request.param == "2.19" else str(NEWEST)
    if not os.access(python, os.X_OK):
        pytest.skip("NOT RUN: secrets on the newest ansible-core (no Python 3.12 or newer is here)")
    site = Site(basic_auth, python)
    told = Story(site, tmp_path_factory.mktemp("around"))
    told.watch.start()
    try:
        tell(told)
        yield told
    finally:
        told.watch.stopping.set()
        told.watch.join()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(site.pid(), signal.SIGCONT)
        site.remove()


def tell(story: Story) -> None:
    site = story.site
    old, new = {"foo_password": OLD, "other": HASH}, {"foo_password": NEW, "other": HASH}
    story.play("check before there is anything", "site", "--check", expect=True, envoy_filters_secrets=old)
    story.play("first", "site", expect=True, envoy_filters_secrets=old)
    story.play("second", "site", expect=True, envoy_filters_secrets=old)
    assert (story.plays["second"].changed, site.get(f"foo:{OLD}")) == (0, 200)
    story.play("check of a rotation", "rotate", "--check", expect=True, envoy_filters_secrets=new)
    story.play("rotation", "rotate", expect=True, envoy_filters_secrets=new)
    assert (site.get(f"foo:{OLD}"), site.get(f"foo:{NEW}")) == (401, 200)
    hashed = [configured("password_hash", "other")]
    story.play("a hash as the secret", "rotate", expect=True, envoy_filters_secrets=new, envoy_filters=hashed)

    mistakes: dict[str, dict[str, t.Any]] = {
        "a key that the extension does not know": {"envoy_filters": [configured("pasword")]},
        "a secret that is not there": {"envoy_filters": [configured("password", "no_password")]},
        "a secret that is a list": {"envoy_filters_secrets": {"foo_password": [WRONG]}},
        "a secret that is a number": {"envoy_filters_secrets": {"foo_password": int(NUMBER)}},
        "secrets that are a text": {"envoy_filters_secrets": WRONG},
        "secrets that are a list": {"envoy_filters_secrets": [WRONG, {"foo_password": WRONG}]},
        "filters that are a mapping": {"envoy_filters": configured("password")},
        "an engine that is not there": {"envoy_filters": [configured("password", engine="rust")]},
        "a hash that is none": {"envoy_filters": [configured("password_hash")]},
        "a secret where Envoy wants a number": {
            "envoy_filters": [
                {
                    "name": "basic_auth",
                    "engine": "native",
                    "config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                        "max_active_faults": "${secret.foo_password}",
                    },
                }
            ]
        },
    }
    for title, variables in mistakes.items():
        book = "rotate" if "engine" not in title and "filters" not in title and "secrets that" not in title else "site"
        story.play(title, book, expect=False, **{"envoy_filters_secrets": {"foo_password": WRONG}, **variables})

    blind = site.root / "blind"
    blind.write_text("#!/bin/sh\necho configuration OK\n")
    blind.chmod(0o755)
    refused = configured("password_hash")["config"]
    probe = [{"url": f"http://127.0.0.1:{site.port}/", "basic_auth": "foo:${secret.foo_password}", "status": 418}]
    line = [{"url": f"http://127.0.0.1:{site.port}/", "headers": {"x": "${secret.foo_password}\n"}}]
    tasks = [
        *story.module("refused by Envoy", "refused_by_envoy", config=refused, envoy_binary=str(blind)),
        *story.module("a probe that fails", "probe_failed", probe=probe),
        *story.module("a header of two lines", "invalid_option", probe=line),
        *story.module("a type that is a secret", "invalid_option", engine="native", extension=None,
                      config={"@type": "${secret.foo_password}"}),
        *story.module("no Envoy there", "envoy_down", admin_socket="/nonexistent.sock"),
        *story.module("no directory there", "invalid_option", directory="/nonexistent"),
    ]  # fmt: skip
    done = site.tasks(tasks, "-vvv", "--diff", envoy_filters_secrets={"foo_password": WRONG})
    assert done.status == 0, done.output[-3000:]
    story.plays["failures of the module"] = done

    state = os.open(site.root / "config" / "xds" / "state", os.O_RDONLY)
    fcntl.flock(state, fcntl.LOCK_EX)
    last = {"envoy_filters_secrets": {"foo_password": WRONG}, "envoy_filters_timeout": 1}
    story.play("locked", "rotate", expect=False, **last)
    os.close(state)
    for page in ("config_dump", "stats", "server_info", "listeners?format=json", "clusters", "runtime", "certs"):
        assert leaks(story.admin.get(f"/{page}")) == set(), page
    os.kill(site.pid(), signal.SIGSTOP)
    story.play("hung", "rotate", expect=False, **last)
    os.kill(site.pid(), signal.SIGCONT)
    os.kill(site.pid(), signal.SIGKILL)
    story.play("down", "rotate", expect=False, **last)


def test_output_and_results(story: Story) -> None:
    found = {title: leaks(play.output.encode()) for title, play in story.plays.items()}
    assert found == {title: set() for title in story.plays}
    assert "refused_by_envoy" in story.plays["failures of the module"].output


def test_logs_callbacks_caches_and_temporary_files(story: Story) -> None:
    """All that Ansible wrote, during the runs and after."""
    assert story.watch.looks > 20
    assert story.watch.found == set()
    assert list(in_files(story.around)) == []
    assert (story.around / "log").stat().st_size > 100_000, "there was something to search"
    assert any((story.around / "tree").iterdir())


def test_files_of_the_gateway(story: Story) -> None:
    """They are in files of Envoy's user alone, in the gateway's directory, and in no log."""
    holders = {path for path, _name in in_files(story.site.root)}
    inside = story.site.root / "config" / "xds" / "filters"
    assert inside / "basic_auth.json" in holders, "the search finds what is there"
    for path in holders:
        assert path.stat().st_mode & 0o777 == 0o600, path
        assert path.is_relative_to(story.site.root / "config" / "xds"), path


def test_a_password_in_clear_is_warned_of(story: Story) -> None:
    clear = configured("password")
    clear["config"]["users"][0]["password"] = "in-clear"
    done = story.site.play("playbooks/rotate.yml", envoy_filters=[clear])
    assert "config.users[0].password looks like a secret written in clear" in done.output


def test_the_search_finds_what_is_there(story: Story) -> None:
    """Whoever prints a secret on purpose sees it in output, log and callbacks."""
    secrets = {"foo_password": WRONG, "other": NEW}
    done = story.site.tasks(
        [{"ansible.builtin.debug": {"var": "envoy_filters_secrets"}}], envoy_filters_secrets=secrets
    )
    assert leaks(done.output.encode()) >= {f"plain of {WRONG}", f"JSON, UTF-8 of {NEW}"}
    assert {path.name for path, _name in in_files(story.around)} >= {"log", "local"}
