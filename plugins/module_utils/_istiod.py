# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the debug pages and counters of istiods."""

from __future__ import annotations

import json
import re
import typing as t
import urllib.parse

from ansible.module_utils.urls import open_url

from ansible_collections.moe.gateway.plugins.module_utils import _sync
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import describe

_REJECTS = r"^pilot_total_xds_rejects\{([^}]*)\} ([0-9.e+]+)$"


class Istiod:
    """:param url: of the port that serves ``/debug`` and ``/metrics``, such as ``http://127.0.0.1:15014``."""

    def __init__(self, url: str, token: str | None, ca_file: str | None, timeout: float) -> None:
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.ca_file = ca_file
        self.timeout = timeout

    def proxies(self) -> list[_sync.Proxy]:
        return _sync.proxies(self.url, self._json("/debug/syncz"), self._json("/debug/adsz"))

    def config_dump(self, connection: str, types: str = "") -> t.Any:
        """What it would tell a gateway, from the last push; ``None`` if that is not connected any more.

        :param types: only these, such as ``ecds``; then without the number of the push.
        """
        query = {"proxyID": connection, **({"types": types} if types else {})}
        return self._json(f"/debug/config_dump?{urllib.parse.urlencode(query)}", missing=None)

    def root_namespace(self) -> str:
        return self._json("/debug/mesh").get("rootNamespace") or "istio-system"

    def rejects(self) -> float:
        """How often any gateway has refused anything since istiod started."""
        text = self._get("/metrics").decode("utf-8", "replace")
        return sum(float(match[2]) for match in re.finditer(_REJECTS, text, re.MULTILINE))

    def _json(self, path: str, **missing: t.Any) -> t.Any:
        body = self._get(path, **missing)
        if body is None:
            return None
        try:
            return json.loads(body)
        except ValueError:
            raise Failure("not_istiod", f"istiods: what {self.url}{path} answers is not JSON.") from None

    def _get(self, path: str, **missing: t.Any) -> t.Any:
        try:
            with open_url(
                self.url + path, headers=self.headers, timeout=self.timeout, ca_path=self.ca_file, use_proxy=False
            ) as answer:
                return answer.read()
        except OSError as error:
            status = getattr(error, "code", None)
            if status == 404 and missing:
                return missing["missing"]
            if status in (401, 403):
                what = f"the istiod at {self.url} does not let this look (status {status}); give istiod_token"
                raise Failure("istiod_forbidden", f"istiods: {what}.", url=self.url) from None
            reason = f"status {status}" if status else _words(error)
            raise Failure(
                "istiod_down", f"istiods: the istiod at {self.url} does not answer ({reason}).", url=self.url
            ) from None


def istiods(urls: list[str], token: str | None, ca_file: str | None, timeout: float) -> list[Istiod]:
    """Read the option ``istiods``."""
    for index, url in enumerate(urls):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise invalid(f"istiods[{index}]", describe(url), "a URL such as http://127.0.0.1:15014")
    if not urls:
        raise invalid("istiods", "none", "the URL of each istiod that a gateway can be connected to")
    return [Istiod(url, token, ca_file, timeout) for url in urls]


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(getattr(reason, "strerror", None) or reason).split())
