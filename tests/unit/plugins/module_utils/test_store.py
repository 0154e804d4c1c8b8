# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a gateway: what is believed of what is found, and what a fault at any step leaves behind."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import stat

import pytest

from ansible_collections.moe.gateway.plugins.module_utils import _publish
from ansible_collections.moe.gateway.plugins.module_utils._decision import Confirmed, Disk, Process
from ansible_collections.moe.gateway.plugins.module_utils._engines import DENY, TYPE_PREFIX
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._files import Files
from ansible_collections.moe.gateway.plugins.module_utils._kinds import CLUSTERS, LISTENERS, filter_kind
from ansible_collections.moe.gateway.plugins.module_utils._revision import Version
from ansible_collections.moe.gateway.plugins.module_utils._store import Record, Shelf, Store

BASIC_AUTH = TYPE_PREFIX + "envoy.extensions.filters.http.basic_auth.v3.BasicAuth"
PROCESS = Process(100, 5000)
#: More than Python's parser follows
NESTED = b"[" * 200_000


def repr_cut(data):
    return repr(data[:10])


def content(users="foo"):
    return {"@type": BASIC_AUTH, "users": {"inline_string": users}}


def record(version, view=None, rejected=0):
    return Record(Confirmed(version, PROCESS, rejected, 0), view or {}, "2030-01-31T12:00:00Z")


class Faulty(Files):
    """Raises at its ``fail_at``-th step, or never; notes the steps."""

    def __init__(self, error=None, fail_at=-1):
        super().__init__(os.getuid(), os.getgid())
        self.error = error
        self.fail_at = fail_at
        self.steps = []

    def step(self, what):
        self.steps.append(what)
        if len(self.steps) == self.fail_at:
            raise self.error


class Killed(BaseException):
    """Nothing catches it, so whatever comes after doesn't happen."""


def a_gateway(path, files=None):
    """A store below ``path``, its state made; the key is the same for all that open it."""
    path.mkdir(mode=0o700, exist_ok=True)
    store = Store(str(path), files or Files(os.getuid(), os.getgid()))
    (path / "state").mkdir(mode=0o700, exist_ok=True)
    return store


def a_shelf(path, files=None, kind=None, key=b"k" * 32):
    return Shelf(a_gateway(path, files), kind or filter_kind("users"), key)


def published(shelf, what, confirm=True, keep=5):
    """Publish the way that a transaction does; its version."""
    last = shelf.record()
    version = Version(shelf.digest(what), shelf.next_generation(last))
    publish = _publish.publish(shelf, what, shelf.last_good(last), version)
    if confirm:
        publish.accept(record(version), keep)
    return version


