#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a running Envoy back to a generation of a filter, or of its clusters and listeners, that it ran before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: envoy_rollback
short_description: Bring one HTTP filter of a running Envoy, or its listeners, back to a generation that it ran before
version_added: 0.2.0
description:
  - Publishes a generation that the gateway has kept, by the transaction that M(moe.gateway.envoy_filter) uses.
    A throwaway Envoy has to load it first, and the module succeeds only once the running one has taken it.
  - All of the generation comes back, its secrets and its extension too. They are on the gateway, so whoever rolls back
    need not know them.
  - "The previous generation is the newest one with another content from before the last change that was no rollback.
    So the module can be repeated: a filter that is rolled back stays where it is. Further back, name a generation."
  - It is a new publish with a number of its own. The generation that was left is kept too, and can be gone back to.
  - The variables are as they were, so the next M(moe.gateway.envoy_filter) with them brings what they say.
options:
  name:
    description: The name of the filter. Either this or O(config) is required.
    type: str
  config:
    description:
      - The clusters and listeners, instead of a filter. They go back together, in the order of
        M(moe.gateway.envoy_config), so a generation of each has to be named.
    type: dict
    suboptions:
      clusters:
        description: A version of the clusters, as M(moe.gateway.envoy_config) and M(moe.gateway.envoy_info) tell it.
        type: str
        required: true
      listeners:
        description: A version of the listeners.
        type: str
        required: true
  generation:
    description:
      - The number of a generation that is kept. M(moe.gateway.envoy_info) lists them.
      - Each gateway has its own numbers.
    type: int
  version:
    description: The same as its whole version, as RV(previous_version) tells it, which is then compared too.
    type: str
  at:
    description:
      - The generation that was in service at this time, which is the same for a whole fleet, unlike a number.
      - ISO 8601 with a zone, such as V(2030-01-31T12:00:00Z), by the clock of the gateway.
    type: str
  second_runtime:
    description:
      - What to do where the generation needs an extension that Go built, and Envoy has loaded another one, as for
        M(moe.gateway.envoy_filter).
    type: str
    choices: [side_by_side, hot_restart]
    default: side_by_side
  secrets:
    description: What O(probe) refers to, as a mapping of names to strings.
    type: raw
    default: {}
extends_documentation_fragment: [moe.gateway.gateway, moe.gateway.probe]
seealso:
  - module: moe.gateway.envoy_filter
  - module: moe.gateway.envoy_info
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Take the last change back
  moe.gateway.envoy_rollback:
    name: basic_auth

- name: Bring listeners and clusters back
  moe.gateway.envoy_rollback:
    config:
      clusters: 3f0a9c5be1d04c55-4
      listeners: 9b1d22c07ae34f10-6

- name: Bring back what ran before the change of this noon
  moe.gateway.envoy_rollback:
    name: basic_auth
    at: "2030-01-31T12:00:00Z"
    probe:
      - url: http://127.0.0.1:10000/status/200
        headers: {host: httpbin.example.com}
        status: 401
"""

RETURN = r"""
clusters:
  description: What was done to the clusters, as for M(moe.gateway.envoy_config).
  returned: success, with O(config)
  type: dict
listeners:
  description: What was done to the listeners, as for M(moe.gateway.envoy_config).
  returned: success, with O(config)
  type: dict
denied:
  description: Filters that had no revision and now refuse all traffic.
  returned: success, with O(config)
  type: list
  elements: str
action:
  description:
    - What was done, or in check mode would be done, with O(name).
    - V(none), V(rolled_back), V(healed) what was there already but not in service as it should be, V(restored) what ran
      before, after a failure.
  returned: always
  type: str
  sample: rolled_back
version:
  description: What Envoy reports as C(version_text).
  returned: success, with O(name)
  type: str
  sample: 9b1d22c07ae34f10-13
source_version:
  description: The version that the content was published as before.
  returned: success, with O(name)
  type: str
  sample: 9b1d22c07ae34f10-11
source_at:
  description: When that was, in UTC. Null if that was not noted.
  returned: success, with O(name)
  type: str
  sample: "2030-01-31T11:40:02Z"
previous_version:
  description: The version that was on disk before.
  returned: success, with O(name), if there was one
  type: str
  sample: 3f0a9c5be1d04c55-12
generation:
  description: The number of the publish.
  returned: success, with O(name)
  type: int
  sample: 13
propagation_ms:
  description: Milliseconds from the rename of the file to the moment when Envoy's counters showed that it runs it.
  returned: when something was published
  type: float
  sample: 1.4
restart_epoch:
  description: Envoy's hot restart epoch.
  returned: success, with O(name)
  type: int
  sample: 0
uptime_s:
  description: Seconds since Envoy's current epoch began.
  returned: success, with O(name)
  type: int
  sample: 86400
found:
  description: What was not as it should be, and is now.
  returned: always
  type: list
  elements: str
