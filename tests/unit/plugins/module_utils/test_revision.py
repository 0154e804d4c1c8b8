# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What identifies a revision: canonical bytes, references to secrets, keyed digests, versions, and no secret shown."""

from __future__ import annotations

import re

import pytest

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._revision import (
    Version,
    canonical,
    check_secrets,
    keyed_digest,
    literal_secrets,
    substitute,
)

SECRETS = {"a": "AAA", "b_2": "B$B", "loop": "${secret.a}"}


# Canonical bytes


def test_the_order_of_keys_does_not_matter():
    one = {"b": [1, {"y": 2, "x": None}], "a": "ä"}
    other = {"a": "ä", "b": [1, {"x": None, "y": 2}]}
    assert canonical(one) == canonical(other) == b'{"a":"\\u00e4","b":[1,{"x":null,"y":2}]}'


@pytest.mark.parametrize(
    "values",
    [
        [1, "1", True, 1.0, [1], {"1": 1}, None, "", [], {}, 0, False, "null"],
        [["a", "b"], ["b", "a"], ["ab"], [["a"], "b"]],
        [{"a": {"b": 1}}, {"a.b": 1}, {"a": [{"b": 1}]}],
        ["é", "e\u0301"],
        [2**53, 2**53 + 1],
    ],
)
def test_different_contents_are_different_bytes(values):
    assert len({canonical(value) for value in values}) == len(values)


# References


@pytest.mark.parametrize(
    ("value", "result", "used"),
    [
        ("plain", "plain", []),
        ("", "", []),
        ("${secret.a}", "AAA", ["a"]),
        ("x ${secret.a}${secret.b_2} y", "x AAAB$B y", ["a", "b_2"]),
        ("${secret.a} ${secret.a}", "AAA AAA", ["a"]),
        ("$${secret.a}", "${secret.a}", []),
        ("$${secret.unknown}", "${secret.unknown}", []),
        ("$${secret.a} ${secret.a}", "${secret.a} AAA", ["a"]),
        ("$${secrets.a} $${Secret}", "${secrets.a} ${Secret}", []),
        # A secret that looks like a reference is a secret, and is not looked at again.
        ("${secret.loop}", "${secret.a}", ["loop"]),
        ("$2y$10$abc ${HOME} ${x.a} {secret.a} $secret.a", "$2y$10$abc ${HOME} ${x.a} {secret.a} $secret.a", []),
        ({"k": ["${secret.a}", {"l": "${secret.b_2}"}]}, {"k": ["AAA", {"l": "B$B"}]}, ["a", "b_2"]),
        ({"n": 1, "t": True, "z": None, "f": 1.5}, {"n": 1, "t": True, "z": None, "f": 1.5}, []),
        ({}, {}, []),
    ],
)
def test_secrets_are_put_in(value, result, used):
    found, names = substitute(value, SECRETS, "config")
    assert found == result
    assert names == {name: SECRETS[name] for name in used}


