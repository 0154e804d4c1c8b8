#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one HTTP filter of a running Envoy to a revision."""

from __future__ import annotations

DOCUMENTATION = r"""
module: envoy_filter
short_description: Bring one HTTP filter of a running Envoy to a revision, and prove that Envoy runs it
version_added: 0.1.0
description:
  - Publishes the configuration of one HTTP filter to a running Envoy, without a restart and without draining
    a connection.
  - Published is not applied. The module reports success only once Envoy's own counters show that it runs the new
    configuration.
  - A throwaway Envoy has to load the configuration first. If the running one refuses it all the same, the last good
    configuration is put back and the module fails with Envoy's reason.
  - An unchanged revision changes nothing. A file that somebody else edited or removed, and a refusal that somebody
    else caused, are found, reported in RV(found) and mended.
options:
  name:
    description:
      - The name of the filter in the listener's chain, which takes it from O(directory)C(/filters/<name>.json).
      - Lower-case letters, digits and C(. _ -), 63 at most.
    type: str
    required: true
  state:
    description:
      - V(present) brings the filter to the revision that the other options describe.
      - V(absent) takes that away. The filter then refuses all traffic, unless O(purge=true).
    type: str
    choices: [present, absent]
    default: present
  purge:
    description:
      - With O(state=absent), the filter has left the chain of every listener, so its files are removed as well.
      - Fails while a listener still names the filter.
    type: bool
    default: false
  engine:
    description:
      - How Envoy runs the filter. Required with O(state=present).
      - V(dynamic_module) is a compiled library with Envoy's dynamic modules ABI.
      - V(golang) is a compiled library for C(envoy.filters.http.golang), which only Envoy's contrib build and Istio's
        proxy have.
      - V(native) is any filter that Envoy brings along.
    type: str
    choices: [dynamic_module, golang, native]
  extension:
    description:
      - The path of the compiled library on the gateway. Its file name has to hold the SHA-256 of the file, as
        C(moe.gateway.envoy_extensions) names it, since Envoy never reads a path twice.
      - The file is compared with that digest on every run.
    type: path
  second_runtime:
    description:
      - What to do where Envoy has loaded another O(extension) that Go built, or another version of this one.
      - Go never leaves a process again and supports one runtime in each.
      - V(side_by_side) loads it into the running Envoy all the same, which costs 3 to 4 MB and 5 threads each time.
      - V(hot_restart) refuses that with the failure C(hot_restart_needed), before anything changes. A new process has
        to load it.
    type: str
    choices: [side_by_side, hot_restart]
    default: side_by_side
    version_added: 0.2.0
  filter_name:
    description:
      - Which of the library's filters, for O(engine=dynamic_module). Default is O(name).
    type: str
  config:
    description:
      - The filter's configuration. For O(engine=dynamic_module) the library gets it as JSON. For O(engine=native) it is
        Envoy's own message with its C(@type). For O(engine=golang) it is C(library_id), C(library_path), C(plugin_name)
        and C(plugin_config); the library's digest is appended to C(library_id), since Envoy tells libraries apart by
        that alone.
      - C(${secret.NAME}) in any string stands for an entry of O(secrets). C($${secret.) is a literal C(${secret.).
    type: dict
    default: {}
  secrets:
    description:
      - What O(config) and O(probe) refer to, as a mapping of names to strings. Others may be in it.
    type: raw
    default: {}
  redact:
    description:
      - With O(engine=dynamic_module) and a O(config) that refers to O(secrets), hand it to the library inside an Envoy
        C(GenericSecret) message, which Envoy's admin interface prints as C([redacted]).
      - A library that takes nothing but JSON refuses that; set V(false) for it, and its secrets show in the admin
        interface.
    type: bool
    default: true
extends_documentation_fragment: [moe.gateway.gateway, moe.gateway.probe]
notes:
  - Without pipelining, Ansible puts every module with its options into a temporary file that only its user may read.
    With C(ansible_pipelining) set for the task, as the role C(moe.gateway.envoy_filters) does it, there is none.
seealso:
  - module: moe.gateway.envoy_config
  - module: moe.gateway.envoy_rollback
  - module: moe.gateway.envoy_info
  - name: Envoy's extension config discovery service
    description: How Envoy takes the configuration of one filter.
    link: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/overview/extension
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Rotate the password of foo
  moe.gateway.envoy_filter:
    name: basic_auth
    engine: dynamic_module
    extension: "/opt/envoy/extensions/basic_auth-{{ digest }}.so"
    config:
      realm: httpbin
      users:
        - username: foo
          password: ${secret.foo_password}
    secrets:
      foo_password: "{{ vault_foo_password }}"
    probe:
      - url: http://127.0.0.1:10000/status/200
        headers: {host: httpbin.example.com}
        basic_auth: foo:${secret.foo_password}
        status: 200
  vars:
    ansible_pipelining: true

- name: Limit the rate of requests with a filter that Envoy brings along
  moe.gateway.envoy_filter:
    name: rate
    engine: native
    config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
      stat_prefix: rate
      token_bucket: {max_tokens: 100, tokens_per_fill: 100, fill_interval: 1s}
      # Without these two, Envoy limits nothing.
      filter_enabled: {default_value: {numerator: 100}}
      filter_enforced: {default_value: {numerator: 100}}

- name: Take a filter away; until it leaves the chain, it refuses all traffic
  moe.gateway.envoy_filter:
    name: basic_auth
    state: absent
"""

