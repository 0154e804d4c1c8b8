# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web page of the playbook status: self-contained, escaped, and in a real browser at 5 and at 500 gateways."""

from __future__ import annotations

import html.parser
import pathlib
import re
import shutil
import struct
import subprocess

import pytest
from fleets import NOW, WAYS, fleet_of, look
from real import REPOSITORY

from ansible_collections.moe.gateway.plugins.filter.fleet_page import fleet_page
from ansible_collections.moe.gateway.plugins.module_utils._fleet import STATES, Host, fleet

TEMPLATE = str(REPOSITORY / "roles" / "envoy_status" / "templates" / "status.html.j2")
#: Kept for a person to look at.
SCREENSHOTS = REPOSITORY / "build" / "screenshots"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
VOID = {"meta", "br", "input", "link", "img", "wbr", "hr"}


def page(hosts: list[Host]) -> str:
    return fleet_page(fleet(hosts, NOW, 14), TEMPLATE)


class Parsed(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                (self.links if tag == "a" else self.loaded).append(value or "")
            elif name in ("src", "srcset", "data", "action"):
                self.loaded.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


@pytest.mark.parametrize("size", [0, 1, 5, 500])
def test_it_is_whole_and_loads_nothing(size: int) -> None:
    text = page(fleet_of(size))
    parsed = Parsed(text)
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link.removeprefix("#") for link in parsed.links} <= set(parsed.ids)
    assert parsed.loaded == []
    assert not re.search(r"url\(|@import|https?://(?!\S*example)", text)
    assert text.count('class="gw"') == size


def test_every_state_is_named_beside_its_colour() -> None:
    text = page([Host(f"host-{state}", WAYS[state](f"host-{state}")) for state in STATES])
    for state in STATES:
        (cell,) = re.findall(rf'<a class="s-{state}" href="#gw\d+" title="([^"]*)">', text)
        assert cell.startswith(f"host-{state}: {state}")
        assert re.search(rf"<small>{state}", text)


def test_a_gateway_in_kubernetes() -> None:
    pods = {"replicas": 2, "available": 1, "files": [], "previous_files": []}
    published = {"version": "0123456789abcdef-3", "action": "none", "found": [], "runs": True}
    text = page([Host("ingress", pods, published={"basic_auth": published})])
    assert "<span>1 of 2 Pods</span>" in text
    assert '<th scope="row">basic_auth</th>' in text
    assert Parsed(text).open == []


def test_what_gateways_tell_is_escaped() -> None:
    nasty = "<script>alert(1)</script>\"'&"
    told = look("h")
    told["envoy"]["version"] = told["listeners"][0]["name"] = nasty
    told["filters"][0]["change"]["origin"] = {"by": nasty, "play": nasty, "reason": nasty}
    told["filters"][0]["disk_problem"] = nasty
    text = page([Host("h", told), Host(nasty, {"unreachable": True, "msg": nasty})])
    assert text.count("<script>") == 1, "its own"
    assert Parsed(text).open == []


@pytest.fixture(scope="module")
def browser() -> str:
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip("NOT RUN: the status page in a browser (no Chromium is here: apt-get install chromium)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [5, 500])
def test_in_a_browser(browser: str, tmp_path: pathlib.Path, size: int, scheme: str) -> None:
    """It draws a cell for each gateway, in the colours that were asked for, with nothing wider than the window.

    A script that is added looks at the page as it is laid out, and writes what it found into the title.
    """
    judge = """
<script>addEventListener("load", () => {
  const cells = [...document.querySelectorAll(".map a")], boxes = cells.map((cell) => cell.getBoundingClientRect());
  const button = document.querySelector(".counts [data-state=drifted]");
  button.click();
  const shown = [...document.querySelectorAll(".gw")].filter((row) => !row.hidden).length;
  button.click();
  location.hash = "#gw3";
  setTimeout(() => {
    document.title = JSON.stringify({
      cells: boxes.filter((box) => box.width > 8 && box.height > 8).length,
      overlap: boxes.some((a, i) => i > 0 && a.left < boxes[i - 1].right - 1 && a.top < boxes[i - 1].bottom - 1),
      wide: document.documentElement.scrollWidth > innerWidth,
      page: getComputedStyle(document.body).backgroundColor,
      drifted: shown,
      open: [...document.querySelectorAll(".gw[open]")].map((row) => row.id),
    });
  }, 200);
});</script>"""
    picture = fleet(fleet_of(size), NOW, 14)
    file = tmp_path / "status.html"
    file.write_text(fleet_page(picture, TEMPLATE).replace("</body>", judge + "</body>"))
    plain = tmp_path / "plain.html"
    plain.write_text(fleet_page(picture, TEMPLATE))
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shot = SCREENSHOTS / f"status-{size}-{scheme}.png"
    shot.unlink(missing_ok=True)
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1280,1500",
    ]
    command += [
        f"--user-data-dir={tmp_path}/profile",
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
    ]

    def run(*more: str) -> str:
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    run(f"--screenshot={shot}", plain.as_uri())
    dom = run("--virtual-time-budget=5000", "--dump-dom", file.as_uri())
    (title,) = re.findall(r"<title>(.*?)</title>", dom)
    found = html.unescape(title)
    dark = scheme == "dark"
    assert found == (
        f'{{"cells":{size},"overlap":false,"wide":false,"page":"rgb({"16, 20, 26" if dark else "244, 245, 247"})",'
        f'"drifted":{picture["counts"]["drifted"]},"open":["gw3"]}}'
    )
    with shot.open("rb") as image:
        assert struct.unpack(">8s8x2I", image.read(24)) == (b"\x89PNG\r\n\x1a\n", 1280, 1500)
