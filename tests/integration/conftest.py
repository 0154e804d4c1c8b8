# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests: real Envoys, and the example extension built once."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import typing as t

import pytest
from real import REPOSITORY, RealGateway


@pytest.fixture
def gateway() -> t.Iterator[RealGateway]:
    """An Envoy that runs and has no listener yet."""
    real = RealGateway()
    try:
        real.start()
        yield real
    finally:
        real.remove()


@pytest.fixture(scope="session")
def basic_auth() -> pathlib.Path:
    """The example extension."""
    target = REPOSITORY / "build" / "extensions" / "basic_auth.so"
    source = REPOSITORY / "examples" / "basic_auth"
    builder = REPOSITORY / "tools" / "build_extension.py"
    subprocess.run([sys.executable, str(builder), str(source), "-o", str(target)], check=True)
    return target
