# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: requests that show whether a gateway does what it should, once Envoy has taken a configuration."""

from __future__ import annotations

import base64
import http.client
import os
import re
import ssl
import typing as t
from urllib.parse import urlsplit

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import Mapping, describe
from ansible_collections.moe.gateway.plugins.module_utils._revision import substitute

#: RFC 9110, sections 5.1 and 5.5; http.client writes a value as Latin-1
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER_VALUE = r"[\t\x20-\x7e\x80-\xff]*"


class Probe(t.NamedTuple):
    """One request and the status that it has to get."""

    path: str
    url: str
    status: int
    headers: dict[str, str]
    ca_file: str | None


def probes(items: object, secrets: dict[str, str]) -> list[Probe]:
    """Read the option ``probe``; errors name the key, and never hold a secret."""
    found = []
    if not isinstance(items, list):
        raise invalid("probe", describe(items), "a list")
    for index, item in enumerate(items):
        path = f"probe[{index}]"
        keys = Mapping(item, path).only("url", "status", "headers", "basic_auth", "ca_file")
        url = keys.text("url")
        if not _is_url(url):
            raise invalid(f"{path}.url", describe(url), "an http or https URL of this gateway")
        headers = keys.mapping("headers", None)
        texts = dict(headers.value) if headers else {}
        for name, value in texts.items():
            if not re.fullmatch(_HEADER_NAME, name):
                raise invalid(f"{path}.headers.{name}", "a name that no header may have", "letters, digits and -")
            if not isinstance(value, str):
                raise invalid(f"{path}.headers.{name}", describe(value), "a string")
            if name.lower() == "authorization" and item.get("basic_auth"):
                raise invalid(f"{path}.headers.{name}", "a header that basic_auth makes", "one of the two")
        texts, _used = substitute(texts, secrets, f"{path}.headers")
        for name, value in texts.items():
            if not re.fullmatch(_HEADER_VALUE, value):
                raise invalid(f"{path}.headers.{name}", "a character that no header may have", "one line of Latin-1")
        credential = keys.text("basic_auth", None, r"[^:]+:(.|\n)*", "user:password, the password as ${secret.NAME}")
        if credential:
            plain, _used = substitute(credential, secrets, f"{path}.basic_auth")
            texts["Authorization"] = "Basic " + base64.b64encode(_utf8(plain, f"{path}.basic_auth")).decode()
        ca_file = keys.text("ca_file", None)
        if ca_file is not None and not os.path.isfile(ca_file):
            raise invalid(f"{path}.ca_file", f"no file at {ca_file}", "a file of certificates on the gateway")
        found.append(Probe(path, url, keys.integer("status", 100, 599, 200), texts, ca_file))
    return found


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        usable = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        return False
    return usable and parts.scheme in ("http", "https") and re.fullmatch("[!-~]+", url) is not None


def _utf8(text: str, path: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # The error itself would quote what it found.
        raise invalid(path, "a character that UTF-8 has no form for", "text") from None


def run(probe: Probe, timeout: float) -> None:
    """Raise ``probe_failed`` unless the request gets the expected status."""
    parts = urlsplit(probe.url)
    where = (parts.hostname or "", parts.port)
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=probe.ca_file)
            connection = http.client.HTTPSConnection(*where, timeout=timeout, context=context)
        else:
            connection = http.client.HTTPConnection(*where, timeout=timeout)
        connection.request(
            "GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers=probe.headers
        )
        status = connection.getresponse().status
        connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        # Only the kind of error: some of them quote a header.
        what = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise Failure(
            "probe_failed", f"{probe.path}: {probe.url} gave no answer ({what}), expected {probe.status}."
        ) from error
    if status != probe.status:
        raise Failure(
            "probe_failed",
            f"{probe.path}: {probe.url} answered {status}, expected {probe.status}.",
            url=probe.url,
            found=status,
            expected=probe.status,
        )