RETURN = r"""
action:
  description:
    - What was done, or in check mode would be done.
    - V(none), V(published) a new revision, V(healed) the same revision, which was not in service as it should be,
      V(removed) the revision with O(state=absent), V(restored) the last good one, after a failure.
  returned: always
  type: str
  sample: published
version:
  description: What Envoy reports as C(version_text), a keyed digest of the content and the number of the publish.
  returned: success, unless the files were purged
  type: str
  sample: 3f0a9c5be1d04c55-12
previous_version:
  description: The version that was on disk before.
  returned: success, if there was one
  type: str
  sample: 9b1d22c07ae34f10-11
generation:
  description: The number of the publish.
  returned: success, unless the files were purged
  type: int
  sample: 12
propagation_ms:
  description: Milliseconds from the rename of the file to the moment when Envoy's counters showed that it runs it.
  returned: when something was published
  type: float
  sample: 1.4
restart_epoch:
  description: Envoy's hot restart epoch.
  returned: success
  type: int
  sample: 0
uptime_s:
  description: Seconds since Envoy's current epoch began.
  returned: success
  type: int
  sample: 86400
loaded:
  description:
    - Proof from the kernel that the Envoy which serves runs the code of O(extension). It has this file mapped, whose
      digest is that in its name; or one that was under this path before, and held the same, as only root can tell.
    - Null without an extension, and where check mode would publish something.
  returned: success, unless the files were purged
  type: dict
  contains:
    path:
      description: The file.
      type: str
    sha256:
      description: Its digest.
      type: str
    pid:
      description: The Envoy that has it mapped.
      type: int
    device:
      description: Number of the file's device, as the kernel writes it.
      type: str
    inode:
      description: Number of the file there.
      type: int
  sample:
    path: /opt/envoy/extensions/basic_auth-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.so
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    pid: 4711
    device: "08:01"
    inode: 131075
found:
  description: What was not as it should be, and is now.
  returned: always
  type: list
  elements: str
  sample: ["the file had been changed by somebody else: its 5 bytes are not JSON"]
failure:
  description: Why it failed.
  returned: failure
  type: dict
  contains:
    code:
      description:
        - A word to compare, such as V(refused_in_validation), V(refused_by_envoy), V(envoy_down), V(invalid_option).
      type: str
    message:
      description: The same as C(msg).
      type: str
    details:
      description: What else is known, such as Envoy's C(reason), or C(restored), the version that was put back.
      type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _arguments, _library, _options
from ansible_collections.moe.gateway.plugins.module_utils._decision import Process
from ansible_collections.moe.gateway.plugins.module_utils._kinds import filter_kind
from ansible_collections.moe.gateway.plugins.module_utils._resolve import revision
from ansible_collections.moe.gateway.plugins.module_utils._revision import check_secrets
from ansible_collections.moe.gateway.plugins.module_utils._transaction import Desired, Gateway


def apply(params: dict[str, t.Any], gateway: Gateway) -> dict[str, t.Any]:
    """The result of the module; a ``Failure`` where there is none."""
    kind = filter_kind(params["name"])
    secrets = check_secrets(params["secrets"])
    probe = _options.probes(params, secrets)
    if params["state"] == "absent" and (params["purge"] or not gateway.shelf(kind).exists()):
        purged = params["purge"] and gateway.purge(kind)
        return {"changed": purged, "action": "removed" if purged else "none", "found": []}
    wanted = revision(params, secrets, gateway.key)
    library = _library.Use(wanted.extension, params["second_runtime"])

    def check_after(process: Process) -> None:
        library.check_after(process)
        probe()

    outcome = gateway.execute(
        gateway.prepare(
            kind,
            Desired(
                wanted.content,
                wanted.view,
                secrets=tuple(secrets.values()),
                check_before=library.check_before,
                check_after=check_after,
            ),
        )
    )
    action = outcome.plan.action
    loaded = library.loaded() if gateway.write or action == "none" else None
    return {
        "changed": action != "none",
        "action": "removed" if params["state"] == "absent" and action == "published" else action,
        "version": str(outcome.version),
        "generation": outcome.version.generation,
        "previous_version": str(outcome.previous) if outcome.previous else None,
        "propagation_ms": outcome.propagation_ms,
        "restart_epoch": outcome.server.restart_epoch,
        "uptime_s": outcome.server.uptime,
        "loaded": loaded._asdict() if loaded else None,
        "found": outcome.plan.found,
        "diff": {
            "before_header": f"{kind.name} {outcome.previous or ''}".strip(),
            "after_header": f"{kind.name} {outcome.version}",
            "before": outcome.before,
            "after": wanted.view,
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.OPTIONS,
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "bool", "default": False},
            "engine": {"type": "str", "choices": ["dynamic_module", "golang", "native"]},
            "extension": {"type": "path"},
            "second_runtime": _arguments.SECOND_RUNTIME,
            "filter_name": {"type": "str"},
            "config": {"type": "dict", "default": {}},
            # Ansible would make a dict of a text, and print that: it only hides the text as it came.
            "secrets": {"type": "raw", "default": {}, "no_log": True},
            "redact": {"type": "bool", "default": True},
            "probe": _options.PROBE,
        },
        required_if=[("state", "present", ("engine",))],
        supports_check_mode=True,
    )
    _options.warn(module)
    _arguments.run(module, apply)


if __name__ == "__main__":
    main()
