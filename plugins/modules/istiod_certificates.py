#!/usr/bin/python
# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the certificates by which the programs of a control plane know each other."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istiod_certificates
short_description: Make the certificates by which the programs of a control plane know each other
version_added: 0.2.0
description:
  - Has authorities and certificates of their own in a directory of the host, which only its owner can look into.
  - One that says something else by now, that is damaged, or that ends soon is made anew.
  - Is a module of the role C(moe.gateway.istiod).
options:
  directory:
    description: Where they are, as C(NAME.pem) and C(NAME.key), with a note in C(NAME.json).
    type: path
    required: true
  authorities:
    description: The names of the authorities.
    type: list
    elements: str
    required: true
  certificates:
    description: The certificates, each for a server and a client.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of its files.
        type: str
        required: true
      authority:
        description: Which of O(authorities) signs it.
        type: str
        required: true
      user:
        description: Its common name, which a Kubernetes API server takes for a user. Default is O(certificates[].name).
        type: str
      group:
        description: Its organization, which a Kubernetes API server takes for a group.
        type: str
        default: ""
      hosts:
        description: DNS names and IP addresses of the server that shows it.
        type: list
        elements: str
        default: []
      kubeconfig:
        description: Where a kubeconfig is to be that holds it with its key (mode 0600).
        type: path
  server:
    description: The URL of the API server in these kubeconfigs.
    type: str
  days:
    description: How long a certificate is good for, in days. One of an authority is ten times that.
    type: int
    default: 365
  renew:
    description: How many days before its end a run makes it anew. For an authority it is ten times that.
    type: int
    default: 90
extends_documentation_fragment: [moe.gateway.host]
notes:
  - Needs Python 3.9 or later and the program C(openssl) (1.1.1 or later) on the host.
author: moe.gateway contributors (@moe-gateway)
"""

EXAMPLES = r"""
- name: Have certificates for etcd and its client
  moe.gateway.istiod_certificates:
    directory: /etc/istio/pki
    authorities: [etcd-ca]
    certificates:
      - name: etcd
        authority: etcd-ca
        hosts: [127.0.0.1]
      - name: etcd-client
        authority: etcd-ca
"""

RETURN = r"""
made:
  description: The names of what was made, or in check mode would be, and paths of kubeconfigs.
  returned: success
  type: list
  elements: str
digests:
  description:
    - The SHA-256 of each certificate in PEM form, of authorities too. It is empty for one that check mode would make.
  returned: success
  type: dict
failure:
  description: Why it failed, as C(code), C(message) and C(details).
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.moe.gateway.plugins.module_utils import _certificates
from ansible_collections.moe.gateway.plugins.module_utils._failure import conclude, invalid
from ansible_collections.moe.gateway.plugins.module_utils._openssl import Folder


def run(params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    if not 0 < params["renew"] < params["days"]:
        raise invalid("renew", str(params["renew"]), f"a number of days from 1 to {params['days'] - 1}")
    names = [_certificates.read_authority(name, f"authorities[{at}]") for at, name in enumerate(params["authorities"])]
    wanted = [
        (_certificates.read({**item, "user": item["user"] or item["name"]}, f"certificates[{at}]", names), item)
        for at, item in enumerate(params["certificates"])
    ]
    for at, (_certificate, item) in enumerate(wanted):
        if item["kubeconfig"] and not params["server"]:
            raise invalid("server", "nothing", f"a URL, since certificates[{at}].kubeconfig is to hold it")
    folder = Folder(params["directory"], params["days"], params["renew"], write)
    digests = {name: folder.authority(name) for name in names}
    for certificate, item in wanted:
        digests[certificate.name] = folder.certificate(certificate, digests[certificate.authority])
        if item["kubeconfig"]:
            folder.kubeconfig(item["kubeconfig"], params["server"], certificate)
    return {
        "changed": bool(folder.made),
        "made": folder.made,
        "digests": digests,
        "diff": {"before": "", "after": "".join(f"made anew: {name}\n" for name in folder.made)},
    }


def main() -> None:
    certificate = {
        "name": {"type": "str", "required": True},
        "authority": {"type": "str", "required": True},
        "user": {"type": "str"},
        "group": {"type": "str", "default": ""},
        "hosts": {"type": "list", "elements": "str", "default": []},
        "kubeconfig": {"type": "path"},
    }
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "authorities": {"type": "list", "elements": "str", "required": True},
            "certificates": {"type": "list", "elements": "dict", "required": True, "options": certificate},
            "server": {"type": "str"},
            "days": {"type": "int", "default": 365},
            "renew": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    conclude(module, lambda: run(module.params, write=not module.check_mode))


if __name__ == "__main__":
    main()
