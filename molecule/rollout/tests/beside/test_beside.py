# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another build of the extension, in the same Envoy."""

from __future__ import annotations

import typing as t

from conftest import Gateway
from service import check_answers, check_extensions, supervisor


def test_the_same_envoy_has_both(host: t.Any) -> None:
    assert supervisor(host)["serving"]["epoch"] == 2
    check_extensions(host, "rollout/one", "rollout/two")


def test_nobody_noticed(gateway: Gateway) -> None:
    check_answers(gateway, "beside")
