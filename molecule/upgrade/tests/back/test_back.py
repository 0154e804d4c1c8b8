# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version from before, by the same way."""

from __future__ import annotations

import typing as t

from conftest import Gateway
from service import check_answers, check_service


def test_the_old_one_serves(host: t.Any) -> None:
    check_service(host, "1.39.3", 4, "v0.1.0")


def test_nobody_noticed(gateway: Gateway) -> None:
    check_answers(gateway, "downgrade")
