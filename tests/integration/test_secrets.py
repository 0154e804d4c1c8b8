# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Neither a password nor a bare hash of one is anywhere where it must not be.

The playbooks run with ``-vvv --diff`` and tracebacks, in success and in every failure, on each ansible-core that is
here. Then, and while they run, everything is searched that could hold a secret: output, logs, the system's log, what
callbacks and caches write, temporary files, the process table, Envoy's log and admin interface, and every file that
changed meanwhile. What is put in clear on purpose shows that the search finds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import typing as t

import pytest
from leaks import PAGES, Search, Watch
from plays import Play, Site, write_inventory
from real import NATIVE, REPOSITORY, TYPE, htpasswd

from ansible_collections.moe.gateway.plugins.module_utils._admin import Admin

NEWEST = REPOSITORY / "build" / "venv-newest" / "bin" / "python"
FOLDERS = ("home", "tmp", "local", "remote", "async", "facts", "junit", "tree", "retry", "python")


def word(middle: str = "") -> str:
    """A password that nothing else on this machine contains; with a middle, both of its ends are such words."""
    return middle.join("Qz" + secrets.token_hex(5) for _end in range(2 if middle else 1))


OLD, NEW, VAULTED, WRONG = word(), word("\"s\\ü né'w€"), word('{{ "%} '), word()
TWO_LINES = word("\n")
NUMBER = 10**9 + secrets.randbelow(10**9)
#: Not a hash of anything: nobody logs in with it.
HASH = "$2b$04$" + secrets.token_hex(27)[:53]
CLEAR = word()

SOUGHT = Search(
    {"OLD": OLD, "NEW": NEW, "VAULTED": VAULTED, "WRONG": WRONG, "TWO_LINES": TWO_LINES, "NUMBER": str(NUMBER)}
    | {"HASH": HASH, "HASH without its head": HASH[7:]}
)
ON_PURPOSE = Search({"CLEAR": CLEAR})


def guard(key: str = "password", secret: str = "foo_password", **options: t.Any) -> dict[str, t.Any]:
    """The example extension, with one user."""
    config = {"realm": "httpbin", "users": [{"username": "foo", key: f"${{secret.{secret}}}"}]}
    return {"name": "basic_auth", "engine": "dynamic_module", "extension": "basic_auth", "config": config, **options}


#: Envoy's own Basic Auth behind it, whose users are hashes.
USERS = {
    "name": "users",
    "engine": "native",
    "config": {"@type": TYPE + NATIVE["type"], "users": {"inline_string": "${secret.users}"}},
}


def known(password: str, **others: str) -> dict[str, str]:
    """The secrets of a gateway that lets foo in with this password."""
    lines = htpasswd("foo", password) + "\n" + htpasswd("bar", password)
    return {"foo_password": password, "users": lines, "other": HASH, **others}


class Place:
    """Where Ansible writes: folders of its own, so that all of it can be searched."""

    def __init__(self, root: pathlib.Path, search: Search) -> None:
        self.root = root
        root.mkdir(mode=0o700)
        folders = {name: root / name for name in FOLDERS}
        for folder in folders.values():
            folder.mkdir(mode=0o700)
        self.log = root / "log"
        self.syslog = root / "syslog"
        # Modules tell the system's log how they were called; here a file stands in for that.
        record = f"lambda *message: open({str(self.syslog)!r}, 'a').write(repr(message) + '\\n')"
        (folders["python"] / "sitecustomize.py").write_text(f"import syslog\nsyslog.syslog = {record}\n")
        self.watch = Watch(search, folders.values())
        self.environment = {
            "HOME": str(folders["home"]),
            "TMPDIR": str(folders["tmp"]),
            "PYTHONPATH": str(folders["python"]),
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(folders["local"]),
            "ANSIBLE_REMOTE_TMP": str(folders["remote"]),
            "ANSIBLE_ASYNC_DIR": str(folders["async"]),
            "ANSIBLE_LOG_PATH": str(self.log),
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(folders["facts"]),
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit,ansible.builtin.tree",
            "ANSIBLE_CALLBACK_TREE_DIR": str(folders["tree"]),
            "JUNIT_OUTPUT_DIR": str(folders["junit"]),
            "ANSIBLE_RETRY_FILES_ENABLED": "1",
            "ANSIBLE_RETRY_FILES_SAVE_PATH": str(folders["retry"]),
            "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1",
            "ANSIBLE_DISPLAY_TRACEBACK": "always",
        }


