# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the debug pages and counters of istiods."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import typing as t
import urllib.parse

from ansible_collections.moe.gateway.plugins.module_utils import _sync
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure, invalid
from ansible_collections.moe.gateway.plugins.module_utils._keys import describe

_REJECTS = r"^pilot_total_xds_rejects\{([^}]*)\} ([0-9.e+]+)$"


class Istiod:
    """:param url: of the port that serves ``/debug`` and ``/metrics``, such as ``http://127.0.0.1:15014``."""

    def __init__(self, url: str, token: str | None, ca_file: str | None, timeout: float) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        parts = urllib.parse.urlsplit(self.url)
        # It stays open: a wait asks again and again.
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca_file)
            self._connection = http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=context)
        else:
            self._connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)

    def proxies(self) -> list[_sync.Proxy]:
        return _sync.proxies(self.url, self._json("/debug/syncz") or [], self._json("/debug/adsz") or {})

    def config_dump(self, connection: str, types: str = "") -> t.Any:
        """What it would tell a gateway, from the last push; ``None`` if that is not connected any more.

        :param types: only these, such as ``ecds``; then without the number of the push.
        """
        query = {"proxyID": connection, **({"types": types} if types else {})}
        return self._json(f"/debug/config_dump?{urllib.parse.urlencode(query)}")

    def root_namespace(self) -> str:
        return (self._json("/debug/mesh") or {}).get("rootNamespace") or "istio-system"

    def rejects(self) -> float:
        """How often any gateway has refused anything since istiod started."""
        text = (self._get("/metrics") or b"").decode("utf-8", "replace")
        return sum(float(match[2]) for match in re.finditer(_REJECTS, text, re.MULTILINE))

    def _json(self, path: str) -> t.Any:
        """``None`` where there is no such thing."""
        body = self._get(path)
        try:
            return None if body is None else json.loads(body)
        except ValueError:
            raise Failure("not_istiod", f"istiods: what {self.url}{path} answers is not JSON.") from None

    def _get(self, path: str) -> bytes | None:
        try:
            status, body = self._ask(path)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Failure(
                "istiod_down", f"istiods: the istiod at {self.url} does not answer: {reason}.", url=self.url
            ) from None
        if status in (401, 403):
            raise Failure(
                "istiod_forbidden",
                f"istiods: the istiod at {self.url} does not let this look (status {status}). Give it a token of a "
                "service account of its own namespace.",
                url=self.url,
            )
        if status not in (200, 404):
            raise Failure(
                "istiod_down", f"istiods: the istiod at {self.url} answers with status {status}.", url=self.url
            )
        return body if status == 200 else None

    def _ask(self, path: str) -> tuple[int, bytes]:
        for _try in range(2):
            fresh = self._connection.sock is None
            try:
                self._connection.request("GET", path, headers=self._headers)
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (ConnectionError, http.client.BadStatusLine):
                # One that was open may have been closed meanwhile.
                self._connection.close()
                if fresh:
                    raise
        raise http.client.RemoteDisconnected("it closes connections")


def istiods(urls: list[str], token: str | None, ca_file: str | None, timeout: float) -> list[Istiod]:
    """Read the option ``istiods``."""
    for index, url in enumerate(urls):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise invalid(f"istiods[{index}]", describe(url), "a URL such as http://127.0.0.1:15014")
    if not urls:
        raise invalid("istiods", "none", "the URL of each istiod that a gateway can be connected to")
    return [Istiod(url, token, ca_file, timeout) for url in urls]
