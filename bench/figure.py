# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A figure, its target, and how both are printed."""

from __future__ import annotations

import typing as t


class Figure(t.NamedTuple):
    """One line of the result. Without a target it is there to explain another."""

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    #: what it was made from
    detail: str = ""

    @property
    def missed(self) -> bool:
        # Negated so that a value that is not a number misses.
        return (self.at_most is not None and not self.value <= self.at_most) or (
            self.at_least is not None and not self.value >= self.at_least
        )

    def __str__(self) -> str:
        target, mark = "", " "
        if self.at_most is not None or self.at_least is not None:
            sign, bound = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
            target, mark = f"{sign} {bound:g}{self.unit}", "✗" if self.missed else "✓"
        value = f"{self.value:.4g}" if self.value != int(self.value) else f"{self.value:.0f}"
        return f"  {mark} {self.name:<44}{value + self.unit:>10}  {target:<10}{self.detail}".rstrip()