#: Seconds that a look may take before the one who probes gives up: on a busy machine it is long.
LOOKING = 60


class Upstream(http.server.ThreadingHTTPServer):
    """Answers probes, which is when a module has published and holds all its secrets: the moment for a look."""

    def __init__(self, look: t.Callable[[], None]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.look = look
        self.paths: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        self.server.look()
        self.server.paths.append(self.path)
        if self.path == "/kill":
            kill_doomed()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def kill_doomed() -> None:
    """End the module whose task says so in its environment, and not the shell that waits for it."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            doomed = b"\0MOE_DOOMED=" in b"\0" + (process / "environ").read_bytes()
            if doomed and "python" in (process / "exe").readlink().name:
                os.kill(int(process.name), signal.SIGKILL)


class Story:
    """Everything that an operator does or gets wrong, once, with what it left behind."""

    def __init__(self, site: Site, folder: pathlib.Path) -> None:
        self.site = site
        self.folder = folder
        self.since = time.time() - 1
        self.place = Place(folder / "told", SOUGHT)
        self.clear = Place(folder / "clear", ON_PURPOSE)
        self.admin: set[str] = set()
        self.clear_admin: set[str] = set()
        self.plays: dict[str, Play] = {}
        self.clear_play: Play | None = None
        self.upstream = Upstream(self.look)
        site.root.chmod(0o755)  # what is private below it is so by itself
        (filters,) = site.variables["envoy_filters_listeners"]
        filters["filters"] = ["basic_auth", "users"]
        site.variables["envoy_filters"] = [guard(), USERS]
        site.environment = self.place.environment

    def look(self) -> None:
        self.place.watch.look()
        self.admin |= self.ask(SOUGHT)

    def ask(self, search: Search) -> set[str]:
        """What Envoy's admin interface holds."""
        admin = Admin(str(self.site.root / "run" / "admin.sock"), 10)
        return {f"{what} in {page}" for page in PAGES for what in search.data(admin.get(f"/{page}"))}

    def play(self, title: str, book: str, *options: str, expect: bool = True, **variables: t.Any) -> Play:
        return self.note(
            title, self.site.play(f"playbooks/{book}.yml", "-vvv", "--diff", *options, **variables), expect
        )

    def tasks(self, title: str, tasks: list[dict[str, t.Any]], **variables: t.Any) -> Play:
        return self.note(title, self.site.tasks(tasks, "-vvv", "--diff", **variables), True)

    def note(self, title: str, done: Play, expect: bool) -> Play:
        assert (done.status == 0) is expect, f"{title}: {done.output[-3000:]}"
        self.plays[title] = done
        return done

    def mistakes(self, title: str, book: str, mistakes: dict[str, dict[str, t.Any]]) -> None:
        """One play, in which each host makes one mistake, since a play takes seconds.

        :param mistakes: what the error has to say → the variables.
        """
        inventory = self.site.root.with_suffix(".inventory")
        common = {**self.site.variables, "envoy_filters_secrets": known(WRONG)}
        hosts = {f"h{number}": {**common, **wrong} for number, wrong in enumerate(mistakes.values())}
        try:
            write_inventory(inventory, hosts)
            done = self.site.run("-i", str(inventory), "--forks", "3", "-vvv", "--diff", book)
        finally:
            shutil.rmtree(inventory)
        output = done.stdout + done.stderr
        self.plays[title] = Play(done.returncode, output, 0, 0)
        assert output.count("failed=1 ") == len(mistakes), output[-3000:]
        assert [text for text in mistakes if text not in output.replace('\\"', '"')] == []

    def module(self, title: str, code: str, task: dict[str, t.Any] | None = None, **options: t.Any) -> list[t.Any]:
        """A task of envoy_filter that fails with ``code``, or succeeds without one; what it registers is printed."""
        arguments = {
            **{key: guard()[key] for key in ("name", "engine", "config")},
            "extension": str(next((self.site.root / "extensions").glob("*.so"))),
            # Not the word itself, since Ansible shows the source of a task that fails.
            "secrets": "{{ envoy_filters_secrets }}",
            "directory": str(self.site.root / "config" / "xds"),
            "admin_socket": str(self.site.root / "run" / "admin.sock"),
            **options,
        }
        result = "result_" + title.replace(" ", "_")
        run = {"name": title, "moe.gateway.envoy_filter": arguments, "register": result, "ignore_errors": True}
        as_expected = f"{result}.failure.code == '{code}'" if code else f"{result} is succeeded"
        return [
            {**run, "vars": {"ansible_pipelining": True}, **(task or {})},
            {"ansible.builtin.debug": {"var": result}},
            {"ansible.builtin.assert": {"that": as_expected if code != "killed" else f"{result} is failed"}},
        ]


@pytest.fixture(scope="module", params=["2.19", "the newest"])
def story(
    request: pytest.FixtureRequest, basic_auth: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Story]:
    python = sys.executable if request.param == "2.19" else str(NEWEST)
    if not os.access(python, os.X_OK):
        pytest.skip("NOT RUN: secrets on the newest ansible-core (no Python 3.12 or newer is here)")
    site = Site(basic_auth, python)
    try:
        told = Story(site, tmp_path_factory.mktemp("secrets"))
        with told.upstream as upstream:
            thread = threading.Thread(target=upstream.serve_forever, args=(0.01,))
            thread.start()
            try:
                with told.place.watch:
                    tell(told)
            finally:
                upstream.shutdown()
                thread.join()
        yield told
    finally:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(site.pid(), signal.SIGCONT)
        site.remove()


def tell(story: Story) -> None:
    site, old, new = story.site, known(OLD), known(NEW)
    story.play("check before there is anything", "site", "--check", envoy_filters_secrets=old)
    story.play("first", "site", envoy_filters_secrets=old)
    assert story.play("second", "site", envoy_filters_secrets=old).changed == 0
    assert site.get(f"foo:{OLD}") == 200
    checked = story.play("check of a rotation", "rotate", "--check", envoy_filters_secrets=new)
    assert (checked.changed, site.get(f"foo:{OLD}")) == (1, 200)
    story.play("rotation", "rotate", envoy_filters_secrets=new)
    assert (site.get(f"foo:{OLD}"), site.get(f"foo:{NEW}")) == (401, 200)
    both = [{"name": name} for name in ("basic_auth", "users")]
    story.play("rollback, which needs no secret", "rollback", envoy_filters_rollback=both)
    assert (site.get(f"foo:{OLD}"), site.get(f"foo:{NEW}")) == (200, 401)
    pages = {name: str(story.place.root / f"status.{name}") for name in ("html", "json")}
    told = {f"envoy_status_{name}": path for name, path in pages.items()}
    story.play("status of what was rolled back", "status", expect=False, envoy_filters_secrets=new, **told)
    story.play("rotation again", "rotate", envoy_filters_secrets=new)
    in_clear(story)
    vaulted(story)
    site.environment = {**story.place.environment, "ANSIBLE_STDOUT_CALLBACK": "oneline"}
    hashed = [guard("password_hash", "other"), USERS]
    story.play("a hash as the secret", "rotate", envoy_filters=hashed, envoy_filters_secrets=new)
    site.environment = story.place.environment
    story.look()

    story.mistakes("bad variables", role_alone(story), BAD_VARIABLES)
    story.mistakes("bad secrets", "playbooks/rotate.yml", BAD_SECRETS)
    failures_of_the_module(story)
    story.look()
    os.kill(site.pid(), signal.SIGKILL)
    site.environment = {**story.place.environment, "ANSIBLE_STDOUT_CALLBACK": "minimal"}
    down = story.play("down", "rotate", expect=False, envoy_filters_secrets=new)
    site.environment = story.place.environment
    assert "envoy_down" in down.output


def vaulted(story: Story) -> None:
    """Secrets in a file that is encrypted as a whole: Ansible shows nothing of it, even when a value beside is wrong.

    A password that looks like a template is marked as none.
    """
    password, path = story.folder / "vault-password", story.folder / "vaulted.yml"
    password.write_text("vault\n")
    options = ["--vault-password-file", str(password)]
    for title, more in (("vaulted", {}), ("vaulted, and one that is not there", {"beside": "{{ nothing }}"})):
        values = {name: json.dumps(value, ensure_ascii=False) for name, value in {**known(VAULTED), **more}.items()}
        lines = [f"  {name}: {'' if name == 'beside' else '!unsafe '}{value}\n" for name, value in values.items()]
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text("envoy_filters_secrets:\n" + "".join(lines))
        command = [story.site.python, "-m", "ansible", "vault", "encrypt", *options, str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        story.play(title, "rotate", *options, "-e", f"@{path}", expect=not more)
        assert story.site.get(f"foo:{VAULTED}") == 200


def role_alone(story: Story) -> str:
    book = story.folder / "role.json"
    play = {"hosts": "gateways", "gather_facts": False, "roles": ["moe.gateway.envoy_filters"]}
    book.write_text(json.dumps([play]))
    return str(book)


#: What the error has to say → what causes it. Each host has the secret WRONG.
BAD_VARIABLES: dict[str, dict[str, t.Any]] = {
    "envoy_filters_keep": {"envoy_filters_keep": "many"},
    "envoy_filters_timeout": {"envoy_filters_timeout": ["5"]},
    "must be one of: dynamic_module, golang, native, got: rust": {"envoy_filters": [guard(engine="rust")]},
    "envoy_filters[0].extension: found nope": {"envoy_filters": [guard(extension="nope")]},
    "is of type dict and we were unable to convert to list": {"envoy_filters": guard()},
    "is of type str and we were unable to convert to dict": {"envoy_filters": ["${secret.foo_password}"]},
    "secrets: found a str, expected a mapping": {"envoy_filters_secrets": WRONG},
    "secrets: found a list, expected a mapping": {"envoy_filters_secrets": [WRONG, {"foo_password": WRONG}]},
    "secrets: found a int, expected a mapping": {"envoy_filters_secrets": NUMBER},
}

BAD_SECRETS: dict[str, dict[str, t.Any]] = {
    "users[0].pasword: unknown key": {"envoy_filters": [guard("pasword")]},
    "reference to the secret 'no_password'": {"envoy_filters": [guard(secret="no_password")]},
    "users[0].password_hash: must be a bcrypt hash": {"envoy_filters": [guard("password_hash")]},
    "users[0].password: must not contain control": {"envoy_filters_secrets": known(WRONG, foo_password=TWO_LINES)},
    "foo_password: found a value of type list": {"envoy_filters_secrets": {"foo_password": [WRONG]}},
    "foo_password: found a value of type int": {"envoy_filters_secrets": {"foo_password": NUMBER}},
    "foo_password: found an empty string": {"envoy_filters_secrets": {"foo_password": "", "other": WRONG}},
    "foo_password: found a value of type NoneType": {"envoy_filters_secrets": {"foo_password": None, "other": WRONG}},
    "a name that is not a word": {"envoy_filters_secrets": {"foo-password": WRONG}},
    # As a module's option, Ansible would make a mapping of this.
    "secrets: found a str": {"envoy_filters_secrets": f"foo_password={WRONG} users={NUMBER}"},
    "invalid htpasswd format": {"envoy_filters": [USERS], "envoy_filters_secrets": {"users": f"foo{TWO_LINES}"}},
    # Reasons that quote what they refuse.
    "max_active_faults": {
        "envoy_filters": [
            {
                "name": "basic_auth",
                "engine": "native",
                "config": {
                    "@type": TYPE + "envoy.extensions.filters.http.fault.v3.HTTPFault",
                    "max_active_faults": "${secret.foo_password}",
                },
            }
        ],
        "envoy_filters_secrets": known(NEW),
    },
    "script load error": {
        "envoy_filters": [
            {
                "name": "users",
                "engine": "native",
                "config": {
                    "@type": TYPE + "envoy.extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": "x = ${secret.foo_password}"},
                },
            }
        ],
        "envoy_filters_secrets": known(TWO_LINES),
    },
}


def failures_of_the_module(story: Story) -> None:
    """Successes, then failures. What a task registers is printed, since ansible-core 2.22 keeps real secrets in it."""
    site, url = story.site, story.upstream.url
    blind = site.root / "blind"
    blind.write_text("#!/bin/sh\necho configuration OK\n")
    blind.chmod(0o755)
    locked = site.root / "config" / "locked"
    (locked / "state").mkdir(mode=0o700, parents=True)
    live = site.root / "config" / "xds" / "filters" / "basic_auth.json"
    shell = "ansible.builtin.shell"
    probe = {"url": f"http://127.0.0.1:{site.port}/", "basic_auth": "foo:${secret.foo_password}"}
    tasks = [
        *story.module("publish", "", config=realm("published")),
        *story.module("nothing to do", "", config=realm("published")),
        *story.module("only check", "", {"check_mode": True}, config=realm("checked")),
        *story.module("seen while it probes", "", config=realm("seen"), probe=[{"url": url("/look")}],
                      timeout=LOOKING),
        *story.module("refused by Envoy", "refused_by_envoy", config=guard("password_hash")["config"],
                      envoy_binary=str(blind)),
        *story.module("a probe that fails", "probe_failed", config=realm("x"), probe=[{**probe, "status": 418}]),
        *story.module("a probe without an answer", "probe_failed", config=realm("x"),
                      probe=[{**probe, "url": "http://127.0.0.1:1/"}]),
        *story.module("a header of two lines", "invalid_option",
                      probe=[{**probe, "basic_auth": None, "headers": {"x": "${secret.foo_password}\n"}}]),
        *story.module("a type that is a secret", "invalid_option", engine="native", extension=None,
                      config={"@type": "${secret.foo_password}"}),
        *story.module("no Envoy there", "envoy_down", admin_socket="/nonexistent.sock"),
        *story.module("no directory there", "invalid_option", directory="/nonexistent"),
        *story.module("locked", "locked", directory=str(locked), timeout=0.1),
        # The last step fails, when all that is secret has been written.
        {shell: f"mv {live} {live}.aside && mkdir {live}"},
        *story.module("a file error", "file_error", config=realm("x")),
        {shell: f"rmdir {live} && mv {live}.aside {live}"},
        *story.module("killed", "killed", {"environment": {"MOE_DOOMED": "1"}}, config=realm("killed"),
                      probe=[{"url": url("/kill")}], timeout=LOOKING),
        *story.module("after the kill", "", config=realm("killed")),
        {shell: f"kill -STOP {site.pid()}"},
        *story.module("hung", "envoy_hung", timeout=0.2),
        {shell: f"kill -CONT {site.pid()}"},
    ]  # fmt: skip
    with open_folder(locked / "state") as state:
        fcntl.flock(state, fcntl.LOCK_EX)
        story.tasks("failures of the module", tasks, envoy_filters_secrets=known(WRONG))
    assert story.upstream.paths[-2:] == ["/look", "/kill"]
    shutil.rmtree(locked)


def realm(name: str) -> dict[str, t.Any]:
    return {**guard()["config"], "realm": name}


@contextlib.contextmanager
def open_folder(path: pathlib.Path) -> t.Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def in_clear(story: Story) -> None:
    """Another secret, in every place where the search has to find one. None of it is done by our playbooks."""
    site = story.site
    clear = realm("httpbin")
    clear["users"] = [{"username": "foo", "password": CLEAR}]
    secret = "{{ envoy_filters_secrets.foo_password }}"
    tasks = [
        {"ansible.builtin.set_fact": {"a_fact": secret, "cacheable": True}},
        {"ansible.builtin.shell": {"cmd": "sleep 0.5; :", "stdin": secret}, "environment": {"A_SECRET": secret}},
        {"ansible.builtin.command": {"argv": ["sh", "-c", "sleep 0.5; :", secret]}},
        *story.module("written in clear", "", config=clear),
        # Without pipelining, the module and its options are a file.
        *story.module("a file", "", {"vars": {"ansible_pipelining": False}}, config=realm("file"),
                      probe=[{"url": story.upstream.url("/clear")}], timeout=LOOKING),
        {"ansible.builtin.debug": {"var": "envoy_filters_secrets"}},
    ]  # fmt: skip
    variables = known(CLEAR, other=CLEAR)
    site.environment = story.clear.environment
    try:
        with story.clear.watch:
            story.clear_play = site.tasks(tasks[:-4], "-vvv", "--diff", envoy_filters_secrets=variables)
            story.clear_admin = story.ask(ON_PURPOSE)
            filed = site.tasks(tasks[-4:], envoy_filters_secrets=variables)
    finally:
        site.environment = story.place.environment
    assert (story.clear_play.status, filed.status) == (0, 0), story.clear_play.output[-3000:] + filed.output[-3000:]


def test_output_and_results(story: Story) -> None:
    found = {title: SOUGHT.data(play.output.encode()) for title, play in story.plays.items()}
    assert found == {title: set() for title in story.plays}


def test_while_they_ran(story: Story) -> None:
    """The process table, temporary files, and all that Ansible writes, in one look after the other."""
    assert story.place.watch.looks > 50
    assert story.place.watch.found == {}


def test_what_ansible_left(story: Story) -> None:
    assert SOUGHT.files(story.place.root) == {}
    assert story.place.log.stat().st_size > 500_000
    assert "secrets=NOT_LOGGING_PARAMETER" in story.place.syslog.read_text()
    assert all(any((story.place.root / name).iterdir()) for name in ("tree", "junit"))
    # The code of the module that was killed, without its options, is all that is left.
    (left,) = (story.place.root / "tmp").iterdir()
    assert left.name.startswith("ansible_moe.gateway.envoy_filter_payload_")


def test_admin_interface_of_envoy(story: Story) -> None:
    assert story.admin == set()


def test_files_of_the_gateway(story: Story) -> None:
    """They are in files of Envoy's user alone, in the gateway's directory, and in no log."""
    directory = story.site.root / "config" / "xds"
    holders = SOUGHT.files(story.site.root)
    assert directory / "filters" / "basic_auth.json" in holders, "the search finds what is there"
    for path in holders:
        assert path.is_relative_to(directory), path
        assert path.stat().st_mode & 0o777 == 0o600, path
    for folder in (directory.parent, directory, directory / "filters", directory / "state"):
        assert folder.stat().st_mode & 0o777 == 0o700, folder


def test_no_other_file_that_changed_meanwhile(story: Story) -> None:
    """Wherever processes may write. Other folders of the test are searched by the tests above."""
    places = ["/tmp", "/var/tmp", "/var/log", "/run", "/dev/shm", os.path.expanduser("~/.ansible")]
    found = SOUGHT.files(REPOSITORY / ".ansible", *map(pathlib.Path, places), since=story.since)
    assert [path for path in found if not path.is_relative_to(story.site.root)] == []


def test_a_password_in_clear_is_warned_of(story: Story) -> None:
    assert story.clear_play is not None
    assert "config.users[0].password looks like a secret written in clear" in story.clear_play.output


def test_the_search_finds_what_is_in_clear(story: Story) -> None:
    assert story.clear_play is not None
    assert ON_PURPOSE.data(story.clear_play.output.encode()) >= {"plain of CLEAR"}
    assert {what.partition("?")[0] for what in story.clear_admin} == {"plain of CLEAR in config_dump"}
    left = ON_PURPOSE.files(story.clear.root)
    assert left.keys() >= {story.clear.log, story.clear.syslog}
    assert {path.parent.name for path in left} >= {"facts", "tree", "junit"}
    seen = story.clear.watch.found
    assert seen.keys() >= {"the cmdline of a process", "the environ of a process"}
    assert [path for path in seen if path.startswith(str(story.clear.root / "remote"))] != []
