# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what ``envoy_info`` tells of each gateway to one picture of the fleet and a verdict. Pure; on the controller."""

from __future__ import annotations

import datetime
import typing as t

#: Worst first: a gateway for which several hold is in the first of them.
STATES = {
    "unreachable": "Ansible can't reach the host",
    "unknown": "the host answers, but can't be judged",
    "down": "no Envoy answers there",
    "closed": "it refuses all traffic",
    "drifted": "it does not run what the variables say, or what this collection published",
    "expired": "a credential has expired",
    "expiring": "a credential is about to expire",
    "ok": "it is as it should be",
}
#: What is worth a word and no alarm.
_GOOD = ("ok", "expiring")
_DOWN = ("envoy_down", "envoy_hung")


class Host(t.NamedTuple):
    """One gateway, as far as it could be asked."""

    name: str
    #: the result of ``envoy_info``, or of ``istio_mounts`` for a gateway in Kubernetes, whether it failed or not
    look: dict[str, t.Any]
    #: the version of Envoy that should run; empty if nobody says
    envoy_version: str = ""
    #: names of the filters that listeners should name
    filters: tuple[str, ...] = ()
    #: whether there should be a listener
    listens: bool = True
    #: for one that has its filters from an istiod, by filter: what a check of ``istio_filter`` came to, and ``runs``,
    #: whether the gateway, or every Pod of it, runs what is there
    published: dict[str, dict[str, t.Any]] = {}


def fleet(hosts: t.Iterable[Host], now: str, warn_days: float) -> dict[str, t.Any]:
    """The picture.

    :param now: UTC, ISO 8601.
    :param warn_days: a credential that ends within that many days is about to expire.
    """
    rows = [_row(host, now, _later(now, warn_days)) for host in hosts]
    counts = {state: sum(row["state"] == state for row in rows) for state in STATES}
    failures = {row["name"]: "; ".join(row["problems"]) for row in rows if row["state"] not in _GOOD}
    return {
        "at": now,
        "ok": not failures,
        "summary": _summary(counts, len(rows)),
        "counts": counts,
        "failures": failures,
        "hosts": rows,
    }


def _summary(counts: dict[str, int], total: int) -> str:
    if not total:
        return "There are no gateways."
    bad = [f"{count} {state}" for state, count in counts.items() if count and state != "ok"]
    fine = f"{counts['ok']} of {total} gateways {'is' if counts['ok'] == 1 else 'are'} fine"
    return f"{fine}; {', '.join(bad)}." if bad else f"{fine}."


def _row(host: Host, now: str, soon: str) -> dict[str, t.Any]:
    found: list[tuple[str, str]] = []
    look = host.look
    row: dict[str, t.Any] = {
        "name": host.name,
        "state": "ok",
        "problems": [],
        "warnings": [],
        "envoy": None,
        "pods": None,
        "listeners": [],
        "filters": [],
        "resources": [],
        "last_change": None,
        "expires": None,
        "counters": _counters({}),
    }
    if look.get("unreachable"):
        found.append(("unreachable", _message(look, "no connection")))
    elif "replicas" in look:
        row["pods"] = {"wanted": look["replicas"], "available": look["available"]}
        row["filters"] = [_item(_of_all_pods(name, result)) for name, result in host.published.items()]
        found.extend(_of_pods(look))
        found.extend(_of_istiod(host))
        for item in row["filters"]:
            found.extend(_of_item(item))
    elif "envoy" not in look:
        code = (look.get("failure") or {}).get("code", "")
        found.append(("down" if code in _DOWN else "unknown", _message(look, "it was not looked at")))
    else:
        row["envoy"] = look["envoy"]
        row["listeners"] = look["listeners"]
        row["filters"] = [_item(_with_published(item, host.published)) for item in look["filters"]]
        row["resources"] = [_item(item) for item in look.get("resources", [])]
        row["counters"] = _counters(look["counters"])
        found.extend(_of_envoy(host, look))
        found.extend(_of_istiod(host))
        for item in (*row["resources"], *row["filters"]):
            found.extend(_of_item(item))
        changed = [item for item in row["filters"] + row["resources"] if item["change"]]
        if changed:
            last = max(changed, key=lambda item: item["change"]["at"])
            row["last_change"] = {"what": last["name"], **last["change"]}
        ends = [(end["at"], item["name"], end) for item in row["filters"] for end in item["expiries"]]
        for at, name, end in sorted(ends, key=lambda entry: entry[:2]):
            who = f"{name}: {end['path']}" + (f" ({end['name']})" if end["name"] else "")
            if at <= now:
                found.append(("expired", f"{who} expired at {at}"))
            elif at <= soon:
                found.append(("expiring", f"{who} expires at {at}"))
        if ends:
            row["expires"] = min(ends, key=lambda entry: entry[:2])[0]
    row["problems"] = [text for state, text in found if state not in _GOOD]
    row["warnings"] = [text for state, text in found if state in _GOOD]
    row["state"] = min((state for state, _text in found), key=list(STATES).index, default="ok")
    return row


