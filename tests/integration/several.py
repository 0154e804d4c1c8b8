# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine as several gateways, and playbooks on all of them."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import typing as t

from plays import Site, write_inventory

BOOK = "playbooks/status.yml"
PASSWORD = "a-word-that-is-nowhere-else"


class Fleet(t.NamedTuple):
    """Three gateways on this machine, and a host that nobody can reach."""

    folder: pathlib.Path
    sites: dict[str, Site]

    def play(self, book: str, *options: str, **variables: t.Any) -> str:
        """What a play printed; it begins with its exit code."""
        path = self.folder / "more.json"
        path.write_text(json.dumps(variables))
        command = ["-i", str(self.folder / "inventory"), "--forks", "2", "-e", f"@{path}", *options, book]
        done = next(iter(self.sites.values())).run(*command)
        return f"{done.returncode}\n{done.stdout}{done.stderr}"

    def status(self, *options: str, **variables: t.Any) -> tuple[int, str, dict[str, t.Any]]:
        """Exit code, output and picture."""
        file = self.folder / "status.json"
        file.unlink(missing_ok=True)
        output = self.play(BOOK, *options, envoy_status_json=str(file), **variables)
        picture = json.loads(file.read_text()) if file.exists() else {}
        return int(output.partition("\n")[0]), output, picture

    def states(self, **variables: t.Any) -> dict[str, str]:
        _status, _output, picture = self.status(**variables)
        return {row["name"]: row["state"] for row in picture["hosts"]}

    def changed(self, output: str) -> dict[str, int]:
        """How many tasks changed something, by host."""
        recap = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)
        return {name: int(count) for name, count in recap}


@contextlib.contextmanager
def gateways(
    extension: pathlib.Path,
    folder: pathlib.Path,
    names: list[str],
    own: dict[str, dict[str, t.Any]] | None = None,
    **others: dict[str, t.Any],
) -> t.Iterator[Fleet]:
    """:param own: variables of some of the gateways.
    :param others: more hosts, each with what sets it apart from the first of the gateways.
    """
    with contextlib.ExitStack() as stack:
        sites = {}
        for name in names:
            sites[name] = Site(extension)
            sites[name].variables["envoy_filters_secrets"] = {"foo_password": PASSWORD}
            sites[name].variables.update((own or {}).get(name, {}))
            stack.callback(sites[name].remove)
        hosts = {name: site.variables for name, site in sites.items()}
        more = {name: {**sites[names[0]].variables, **variables} for name, variables in others.items()}
        write_inventory(folder / "inventory", {**hosts, **more})
        yield Fleet(folder, sites)