def files_below(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def staged(path):
    return [name for name in files_below(path) if "staged" in name]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """No test here takes the power away, and real syncs would be most of its time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def shelf(tmp_path):
    return a_shelf(tmp_path / "xds")


# What stands there


def test_a_publish_writes_what_envoy_reads(shelf):
    version = Version(shelf.digest(content()), 1)
    _publish.publish(shelf, content(), shelf.kind.fallback, version)
    with open(shelf.live, "rb") as file:
        assert json.load(file) == shelf.kind.document(content(), version)
    assert shelf.disk() == Disk(version)
    assert shelf.content() == content()


def test_everything_is_private(shelf):
    """Whatever umask the process has."""
    before = os.umask(0)
    try:
        published(shelf, content("one"))
        published(shelf, content("two"))
    finally:
        os.umask(before)
    for folder, folders, names in os.walk(shelf.store.directory):
        for name in [*folders, *names]:
            path = os.path.join(folder, name)
            expected = 0o700 if os.path.isdir(path) else 0o600
            assert stat.S_IMODE(os.stat(path).st_mode) == expected, path


def test_nothing_is_left_staged_after_a_publish(shelf, tmp_path):
    published(shelf, content("one"))
    published(shelf, content("two"))
    assert staged(tmp_path) == []


def test_what_stands_in_is_told_from_a_revision(shelf):
    assert _publish.install(shelf)
    assert shelf.disk().initial
    assert shelf.content() == DENY
    published(shelf, content())
    assert not shelf.disk().initial


def spoil(change):
    """A change of the published document, as somebody else would write it."""

    def apply(shelf):
        with open(shelf.live, encoding="utf-8") as file:
            document = json.load(file)
        change(document)
        with open(shelf.live, "w", encoding="utf-8") as file:
            json.dump(document, file)

    return apply


def write(data):
    def apply(shelf):
        with open(shelf.live, "wb") as file:
            file.write(data)

    return apply


def replace_by(make):
    def apply(shelf):
        os.unlink(shelf.live)
        make(shelf)

    return apply


def typed(document):
    return document["resources"][0]["typed_config"]


CHANGED = "had been changed by somebody else: "
SHAPE = CHANGED + "it does not have the shape that this collection writes"
FOUND = [
    ("deleted", lambda shelf: os.unlink(shelf.live), "was missing"),
    ("empty", write(b""), CHANGED + "its 0 bytes are not JSON"),
    ("truncated", lambda shelf: os.truncate(shelf.live, 20), CHANGED + "its 20 bytes are not JSON"),
    ("not UTF-8", write(b"\xff\xfe{}"), CHANGED + "its 4 bytes are not JSON"),
    ("a string", write(b'"x"'), CHANGED + "its version_info is not one of this collection"),
    ("a list", write(b"[1]"), CHANGED + "its version_info is not one of this collection"),
    ("null", write(b"null"), CHANGED + "its version_info is not one of this collection"),
    ("no version", spoil(lambda d: d.pop("version_info")), CHANGED + "its version_info is not one of this collection"),
    ("a version of others", spoil(lambda d: d.update(version_info="7")), CHANGED + "its version_info is not one"),
    ("a version that is a number", spoil(lambda d: d.update(version_info=7)), CHANGED + "its version_info is not one"),
    ("another generation", spoil(lambda d: d.update(version_info=d["version_info"] + "0")), SHAPE),
    ("another digest", spoil(lambda d: d.update(version_info="0" * 16 + "-1")), SHAPE),
    (
        "another digest, in both places",
        lambda shelf: write(json.dumps(shelf.kind.document(content(), Version("0" * 16, 1))).encode())(shelf),
        CHANGED + "its content does not belong to its version 0000000000000000-1",
    ),
    ("no resources", spoil(lambda d: d.pop("resources")), SHAPE),
    ("resources: null", spoil(lambda d: d.update(resources=None)), SHAPE),
    ("no resource", spoil(lambda d: d.update(resources=[])), SHAPE),
    ("a resource that is a string", spoil(lambda d: d.update(resources=["x"])), SHAPE),
    ("two resources", spoil(lambda d: d.update(resources=d["resources"] * 2)), SHAPE),
    ("one more key", spoil(lambda d: d.update(nonce="1")), SHAPE),
    ("another name", spoil(lambda d: d["resources"][0].update(name="other")), SHAPE),
    ("no typed_config", spoil(lambda d: d["resources"][0].pop("typed_config")), SHAPE),
    ("a typed_config that is a list", spoil(lambda d: d["resources"][0].update(typed_config=[])), SHAPE),
    (
        "a typed_config not wrapped",
        spoil(lambda d: d["resources"][0].update(typed_config=content())),
        CHANGED + "the typed_config is not a TypedStruct as this collection writes it",
    ),
    ("a value that is a list", spoil(lambda d: typed(d).update(value=[1])), SHAPE),
    ("a value with a type", spoil(lambda d: typed(d)["value"].update({"@type": "x"})), SHAPE),
    (
        "another type",
        spoil(lambda d: typed(d).update(type_url=typed(d)["type_url"].replace("BasicAuth", "Other"))),
        CHANGED + "its content does not belong to its version",
    ),
    (
        "another user",
        spoil(lambda d: typed(d)["value"]["users"].update(inline_string="mallory")),
        CHANGED + "its content does not belong to its version",
    ),
    (
        "a value more",
        spoil(lambda d: typed(d)["value"].update(allow_missing=True)),
        CHANGED + "its content does not belong to its version",
    ),
    ("nested without end", write(NESTED), CHANGED),
    ("a symbolic link", replace_by(lambda shelf: os.symlink("/etc/hostname", shelf.live)), "could not be used: "),
    ("a dangling link", replace_by(lambda shelf: os.symlink("/nowhere", shelf.live)), "could not be used: "),
    ("a directory", replace_by(lambda shelf: os.mkdir(shelf.live)), "could not be used: "),
    ("a named pipe", replace_by(lambda shelf: os.mkfifo(shelf.live, 0o600)), "could not be used: "),
    (
        "readable by its group",
        lambda shelf: os.chmod(shelf.live, 0o640),
        "could be read by other users (mode 0640)",
    ),
    ("writable by all", lambda shelf: os.chmod(shelf.live, 0o602), "could be read by other users (mode 0602)"),
]


@pytest.mark.parametrize(("change", "reason"), [row[1:] for row in FOUND], ids=[row[0] for row in FOUND])
def test_a_file_that_is_not_as_it_was_left(shelf, change, reason):
    published(shelf, content())
    change(shelf)
    disk = shelf.disk()
    assert disk.version is None
    assert disk.reason.startswith(reason)


@pytest.mark.parametrize(
    "change",
    [row[1] for row in FOUND if row[0] != "a directory"],
    ids=[row[0] for row in FOUND if row[0] != "a directory"],
)
def test_the_next_publish_mends_it(shelf, change):
    published(shelf, content())
    change(shelf)
    version = published(shelf, content())
    assert version.generation > 1
    assert shelf.disk() == Disk(version)
    assert os.lstat(shelf.live).st_mode == stat.S_IFREG | 0o600


def test_a_directory_in_the_place_of_the_file_is_refused_by_name(shelf, tmp_path):
    os.makedirs(shelf.live)
    with pytest.raises(Failure, match="Nothing has changed: version .* can't be written: Is a directory") as caught:
        published(shelf, content())
    assert caught.value.code == "file_error"
    assert staged(tmp_path) == []


def test_a_file_of_another_owner_is_not_ours(shelf, monkeypatch):
    published(shelf, content())
    monkeypatch.setattr(Files, "_as_owner", lambda self: contextlib.nullcontext())
    shelf.files.uid += 1
    assert shelf.disk().reason == f"belonged to user id {os.getuid()} instead of {os.getuid() + 1}"


def test_files_that_can_not_be_made_private_are_not_left_behind(shelf, tmp_path, monkeypatch):
    def refuse(descriptor, mode):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    published(shelf, content())
    before = files_below(tmp_path)
    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(Failure, match="^Nothing has changed: .* Operation not permitted"):
        published(shelf, content("new"))
    assert files_below(tmp_path) == before


def test_every_file_cut_short_is_told(shelf):
    published(shelf, content())
    with open(shelf.live, "rb") as file:
        whole = file.read()
    for length in range(len(whole.rstrip())):
        write(whole[:length])(shelf)
        assert shelf.disk() == Disk(None, f"{CHANGED}its {length} bytes are not JSON")
        assert shelf.content() == DENY


def test_no_damage_passes_for_ours(shelf):
    """Single bytes changed at random: either told, or without any effect on what the file says."""
    version = published(shelf, content())
    with open(shelf.live, "rb") as file:
        whole = file.read()
    source = random.Random(20300131)
    told = 0
    for _round in range(2000):
        damaged = bytearray(whole)
        damaged[source.randrange(len(whole))] = source.randrange(256)
        write(damaged)(shelf)
        disk = shelf.disk()
        if disk.version is None:
            told += 1
            assert disk.reason
        else:
            assert (disk.version, json.loads(damaged)) == (version, json.loads(whole))
    assert told > 1500


# Contents of every shape survive the way to the disk and back

ODD = {
    "empty": {},
    "types further down": {"a": {"@type": TYPE_PREFIX + "x.Y", "value": [{"@type": "z"}]}},
    "a key named value": {"value": {"value": 1}, "type_url": "x/y", "name": "z"},
    "not ASCII": {"ключ": "пароль 🔑", "\u2028": "\x7f\x00", "half": "\udc80"},
    "numbers": {"big": 2**63, "bigger": 10**40, "small": -(2**63), "e": 1e300, "f": 0.1, "z": -0.0, "i": 1.0},
    "nothing": {"null": None, "list": [], "mapping": {}, "text": "", "false": False, "zero": 0},
    "deep": {"a": [[[[[[[[[[{"b": {"c": {"d": {"e": {"f": [{}]}}}}}]]]]]]]]]]},
    "looks like a version": {"version_info": "0" * 16 + "-1", "resources": []},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_odd_contents_of_a_filter(shelf, odd):
    what = {"@type": BASIC_AUTH, **odd}
    version = published(shelf, what)
    assert shelf.disk() == Disk(version)
    assert repr(shelf.content()) == repr(json.loads(json.dumps(what, sort_keys=True)))
    assert shelf.last_good(shelf.record()) == what


@pytest.mark.parametrize("kind", [CLUSTERS, LISTENERS], ids=lambda kind: kind.name)
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_odd_contents_of_a_list_of_resources(tmp_path, kind, odd):
    shelf = a_shelf(tmp_path / "xds", kind=kind)
    what = [{"name": "one", **odd}, {"name": "two"}, odd]
    version = published(shelf, what)
    assert shelf.disk() == Disk(version)
    assert shelf.content() == what


def structure(source, depth=4):
    kind = source.randrange(8 if depth else 6)
    if kind == 7:
        return {text(source): structure(source, depth - 1) for _item in range(source.randrange(4))}
    if kind == 6:
        return [structure(source, depth - 1) for _item in range(source.randrange(4))]
    numbers = [source.randrange(-(2**70), 2**70), source.random() * 10 ** source.randrange(-300, 300)]
    return [None, source.random() < 0.5, *numbers, text(source), text(source)][kind]


def text(source):
    alphabet = ["@type", "value", "a", '"', "\\", "/", "\n", "ä", "\U0001f600", "${secret.a}", "%", "{", " ", "\0"]
    return "".join(source.choice(alphabet) for _item in range(source.randrange(5)))


def test_any_content_comes_back_as_it_went(shelf):
    source = random.Random(7)
    for _round in range(60):
        what = {**{f"key {n}": structure(source) for n in range(4)}, "@type": BASIC_AUTH}
        version = published(shelf, what)
        assert shelf.disk().version == version, what
        assert shelf.content() == what


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (0, False), (1, 1.0), ("1", 1), ({}, []), (None, False), (0, "")]
)
def test_values_that_python_or_people_take_for_equal_are_two_contents(shelf, one, other):
    assert shelf.digest({"a": one}) != shelf.digest({"a": other})
    published(shelf, {**content(), "a": one})
    spoil(lambda document: typed(document)["value"].update(a=other))(shelf)
    assert shelf.disk().version is None


def test_a_digest_belongs_to_its_key_and_its_kind(tmp_path):
    shelf = a_shelf(tmp_path / "xds")
    digests = {
        shelf.digest(content()),
        a_shelf(tmp_path / "xds", key=b"l" * 32).digest(content()),
        a_shelf(tmp_path / "xds", kind=filter_kind("other")).digest(content()),
        a_shelf(tmp_path / "xds", kind=CLUSTERS).digest(content()),
    }
    assert len(digests) == 4


def test_the_file_of_another_filter_is_not_ours(tmp_path):
    """A foreign hand may copy one filter's file over another's."""
    one, other = a_shelf(tmp_path / "xds"), a_shelf(tmp_path / "xds", kind=filter_kind("other"))
    published(one, content())
    published(other, content())
    os.replace(one.live, other.live)
    assert other.disk().reason == SHAPE


# Generations


def test_generations_go_up(shelf):
    assert [published(shelf, content(str(n))).generation for n in range(3)] == [1, 2, 3]


def test_the_number_of_the_way_back_is_used_up_too(shelf):
    """A refused publish is followed by the last good content as the next generation, so both numbers are gone."""
    published(shelf, content("good"))
    version = Version(shelf.digest(content("bad")), 2)
    publish = _publish.publish(shelf, content("bad"), shelf.last_good(shelf.record()), version)
    assert publish.back == Version(shelf.digest(content("good")), 3)
    publish.restore()
    assert shelf.disk() == Disk(publish.back)
    publish.restored(record(publish.back), 5)
    assert shelf.record().confirmed.version == publish.back
    assert shelf.last_good(shelf.record()) == content("good")
    assert published(shelf, content("next")).generation == 4


@pytest.mark.parametrize("number", [12, 9_999_999_998, 9_999_999_999])
def test_a_foreign_edit_that_raises_the_number(shelf, number):
    """Its number is not used again, and whatever it is, our next publish is one that can be told as ours."""
    published(shelf, content())
    foreign = Version("f" * 16, number)
    spoil(lambda document: document.update(version_info=str(foreign)))(shelf)
    for users in ("one", "two"):
        version = published(shelf, content(users))
        assert version.generation != number
        assert shelf.disk() == Disk(version)
        assert shelf.record().confirmed.version == version


@pytest.mark.parametrize(
    "text", ["0" * 16 + "-0", "0" * 16 + "--1", "0" * 16 + "-1e9", "0" * 16 + "-" + "9" * 4000, "x-99", "99", ""]
)
def test_a_foreign_version_that_is_none_is_passed_over(shelf, text):
    published(shelf, content())
    spoil(lambda document: document.update(version_info=text))(shelf)
    assert shelf.next_generation(shelf.record()) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[]", NESTED], ids=repr_cut)
def test_the_numbers_go_on_though_the_file_or_the_record_is_damaged(shelf, damage):
    published(shelf, content("one"))
    published(shelf, content("two"))
    write(damage)(shelf)
    assert shelf.next_generation(shelf.record()) == 3
    with open(os.path.join(shelf.folder, "record.json"), "wb") as file:
        file.write(damage)
    assert shelf.next_generation(shelf.record()) == 3


@pytest.mark.parametrize("keep", [1, 2, 3, 5])
def test_the_newest_are_kept(shelf, keep):
    for number in range(1, 7):
        published(shelf, content(str(number)), keep=keep)
    assert shelf.generations() == list(range(7 - keep, 7))


def test_what_is_in_service_is_kept_though_others_are_newer(shelf):
    version = published(shelf, content("one"))
    for number in (7, 8, 9):
        write_generation(shelf, number)
    _publish.confirm(shelf, record(version), keep=2)
    assert shelf.generations() == [1, 9]


def write_generation(shelf, number):
    with open(os.path.join(shelf.folder, f"{number}.json"), "wb") as file:
        file.write(b"{}")


def test_files_of_others_among_the_generations_are_left_alone(shelf):
    published(shelf, content())
    for name in ("0.json", "01.json", "x.json", "2.json.bak", "12345678901.json", "README"):
        with open(os.path.join(shelf.folder, name), "wb") as file:
            file.write(b"x")
    assert shelf.generations() == [1]
    published(shelf, content("two"), keep=1)
    assert shelf.generations() == [2]
    assert {"0.json", "01.json", "x.json", "README"} <= set(os.listdir(shelf.folder))


# The record and the last good content


def test_a_record_comes_back(shelf):
    version = published(shelf, content(), confirm=False)
    note = Record(Confirmed(version, Process(7, 8), 3, 4), {"config": {"realm": "ä"}}, "2030-01-31T12:00:00Z")
    _publish.confirm(shelf, note, 5)
    assert shelf.record() == note
    assert shelf.generations() == [1]


def test_there_is_no_record_before_a_confirmation(shelf):
    published(shelf, content(), confirm=False)
    assert shelf.record() is None
    assert shelf.last_good(None) == DENY


def in_record(change):
    def damage(data):
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return damage


RECORDS = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-5],
    "not UTF-8": lambda data: b"\xff" + data,
    "a list": lambda data: b"[]",
    "a number": lambda data: b"7",
    "null": lambda data: b"null",
    "nested without end": lambda data: NESTED,
    "no version": in_record(lambda d: d.pop("version")),
    "version of others": in_record(lambda d: d.update(version="7")),
    "no process": in_record(lambda d: d.pop("process")),
    "process null": in_record(lambda d: d.update(process=None)),
    "pid a word": in_record(lambda d: d["process"].update(pid="x")),
    "pid without end": lambda data: data.replace(b'"pid": 100', b'"pid": 1e999'),
    "counter null": in_record(lambda d: d.update(rejected=None)),
    "view a word": in_record(lambda d: d.update(view="x")),
    "view a number": in_record(lambda d: d.update(view=1)),
}


@pytest.mark.parametrize("damage", RECORDS.values(), ids=RECORDS.keys())
def test_a_damaged_record_is_none_and_the_next_confirmation_mends_it(shelf, damage):
    published(shelf, content("one"))
    path = os.path.join(shelf.folder, "record.json")
    with open(path, "rb") as file:
        data = damage(file.read())
    with open(path, "wb") as file:
        file.write(data)
    assert shelf.record() is None
    version = published(shelf, content("two"))
    assert version.generation == 2
    assert shelf.record() == record(version)


@pytest.mark.parametrize("make", [os.mkdir, lambda path: os.symlink("/etc/hostname", path)], ids=["directory", "link"])
def test_a_record_that_is_no_file_is_none(shelf, make):
    published(shelf, content())
    path = os.path.join(shelf.folder, "record.json")
    os.unlink(path)
    make(path)
    assert shelf.record() is None


@pytest.mark.parametrize("damage", [b"", b"{}", NESTED], ids=repr_cut)
def test_without_its_generation_the_last_good_content_is_the_live_one(shelf, damage):
    published(shelf, content())
    with open(os.path.join(shelf.folder, "1.json"), "wb") as file:
        file.write(damage)
    assert shelf.last_good(shelf.record()) == content()
    assert shelf.last_good(None) == DENY


@pytest.mark.parametrize(
    "change",
    [
        lambda shelf: os.unlink(shelf.live),
        write(b"garbled"),
        spoil(lambda document: document["resources"].clear()),
        lambda shelf: published(shelf, content("another"), confirm=False),
    ],
    ids=["missing", "garbled", "edited", "not confirmed"],
)
def test_without_both_the_last_good_content_is_the_refusal_of_all(shelf, change):
    published(shelf, content())
    last = shelf.record()
    change(shelf)
    os.unlink(os.path.join(shelf.folder, "1.json"))
    assert shelf.last_good(last) == DENY


# Install, purge


def test_a_deny_is_installed_once_and_only_where_nothing_stands(shelf):
    assert _publish.install(shelf)
    before = files_below_store(shelf)
    assert not _publish.install(shelf)
    assert files_below_store(shelf) == before
    published(shelf, content())
    assert not _publish.install(shelf)
    assert shelf.content() == content()


def test_install_puts_the_last_good_content_back(shelf):
    published(shelf, content())
    os.unlink(shelf.live)
    assert _publish.install(shelf)
    assert shelf.content() == content()
    assert shelf.disk() == Disk(Version(shelf.digest(content()), 2))


@pytest.mark.parametrize("target", ["/nowhere", "/etc/hostname"])
def test_install_leaves_a_link_to_the_next_publish(shelf, target):
    """It is not missing, and whoever put it there may have had a reason: the publish of the filter tells of it."""
    os.makedirs(os.path.dirname(shelf.live))
    os.symlink(target, shelf.live)
    assert not _publish.install(shelf)
    assert os.readlink(shelf.live) == target


def test_purge_leaves_nothing(shelf, tmp_path):
    published(shelf, content("one"))
    published(shelf, content("two"))
    assert shelf.exists()
    _publish.purge(shelf)
    assert files_below(tmp_path) == {}
    assert not shelf.exists()
    _publish.purge(shelf)
    assert shelf.next_generation(None) == 1


def files_below_store(shelf):
    return {
        os.path.join(folder, name): os.stat(os.path.join(folder, name)).st_ino
        for folder, _folders, names in os.walk(shelf.store.directory)
        for name in names
    }


# The key and the lock


def test_the_key_is_made_once(tmp_path):
    store = a_gateway(tmp_path / "xds")
    key = store.key(write=True)
    assert len(key) == 32
    assert store.key(write=True) == store.key(write=False) == key
    assert stat.S_IMODE(os.stat(tmp_path / "xds" / "state" / "key").st_mode) == 0o600
    assert staged(tmp_path) == []


def test_check_mode_makes_no_key(tmp_path):
    store = a_gateway(tmp_path / "xds")
    assert len(store.key(write=False)) == 32
    assert files_below(tmp_path) == {}


@pytest.mark.parametrize("damaged", [b"", b"short", b"x" * 31])
def test_a_damaged_key_is_replaced_and_every_file_then_told_as_foreign(tmp_path, damaged):
    store = a_gateway(tmp_path / "xds")
    published(Shelf(store, filter_kind("users"), store.key(write=True)), content())
    (tmp_path / "xds" / "state" / "key").write_bytes(damaged)
    key = store.key(write=True)
    assert len(key) == 32
    assert store.key(write=True) == key
    shelf = Shelf(store, filter_kind("users"), key)
    assert shelf.disk().reason.startswith(CHANGED + "its content does not belong to its version")
    assert published(shelf, content()).generation == 2


@pytest.fixture
def unreadable_key(tmp_path, monkeypatch):
    """A store whose key nobody may read."""
    store = a_gateway(tmp_path / "xds")
    store.key(write=True)
    first = True

    def read(self, path):
        nonlocal first
        if first and path.endswith("/key"):
            first = False
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return Files.read(self, path)

    monkeypatch.setattr(store, "files", type("Denied", (Files,), {"read": read})(os.getuid(), os.getgid()))
    return store


def test_a_key_that_its_owner_may_not_read_is_replaced(unreadable_key):
    key = unreadable_key.key(write=True)
    assert len(key) == 32
    assert unreadable_key.key(write=False) == key


def test_a_key_that_somebody_else_may_not_read_is_named(unreadable_key, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Failure, match="state/key can't be read or made: Permission denied"):
        unreadable_key.key(write=False)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (os.mkdir, "file_error"),
        (lambda path: os.symlink("/etc/hostname", path), "file_error"),
        (os.mkfifo, "not_a_file"),
    ],
    ids=["directory", "link", "pipe"],
)
def test_a_key_that_is_no_file_is_named(tmp_path, make, code):
    store = a_gateway(tmp_path / "xds")
    make(tmp_path / "xds" / "state" / "key")
    with pytest.raises(Failure, match="state/key") as caught:
        store.key(write=True)
    assert caught.value.code == code


def test_a_run_clears_what_a_killed_one_left(tmp_path):
    store = a_gateway(tmp_path / "xds")
    leftover = store.stage(b"secret")
    other = tmp_path / "xds" / "state" / "other"
    other.write_bytes(b"x")
    with store.locked(1, write=False):
        assert os.path.exists(leftover)
    with store.locked(1, write=True):
        assert not os.path.exists(leftover)
    assert other.exists()


def test_check_mode_makes_no_state(tmp_path):
    store = Store(str(tmp_path), Files(os.getuid(), os.getgid()))
    with store.locked(1, write=False):
        assert os.listdir(tmp_path) == []
    with store.locked(1, write=True):
        assert os.listdir(tmp_path) == ["state"]


def test_two_runs_exclude_each_other(tmp_path):
    one, two = a_gateway(tmp_path / "xds"), a_gateway(tmp_path / "xds")
    with one.locked(1, write=True):
        with pytest.raises(Failure, match="locked.*Nothing has changed") as caught, two.locked(0.05, write=True):
            pass
        assert caught.value.code == "locked"
    with two.locked(0.05, write=True):
        pass


@pytest.mark.parametrize("what", ["missing", "file"])
def test_a_directory_that_is_none_is_named(tmp_path, what):
    path = tmp_path / what
    if what == "file":
        path.write_bytes(b"")
    store = Store(str(path), Files(os.getuid(), os.getgid()))
    with pytest.raises(Failure, match="^directory: found no directory at ") as caught, store.locked(1, write=True):
        pass
    assert caught.value.code == "invalid_option"


def test_a_state_that_is_no_directory_is_named(tmp_path):
    (tmp_path / "state").write_bytes(b"")
    store = Store(str(tmp_path), Files(os.getuid(), os.getgid()))
    with pytest.raises(Failure, match=r"/state.*Not a directory") as caught, store.locked(1, write=True):
        pass
    assert caught.value.code == "file_error"


# A fault at every step


def publish_first(shelf):
    published(shelf, content("new"), confirm=False)


def publish_and_accept(shelf):
    published(shelf, content("new"))


def publish_and_restore(shelf):
    last = shelf.record()
    version = Version(shelf.digest(content("new")), shelf.next_generation(last))
    publish = _publish.publish(shelf, content("new"), shelf.last_good(last), version)
    publish.restore()
    publish.restored(record(publish.back), 2)


def note(shelf):
    version = shelf.disk().version
    if version:
        _publish.confirm(shelf, record(version, rejected=7), 2)


def install(shelf):
    _publish.install(shelf)


def make_key(shelf):
    shelf.store.key(write=True)


def prepare_nothing(shelf):
    pass


def prepare_old(shelf):
    published(shelf, content("older"))
    published(shelf, content("old"))


def prepare_deleted(shelf):
    prepare_old(shelf)
    os.unlink(shelf.live)


def prepare_unconfirmed(shelf):
    prepare_old(shelf)
    published(shelf, content("unconfirmed"), confirm=False)
    for name in os.listdir(shelf.store.state):
        if name.startswith("staged-"):
            os.unlink(os.path.join(shelf.store.state, name))


OPERATIONS = [
    (prepare_nothing, publish_first),
    (prepare_nothing, publish_and_accept),
    (prepare_nothing, publish_and_restore),
    (prepare_nothing, install),
    (prepare_nothing, make_key),
    (prepare_old, publish_and_accept),
    (prepare_old, publish_and_restore),
    (prepare_deleted, install),
    (prepare_deleted, publish_and_accept),
    (prepare_unconfirmed, note),
]


def faults(tmp_path, prepare, operation, error):
    """Run ``operation`` once for each of its steps, with the error there: (step, shelf, live file before, failure)."""
    whole = a_shelf(tmp_path / "whole", Faulty())
    prepare(whole)
    whole.files.steps.clear()
    operation(whole)
    assert whole.files.steps, "an operation without a step would make the test empty"
    for number, step in enumerate(whole.files.steps, 1):
        path = tmp_path / str(number)
        prepare(a_shelf(path))
        shelf = a_shelf(path, Faulty(error, number))
        before = live_bytes(shelf)
        with pytest.raises((Failure, Killed)) as caught:
            operation(shelf)
        yield f"step {number}: {step.split(' ')[0]}", shelf, before, caught.value
        del shelf.files.steps[:]


def before_content(before, shelf):
    """What a live file held; of none, what stands in for it."""
    return shelf.kind.parse(json.loads(before))[1] if before else DENY


def live_bytes(shelf):
    try:
        with open(shelf.live, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


NAMES = [f"{operation.__name__}, {prepare.__name__}" for prepare, operation in OPERATIONS]


@pytest.mark.parametrize(("prepare", "operation"), OPERATIONS, ids=NAMES)
def test_a_full_disk_at_any_step(tmp_path, prepare, operation):
    """The live file is whole; what the failure says of it is true; the next run does what this one couldn't."""
    lies = []
    for step, shelf, before, failure in faults(tmp_path, prepare, operation, OSError(errno.ENOSPC, "No space left")):
        assert isinstance(failure, Failure), step
        assert failure.code == "file_error"
        assert "No space left" in failure.message
        after = live_bytes(shelf)
        assert after is None or shelf.disk().version is not None, step
        if "Nothing has changed" in failure.message and after != before:
            lies.append(f"{step}: {failure.message}")
        if "still holds what was refused" in failure.message and shelf.content() == before_content(before, shelf):
            lies.append(f"{step}: {failure.message}")
        version = published(a_shelf(tmp_path / step.split(":")[0].split(" ")[1]), content("next"))
        assert shelf.disk() == Disk(version), step
    assert lies == []


@pytest.mark.parametrize(("prepare", "operation"), OPERATIONS, ids=NAMES)
def test_a_full_disk_leaves_nothing_staged(tmp_path, prepare, operation):
    """Staged files are left over only by a kill."""
    left = [
        step
        for step, shelf, _before, _failure in faults(
            tmp_path, prepare, operation, OSError(errno.ENOSPC, "No space left")
        )
        if any(name.startswith("staged-") for name in os.listdir(shelf.store.state))
        # What can't be removed is left, but a full disk removes.
        and "unlink" not in step
    ]
    assert left == []


@pytest.mark.parametrize(("prepare", "operation"), OPERATIONS, ids=NAMES)
def test_a_kill_at_any_step(tmp_path, prepare, operation):
    """The live file is the old or a new one, whole; a next run clears what was staged, and publishes a new version."""
    for step, shelf, before, failure in faults(tmp_path, prepare, operation, Killed()):
        assert isinstance(failure, Killed), step
        after = live_bytes(shelf)
        assert after == before or shelf.disk().version is not None, step
        seen = Version.parse(json.loads(after)["version_info"]) if after else Version("", 0)
        again = a_shelf(tmp_path / step.split(":")[0].split(" ")[1])
        with again.store.locked(1, write=True):
            version = published(again, content("next"))
        assert version.generation > seen.generation, step
        assert again.disk() == Disk(version), step
        assert [name for name in os.listdir(again.store.state) if name.startswith("staged-")] == [], step


def test_the_way_back_needs_no_space(shelf):
    """All that it needs was written before the live file changed: it renames and removes, and writes but a record."""
    prepare_old(shelf)
    shelf.files = Faulty()
    publish = _publish.publish(shelf, content("new"), content("old"), Version(shelf.digest(content("new")), 3))
    shelf.files.steps.clear()
    publish.restore()
    assert [step.split(" ")[0] for step in shelf.files.steps] == ["rename", "sync"]
    assert shelf.disk() == Disk(publish.back)


def test_a_refused_publish_is_told_apart_from_a_foreign_edit(shelf):
    publish = _publish.publish(shelf, content(), DENY, Version(shelf.digest(content()), 1))
    assert publish.untouched()
    write(b"{}")(shelf)
    assert not publish.untouched()