def _message(look: dict[str, t.Any], default: str) -> str:
    return " ".join(str(look.get("msg") or default).split())


def _of_envoy(host: Host, look: dict[str, t.Any]) -> t.Iterator[tuple[str, str]]:
    envoy = look["envoy"]
    if envoy["state"] != "LIVE":
        yield "closed", f"Envoy is {envoy['state']}"
    if host.envoy_version and envoy["version"] != host.envoy_version:
        yield "drifted", f"Envoy {envoy['version']} runs, envoy_version is {host.envoy_version}"
    if host.listens and not look["listeners"]:
        yield "closed", "Envoy has no listener"
    control_plane = look.get("control_plane")
    if control_plane and not control_plane["connected"]:
        yield "drifted", "Envoy is connected to no control plane, and goes on with what it has"
    named = {item["name"] for item in look["filters"]}
    for name in host.filters:
        if name not in named:
            yield "drifted", f"{name}: no listener names this filter"


def _of_pods(look: dict[str, t.Any]) -> t.Iterator[tuple[str, str]]:
    wanted, available = look["replicas"], look["available"]
    if not available:
        yield "down", f"none of {wanted} Pods serves" if wanted else "it has no Pods"
    elif available < wanted:
        yield "drifted", f"{available} of {wanted} Pods serve"
    for file in look["files"]:
        if file not in look["previous_files"]:
            yield "drifted", f"its Pods lack {file}"


def _of_istiod(host: Host) -> t.Iterator[tuple[str, str]]:
    for name, result in host.published.items():
        if "msg" in result:
            yield "unknown", f"{name}: what istiod is to bring can't be told: {_message(result, '')}"


def _with_published(item: dict[str, t.Any], published: dict[str, dict[str, t.Any]]) -> dict[str, t.Any]:
    """With what the EnvoyFilter has, in place of what is on disk."""
    result = published.get(item["name"])
    if result is None or "version" not in result:
        return item
    return {
        **item,
        **_published(result, "the gateway has not got it, and refuses all traffic" if item["closed"] else ""),
    }


def _of_all_pods(name: str, result: dict[str, t.Any]) -> dict[str, t.Any]:
    """A filter of a gateway in Kubernetes, whose Envoys nobody looks at: all that is known is what istiod knows."""
    if "version" not in result:
        return {"name": name}
    return {"name": name, **_published(result, "" if result["runs"] else "not every Pod has acknowledged it")}


def _published(result: dict[str, t.Any], lacking: str) -> dict[str, t.Any]:
    version = result["version"]
    there = version if result["action"] == "none" else result["previous_version"]
    return {
        "desired_digest": version.partition("-")[0],
        "disk_version": there,
        "running_version": there if result["runs"] else None,
        "in_service": result["runs"],
        "action": result["action"],
        "found": [*result["found"], *([lacking] if lacking else [])],
    }


def _item(item: dict[str, t.Any]) -> dict[str, t.Any]:
    """A filter, or all clusters, or all listeners."""
    disk = item.get("disk_version")
    digest = item.get("desired_digest")
    return {
        "name": item["name"],
        "desired": digest,
        "disk": disk,
        "running": item.get("running_version"),
        "as_desired": None if digest is None else bool(disk and disk.startswith(f"{digest}-")),
        "in_service": item.get("in_service"),
        "action": item.get("action"),
        "closed": bool(item.get("closed")),
        "disk_problem": item.get("disk_problem"),
        "found": item.get("found") or [],
        "extension": item.get("extension"),
        "change": item.get("change"),
        "generations": item.get("generations") or [],
        "expiries": item.get("expiries") or [],
        "counters": item.get("counters") or {},
    }


