# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the Kubernetes API, by the library that ``kubernetes.core`` uses too."""

from __future__ import annotations

import email.utils
import json
import re
import socket
import time
import traceback
import typing as t
import urllib.parse

from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure

try:
    import kubernetes
    import urllib3

    KUBERNETES_ERROR = None
except ImportError:
    KUBERNETES_ERROR = traceback.format_exc()

#: Of server-side apply: whose fields these are.
MANAGER = "moe.gateway"

Object = dict[str, t.Any]


class Reply(t.NamedTuple):
    object: Object
    #: what the API server, or a webhook that it asked, said beside its answer
    warnings: list[str]


class Refused(Exception):
    """The API server took a request, and said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Place(t.NamedTuple):
    """Where one object is."""

    #: such as ``v1`` or ``networking.istio.io/v1alpha3``
    version: str
    #: the kind in its plural, as paths have it
    plural: str
    #: empty for what is in none
    namespace: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    def __str__(self) -> str:
        inside = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.plural} {inside}".rstrip()

    @property
    def folder(self) -> str:
        inside = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{_root(self.version)}{inside}/{self.plural}"


def _root(version: str) -> str:
    return f"/{'apis' if '/' in version else 'api'}/{version}"


class Api:
    """:param kubeconfig: a file; by default what ``KUBECONFIG`` names, else ``~/.kube/config``.

    :param context: one of that file; by default its current one.
    :param timeout: seconds for one request.
    """

    def __init__(self, kubeconfig: str | None, context: str | None, timeout: float) -> None:
        self.timeout = timeout
        #: the time of the API server, and by our clock when that was
        self._date = 0.0, 0.0
        try:
            self._client = kubernetes.config.new_client_from_config(kubeconfig, context)
        except (kubernetes.config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            raise Failure(
                "invalid_option",
                f"kubeconfig: found none that can be used at {kubeconfig or 'the default place'}: {error} "
                "Expected the path of a kubeconfig, with the context that is asked for.",
                key="kubeconfig",
            ) from None
        retries = urllib3.Retry(connect=0, read=0, redirect=0, status=0, other=0)
        self._client.rest_client.pool_manager.connection_pool_kw["retries"] = retries

    def now(self) -> float:
        """Seconds since 1970 by the clock of the API server, which is one for all that use it, once it has answered."""
        date, seen = self._date
        return date + time.monotonic() - seen

    def kinds(self, version: str) -> dict[str, tuple[str, bool]]:
        """For each kind of a group and version, its plural, and whether it is in namespaces. An unknown has none."""
        try:
            found = self._request("GET", _root(version)).object["resources"]
        except Refused as refused:
            if refused.status == 404:
                return {}
            raise failure("read", Place(version, "kinds", "", ""), refused) from None
        return {item["kind"]: (item["name"], item["namespaced"]) for item in found if "/" not in item["name"]}

    def get(self, place: Place) -> Object | None:
        try:
            return self._request("GET", place.path).object
        except Refused as refused:
            if refused.status == 404:
                return None
            raise failure("read", place, refused) from None

    def items(self, place: Place, **selectors: str) -> list[Object]:
        """All that is where ``place`` is, whatever its name.

        :param selectors: such as ``labelSelector="app=gateway"``.
        """
        try:
            return self._request("GET", place.folder, query=selectors).object["items"]
        except Refused as refused:
            raise failure("list", place, refused) from None

    def apply(self, place: Place, value: Object, dry_run: bool = False) -> Reply:
        """Server-side apply of our fields, also of those that somebody else has changed meanwhile."""
        query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self._request("PATCH", place.path, value, query, "application/apply-patch+yaml")

    def put(self, place: Place, value: Object) -> Object:
        """Create an object, or replace the one of its ``resourceVersion``; ``Refused`` 409 if that has changed."""
        query = {"fieldManager": MANAGER}
        if "resourceVersion" in value["metadata"]:
            return self._request("PUT", place.path, value, query).object
        return self._request("POST", place.folder, value, query).object

    def delete(self, place: Place) -> None:
        try:
            self._request("DELETE", place.path)
        except Refused as refused:
            if refused.status != 404:
                raise failure("delete", place, refused) from None

    def forward(self, pod: Place, port: int) -> socket.socket:
        """A connection to a port of a Pod, from within: to what listens there, it comes from its own host."""
        # Takes long to import, and few need it.
        from kubernetes.stream import portforward

        core = kubernetes.client.CoreV1Api(self._client)
        try:
            opened = portforward(core.connect_get_namespaced_pod_portforward, pod.name, pod.namespace, ports=str(port))
        except kubernetes.client.ApiException as error:
            status = re.search(r"Handshake status (\d+)", str(error.reason))
            raise Refused(int(status[1]) if status else 0, " ".join(str(error.reason).split())[:200]) from None
        connection = opened.socket(port)
        connection.settimeout(self.timeout)
        return connection

    def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        query: dict[str, str] | None = None,
        content: str = "application/json",
    ) -> Reply:
        headers = {"Accept": "application/json", "Content-Type": content}
        for item in self._client.configuration.auth_settings().values():
            headers[item["key"]] = item["value"]
        url = f"{self._client.configuration.host}{path}?{urllib.parse.urlencode(query or {})}"
        try:
            response = self._client.rest_client.pool_manager.request(
                method,
                url,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=self.timeout,
            )
        except urllib3.exceptions.HTTPError as error:
            raise Failure(
                "api_down", f"The Kubernetes API at {self._client.configuration.host} does not answer: {_cause(error)}."
            ) from None
        date = email.utils.parsedate_to_datetime(response.headers.get("Date", "Thu, 01 Jan 1970 00:00:00 GMT"))
        self._date = date.timestamp(), time.monotonic()
        answer = _json(response.data)
        if response.status >= 400:
            raise Refused(response.status, str(answer.get("message") or f"status {response.status}"))
        # 299 - "text"
        warnings = [text.partition(" ")[2].partition(" ")[2].strip('"') for text in response.headers.getlist("Warning")]
        return Reply(answer, warnings)


def _json(data: bytes) -> Object:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = {"message": data.decode("utf-8", "replace")}
    return answer if isinstance(answer, dict) else {}


def _cause(error: Exception) -> str:
    """What lies behind a chain of wrappers, in one line."""
    reason = getattr(error, "reason", None) or error
    return " ".join(str(getattr(reason, "strerror", None) or reason).split())


def failure(verb: str, place: Place, refused: Refused) -> Failure:
    """What to raise where the API server said no."""
    code = "api_forbidden" if refused.status in (401, 403) else "api_refused"
    return Failure(
        code, f"The Kubernetes API does not let this {verb} {place}: {refused.message}.", status=refused.status
    )
