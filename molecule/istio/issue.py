# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of istiod and of the gateways, of an authority that lasts a day.

usage: issue.py FOLDER
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "integration"))

from certificates import Authority


def main() -> None:
    authority = Authority(pathlib.Path(sys.argv[1]))
    authority.issue("istiod", hosts=["istiod.istio-system.svc"])
    authority.issue("gateway", uris=["spiffe://cluster.local/ns/istio-system/sa/gateway"])


if __name__ == "__main__":
    main()
