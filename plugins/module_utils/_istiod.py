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
from ansible_collections.moe.gateway.plugins.module_utils._kubernetes import Api, Place, Refused, failure

_REJECTS = r"^pilot_total_xds_rejects\{([^}]*)\} ([0-9.e+]+)$"
#: Istiods in Pods: their namespace, their labels, their port.
_PODS = r"pods://(?P<namespace>[a-z0-9-]+)/(?P<labels>[^:/?#\s]+=[^:?#\s]+)(?::(?P<port>\d{1,5}))?"
_PORT = 15014


class Istiod:
    """:param url: names it, in results and in errors.

    :param connection: to the port that serves ``/debug`` and ``/metrics``. It stays open: a wait asks again and again.
    """

    def __init__(self, url: str, connection: http.client.HTTPConnection, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connection = connection

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


class _ToPod(http.client.HTTPConnection):
    """Through the Kubernetes API, so to istiod a request comes from its own host, and needs no token."""

    def __init__(self, api: Api, pod: Place, port: int) -> None:
        super().__init__("localhost", port)
        self._api = api
        self._pod = pod

    def connect(self) -> None:
        try:
            self.sock = self._api.forward(self._pod, self.port)
        except Refused as refused:
            if refused.status in (401, 403):
                raise failure("forward a port of", self._pod, refused) from None
            # A Pod that is gone is as good as one that does not answer.
            raise ConnectionError(f"no port of the Pod can be forwarded: {refused.message}") from None


def istiods(
    urls: list[str], token: str | None, ca_file: str | None, timeout: float, api: t.Callable[[], Api]
) -> list[Istiod]:
    """Read the option ``istiods``.

    :param api: the Kubernetes API; called only where an istiod is reached by it.
    """
    for index, url in enumerate(urls):
        parts = urllib.parse.urlsplit(url)
        plain = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
        if not plain and not re.fullmatch(_PODS, url):
            expected = "a URL such as http://127.0.0.1:15014, or pods://istio-system/app=istiod"
            raise invalid(f"istiods[{index}]", describe(url), expected)
    if not urls:
        raise invalid("istiods", "none", "the URL of each istiod that a gateway can be connected to")
    found = []
    for index, url in enumerate(urls):
        pods = re.fullmatch(_PODS, url)
        if pods:
            its = _in_pods(api(), pods["namespace"], pods["labels"], int(pods["port"] or _PORT))
            if not its:
                raise Failure("istiod_down", f"istiods[{index}]: found no Pod that runs, expected one or more: {url}")
            found += its
        else:
            found.append(Istiod(url, _to_url(url, ca_file, timeout), token))
    return found


def _in_pods(api: Api, namespace: str, labels: str, port: int) -> list[Istiod]:
    place = Place("v1", "pods", namespace, "")
    pods = api.items(place, labelSelector=labels, fieldSelector="status.phase=Running")
    names = sorted(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"])
    return [Istiod(f"pods://{namespace}/{name}", _ToPod(api, place._replace(name=name), port)) for name in names]


def _to_url(url: str, ca_file: str | None, timeout: float) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca_file)
        return http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=context)
    return http.client.HTTPConnection(parts.netloc, timeout=timeout)
