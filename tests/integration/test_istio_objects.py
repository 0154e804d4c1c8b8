# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""istio_objects against a real API server."""

from __future__ import annotations

import typing as t

from control_plane import SYSTEM, ControlPlane
from real import Result, run_module

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Thing", "listKind": "ThingList", "plural": "things", "singular": "thing"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
THING = {
    "apiVersion": "example.com/v1",
    "kind": "Thing",
    "metadata": {"name": "one", "namespace": SYSTEM},
    "size": 1,
}
NAMES = ["CustomResourceDefinition things.example.com", f"Thing {SYSTEM}/one"]


def _run(plane: ControlPlane, *objects: t.Any, check: bool = False, **options: t.Any) -> Result:
    wanted = {"kubeconfig": str(plane.kubeconfig), "objects": list(objects), **options}
    return run_module("istio_objects", wanted, check=check, diff=True)


def test_objects_come_and_go(control_plane: ControlPlane) -> None:
    first = _run(control_plane, DEFINITION, THING)
    assert first["applied"] == NAMES, first.output
    second = _run(control_plane, DEFINITION, THING)
    assert (second["changed"], second["applied"]) == (False, []), second.output

    # What somebody else has set stays.
    control_plane.api.apply({**THING, "colour": "red"}, manager="somebody")
    for check, size in ((True, 1), (False, 2)):
        assert _run(control_plane, {**THING, "size": 2}, check=check)["applied"] == NAMES[1:]
        found = control_plane.api.get(THING)
        assert found is not None
        assert (found["size"], found["colour"]) == (size, "red")

    for check in (True, False):
        gone = _run(control_plane, DEFINITION, THING, state="absent", check=check)
        assert gone["deleted"] == NAMES[::-1], gone.output
    again = _run(control_plane, DEFINITION, THING, state="absent")
    assert again["changed"] is False, again.output


def test_what_is_no_object_is_refused(control_plane: ControlPlane) -> None:
    nothing = _run(control_plane, {**THING, "kind": "Nothing"}, timeout=1)
    assert "objects[0].kind: found Nothing of example.com/v1" in nothing["msg"]
    named = _run(control_plane, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not a name"}})
    assert named.code == "api_refused", named.output
    assert "objects[0]: ConfigMap default/Not a name is refused" in named["msg"]
    nameless = _run(control_plane, {"apiVersion": "v1", "kind": "Namespace", "metadata": {}})
    assert "objects[0].metadata.name" in nameless["msg"]