failure:
  description: Why it failed, as for M(moe.gateway.envoy_filter). V(no_generation) if there is none to go back to.
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import (
    _arguments,
    _config,
    _library,
    _options,
    _way_back,
)
from ansible_collections.moe.gateway.plugins.module_utils._decision import Process
from ansible_collections.moe.gateway.plugins.module_utils._failure import Failure
from ansible_collections.moe.gateway.plugins.module_utils._history import Kept
from ansible_collections.moe.gateway.plugins.module_utils._kinds import CLUSTERS, LISTENERS, Kind, filter_kind, pointers
from ansible_collections.moe.gateway.plugins.module_utils._resolve import kept_extension, kept_secrets
from ansible_collections.moe.gateway.plugins.module_utils._revision import check_secrets
from ansible_collections.moe.gateway.plugins.module_utils._transaction import Desired, Gateway

#: Options that say more of a filter.
_OF_A_FILTER = ("generation", "version", "at")


def apply(params: dict[str, t.Any], gateway: Gateway) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    return _filter(params, gateway) if params["config"] is None else _both(params["config"], gateway)


def _both(versions: dict[str, str], gateway: Gateway) -> dict[str, t.Any]:
    found = []
    for kind in (CLUSTERS, LISTENERS):
        shelf = gateway.shelf(kind)
        wanted = _way_back.Wanted(version=versions[kind.name])
        found.append(_way_back.choose(shelf.history(), shelf.in_service(shelf.record()), wanted, kind.name))
    clusters, listeners = found
    filters = sorted({name for name, _path, _types in pointers(listeners.content)})
    return _config.bring(gateway, clusters.content, listeners.content, filters, (clusters, listeners))


def _filter(params: dict[str, t.Any], gateway: Gateway) -> dict[str, t.Any]:
    kind = filter_kind(params["name"])
    secrets = check_secrets(params["secrets"])
    probe = _options.probes(params, secrets)
    at = params["at"] and _way_back.moment(params["at"], "at")
    wanted = _way_back.Wanted(params["generation"], params["version"], at)
    shelf = gateway.shelf(kind)
    source = _way_back.choose(shelf.history(), shelf.in_service(shelf.record()), wanted, kind.name)
    desired = _desired(kind, source, secrets, probe, params)
    outcome = gateway.execute(gateway.prepare(kind, desired))
    action = outcome.plan.action
    return {
        "changed": action != "none",
        "action": "rolled_back" if action == "published" else action,
        "version": str(outcome.version),
        "generation": outcome.version.generation,
        "source_version": source.origin[0],
        "source_at": source.origin[1],
        "previous_version": str(outcome.previous) if outcome.previous else None,
        "propagation_ms": outcome.propagation_ms,
        "restart_epoch": outcome.server.restart_epoch,
        "uptime_s": outcome.server.uptime,
        "found": outcome.plan.found,
        "diff": {
            "before_header": f"{kind.name} {outcome.previous or ''}".strip(),
            "after_header": f"{kind.name} {outcome.version}",
            "before": outcome.before,
            "after": desired.view,
        },
    }


def _desired(
    kind: Kind, source: Kept, secrets: dict[str, str], probe: t.Callable[[], None], params: dict[str, t.Any]
) -> Desired:
    library = _library.Use(kept_extension(source.content), params["second_runtime"])

    def before(process: Process) -> None:
        try:
            library.check_before(process)
        except Failure as failure:
            if failure.code == "hot_restart_needed":
                # What "previous" leads to changes with the hot restart.
                failure.details["version"] = str(source.version)
            if failure.code != "extension_missing":
                raise
            raise Failure(
                failure.code,
                f"{kind.name}: version {source.version} needs {failure.details['path']}, which is not there any more. "
                "Put it into envoy_extensions again, so that it is copied, or go back to another generation. "
                "Nothing has changed.",
                version=str(source.version),
                **failure.details,
            ) from failure

    def after(process: Process) -> None:
        library.check_after(process)
        probe()

    return Desired(
        source.content,
        source.view or {"version": str(source.version)},
        secrets=[*kept_secrets(source.content, source.view), *secrets.values()],
        source=source,
        check_before=before,
        check_after=after,
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.OPTIONS,
            "name": {"type": "str"},
            "config": {
                "type": "dict",
                "options": {name: {"type": "str", "required": True} for name in ("clusters", "listeners")},
            },
            "generation": {"type": "int"},
            "version": {"type": "str"},
            "at": {"type": "str"},
            "second_runtime": _arguments.SECOND_RUNTIME,
            "probe": _options.PROBE,
            # Ansible would make a dict of a text, and print that: it only hides the text as it came.
            "secrets": {"type": "raw", "default": {}, "no_log": True},
        },
        required_one_of=[("name", "config")],
        mutually_exclusive=[("generation", "version", "at"), *(("config", name) for name in ("name", *_OF_A_FILTER))],
        supports_check_mode=True,
    )
    _arguments.run(module, apply)


if __name__ == "__main__":
    main()