def test_what_was_given_is_not_changed():
    config = {"k": ["${secret.a}"]}
    substitute(config, SECRETS, "config")
    assert config == {"k": ["${secret.a}"]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "${secret.c}",
            "config: found a reference to the secret 'c', expected one of the names in secrets (a, b_2, loop).",
        ),
        ({"u": [{}, {"p": "x${secret.A}"}]}, "config.u[1].p: found a reference to the secret 'A', expected one of"),
        ("${secret.}", "config: found a reference to the secret '', expected one of"),
        ("${secret.a b}", "config: found a reference to the secret 'a b', expected one of"),
        ("${secret. a}", "config: found a reference to the secret ' a', expected one of"),
        # What would else go to the gateway as it stands, as a password that everybody knows.
        ({"p": "${secret.a"}, "config.p: found"),
        ({"p": "x ${secret.a y"}, "config.p: found"),
        ({"p": "${secrets.a}"}, 'config.p: found a "${secrets.", expected a reference as ${secret.NAME}'),
        ({"p": "x ${Secret.a}"}, 'config.p: found a "${Secret."'),
        ({"p": "${ secret.a}"}, 'config.p: found a "${ secret."'),
        ({"p": "${secret}"}, 'config.p: found a "${secret"'),
        ({"${secret.a}": "x"}, "config"),
        ({"p": {"x ${secret.a}": 1}}, "config.p"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named_with_its_place(value, message):
    with pytest.raises(Failure, match="^" + re.escape(message)) as caught:
        substitute(value, SECRETS, "config")
    assert caught.value.code == "invalid_option"
    assert not any(SECRETS[name] in caught.value.message for name in ("a", "b_2"))


def test_that_no_secret_is_given_is_said():
    with pytest.raises(Failure, match=re.escape("names in secrets (none is given).")):
        substitute("${secret.a}", {}, "config")


# The option secrets


@pytest.mark.parametrize("secrets", [{}, {"a": "x"}, {"_A1": "x y\n"}, {"a": " "}])
def test_secrets_that_are_right(secrets):
    assert check_secrets(secrets) == secrets


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        (None, "secrets: found a NoneType, expected a mapping of names to strings."),
        (["HIDDEN"], "secrets: found a list, expected a mapping of names to strings."),
        ("HIDDEN", "secrets: found a str, expected a mapping of names to strings."),
        (
            {"a b": "HIDDEN"},
            "secrets: found a name that is not a word, expected names of letters, digits and underscores.",
        ),
        ({"HIDDEN\n": "x"}, "secrets: found a name that is not a word"),
        ({"1a": "HIDDEN"}, "secrets: found a name that is not a word"),
        ({"": "HIDDEN"}, "secrets: found a name that is not a word"),
        ({"a-b": "HIDDEN"}, "secrets: found a name that is not a word"),
        ({1: "HIDDEN"}, "secrets: found a name that is not a word"),
        ({"a": ""}, "secrets.a: found an empty string, expected a non-empty string."),
        (
            {"a": 4711},
            "secrets.a: found a value of type int, expected a non-empty string. Quote it, if it is a number.",
        ),
        ({"a": True}, "secrets.a: found a value of type bool, expected a non-empty string."),
        ({"a": None}, "secrets.a: found a value of type NoneType, expected a non-empty string."),
        ({"a": ["HIDDEN"]}, "secrets.a: found a value of type list, expected a non-empty string."),
        ({"ok": "x", "a": {"b": "HIDDEN"}}, "secrets.a: found a value of type dict, expected a non-empty string."),
    ],
)
def test_secrets_that_are_wrong_are_named_but_not_shown(secrets, message):
    with pytest.raises(Failure, match="^" + re.escape(message)) as caught:
        check_secrets(secrets)
    shown = str(caught.value.as_dict())
    assert "HIDDEN" not in shown
    assert "4711" not in shown


# Digests and versions


def test_a_digest_depends_on_the_key_and_on_every_part():
    digests = [
        keyed_digest(b"k", "secret", "bar"),
        keyed_digest(b"l", "secret", "bar"),
        keyed_digest(b"k", "secret", "baz"),
        keyed_digest(b"k", "secretbar"),
        keyed_digest(b"k", "secret", ["bar"]),
        keyed_digest(b"k", ["secret", "bar"]),
        keyed_digest(b"k", "secre", "tbar"),
    ]
    assert len(set(digests)) == len(digests)
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in digests)
    assert digests[0] == keyed_digest(b"k", "secret", "bar")


@pytest.mark.parametrize("generation", [1, 9, 10, 999_999_999, 9_999_999_999])
def test_a_version_comes_back(generation):
    version = Version("0123456789abcdef", generation)
    assert str(version) == f"0123456789abcdef-{generation}"
    assert Version.parse(str(version)) == version


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        b"0123456789abcdef-1",
        "",
        "0123456789abcdef",
        "0123456789abcdef-",
        "0123456789abcdef-0",
        "0123456789abcdef-01",
        "0123456789abcdef--1",
        "0123456789abcdef-1 ",
        "0123456789abcdef-1\n",
        "0123456789abcdef-1.0",
        "0123456789abcdef-٣",
        "0123456789ABCDEF-1",
        "0123456789abcde-1",
        "0123456789abcdef0-1",
        "0123456789abcdef-12345678901",
    ],
)
def test_what_is_no_version(text):
    assert Version.parse(text) is None


# Secrets written in clear


@pytest.mark.parametrize(
    ("config", "paths"),
    [
        ({}, []),
        ({"users": [{"username": "foo", "password": "bar"}]}, ["config.users[0].password"]),
        ({"users": [{"password": "${secret.bar}"}, {"password_hash": "$2y$"}]}, ["config.users[1].password_hash"]),
        (
            {"api_TOKEN": "x", "Passphrase": "y", "private_key": "z"},
            ["config.api_TOKEN", "config.Passphrase", "config.private_key"],
        ),
        ({"password": "user ${secret.bar}"}, []),
        ({"token_bucket": {"max_tokens": 5, "tokens_per_fill": 5}}, []),
        ({"realm": "passage", "compass": "x"}, []),
        ({"a": {"b": [[{"secret": "x"}]]}}, ["config.a.b[0][0].secret"]),
        (["x", {"secret": "x"}], ["config[1].secret"]),
        ("password", []),
        (None, []),
    ],
)
def test_finds_what_looks_like_a_secret_in_clear(config, paths):
    assert literal_secrets(config) == paths