def _of_item(item: dict[str, t.Any]) -> t.Iterator[tuple[str, str]]:
    name = item["name"]
    for text in item["found"]:
        if not (item["disk_problem"] and text.startswith("the file ")):
            yield "drifted", f"{name}: {text}"
    if item["disk_problem"]:
        yield "drifted", f"{name}: the file {item['disk_problem']}"
    elif item["in_service"] is False and not item["found"] and not item["closed"]:
        yield "drifted", f"{name}: no run has confirmed it"
    if item["closed"] and not item["as_desired"]:
        why = "has no revision" if item["running"] else "has none that Envoy took"
        yield "closed", f"{name}: refuses all traffic, since it {why}"
    elif item["as_desired"] is False and not item["disk_problem"]:
        change = item["change"] or {}
        how = ""
        if change.get("action") == "rolled_back":
            how = f": it was rolled back at {change['at']}" + _by(change)
        yield "drifted", f"{name}: not what the variables say{how}"
    extension = item["extension"]
    if extension and not extension["loaded"] and not item["closed"]:
        yield "drifted", f"{name}: Envoy does not run {extension['path']}"


def _by(change: dict[str, t.Any]) -> str:
    by = (change.get("origin") or {}).get("by")
    return f" by {by}" if by else ""


def _counters(counters: dict[str, t.Any]) -> dict[str, t.Any]:
    """Requests and connections of all listeners, and what extensions count."""
    result: dict[str, t.Any] = {"requests": 0, "connections": 0, "extensions": {}}
    for name, value in counters.items():
        if name.startswith("dynamicmodulescustom.") and isinstance(value, int):
            result["extensions"][name.partition(".")[2]] = value
        elif name.startswith("http.") and not name.startswith("http.admin."):
            key = {"downstream_rq_total": "requests", "downstream_cx_active": "connections"}.get(
                name.rpartition(".")[2]
            )
            if key:
                result[key] += int(value)
    return result


def _later(now: str, days: float) -> str:
    at = datetime.datetime.strptime(now, "%Y-%m-%dT%H:%M:%SZ") + datetime.timedelta(days=days)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """For people: ``3 d 4 h``."""
    rest = int(seconds)
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def span(start: str, end: str) -> float:
    """Seconds from one moment to another, both UTC, ISO 8601."""
    first, last = (datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ") for text in (start, end))
    return (last - first).total_seconds()


def ago(at: str, now: str) -> str:
    """For people: ``3 h ago``, or ``in 3 h``."""
    seconds = span(at, now)
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def short(version: str | None) -> str:
    """A version as people tell it apart."""
    digest, dash, generation = (version or "").partition("-")
    return f"{digest[:6]}{dash}{generation}" or "–"


def change_text(change: dict[str, t.Any] | None, now: str) -> str:
    """When, what, by whom."""
    return f"{ago(change['at'], now)}, {change['action'].replace('_', ' ')}{_by(change)}" if change else "not noted"


_HEAD = (
    "HOST",
    "STATE",
    "ENVOY",
    "EPOCH",
    "UP",
    "FILTER",
    "DESIRED",
    "DISK",
    "RUNS",
    "EXTENSION",
    "REJECTED",
    "EXPIRES",
)


def table(picture: dict[str, t.Any]) -> list[str]:
    """The picture as lines for a terminal: a line for each filter of each gateway, then what is wrong."""
    now = picture["at"]
    cells: list[tuple[str, ...]] = [(*_HEAD, "LAST CHANGE")]
    for row in picture["hosts"]:
        envoy = row["envoy"]
        head = [row["name"], row["state"]]
        head += [envoy["version"], str(envoy["restart_epoch"]), duration(envoy["uptime_s"])] if envoy else _unknown(row)
        for index, item in enumerate(row["filters"] or [None]):
            start = head if index == 0 else [""] * len(head)
            cells.append((*start, *(_cells(item, now) if item else ["–"] * 8)))
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in cells]
    for row in picture["hosts"]:
        lines += [f"{row['name']}: {row['state']}: {text}" for text in row["problems"] + row["warnings"]]
    return [*lines, picture["summary"]]


def _unknown(row: dict[str, t.Any]) -> list[str]:
    pods = row["pods"]
    return [f"{pods['available']} of {pods['wanted']} Pods" if pods else "–", "–", "–"]


def _cells(item: dict[str, t.Any], now: str) -> list[str]:
    extension = item["extension"]
    ends = sorted(end["at"] for end in item["expiries"])
    return [
        item["name"],
        "–" if item["desired"] is None else "=" if item["as_desired"] else short(item["desired"]),
        short(item["disk"]),
        "=" if item["running"] == item["disk"] else short(item["running"]),
        extension["sha256"][:12] if extension else "–",
        str(item["counters"].get("rejected", "–")),
        ago(ends[0], now) if ends else "–",
        change_text(item["change"], now),
    ]
