# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests: real Envoys, the example extension built once, one real control plane."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import typing as t

import pytest
import upstreams
from control_plane import ControlPlane
from real import REPOSITORY, RealGateway
from xdist.scheduler import LoadScopeScheduling


class ByFile(LoadScopeScheduling):
    """For each file one process, and one for all that need a control plane, so that it is started once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "control plane" if "control_plane" in (REPOSITORY / file).read_text() else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: t.Any) -> ByFile:
    return ByFile(config, log)


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


@pytest.fixture
def upstream() -> t.Iterator[int]:
    """The port of a web server that gateways can lead to."""
    with upstreams.running() as port:
        yield port


@pytest.fixture(scope="session")
def built() -> None:
    """The programs of a control plane and of a node."""
    subprocess.run([sys.executable, str(REPOSITORY / "tools" / "build_control_plane.py")], check=True)


@pytest.fixture(scope="session")
def one_control_plane(built: None) -> t.Iterator[ControlPlane]:
    with ControlPlane() as plane:
        plane.istiod()
        yield plane


@pytest.fixture
def control_plane(one_control_plane: ControlPlane) -> t.Iterator[ControlPlane]:
    """A real control plane with one istiod (``control_plane.istiods[0]``), and nothing configured in it."""
    try:
        yield one_control_plane
    finally:
        one_control_plane.reset()
