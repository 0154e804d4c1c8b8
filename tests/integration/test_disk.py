# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full or read-only, for real: the gateway's directory is a small file system of its own.

Mounting needs root, or a user namespace. Where a machine gives neither, these tests are reported as not run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from real import NATIVE, REPOSITORY, RealGateway, htpasswd, native_users

OLD = native_users(htpasswd("foo", "old"))
NEW = native_users(htpasswd("foo", "new"))
INSIDE = "MOE_GATEWAY_MAY_MOUNT"

if os.environ.get(INSIDE):

    @pytest.fixture
    def disk():
        """A gateway whose directory is a file system of 256 KiB, serving OLD."""
        real = RealGateway()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "gateway", str(real.directory)], check=True)
        try:
            for name in ("clusters", "listeners"):
                (real.directory / f"{name}.json").write_text('{"resources": []}')
            real.start()
            real.serve(NATIVE)
            assert not real.filter("users", **OLD).failed
            yield real
        finally:
            real.stop()
            subprocess.run(["umount", str(real.directory)], check=True)
            real.remove()

    def test_full_at_any_moment(disk):
        """With more and more room, every write of a publish is once the one that finds none."""
        ballast = disk.directory / "ballast"
        codes = []
        for room in range(18):
            ballast.write_bytes(b"")
            size = shutil.disk_usage(disk.directory).free - room * 4096
            ballast.write_bytes(bytes(size))
            files = disk.files()
            result = disk.filter("users", **NEW)
            codes.append(result.code or result["action"])
            if not result.failed:
                break
            assert result.code == "file_error"
            assert "No space left on device" in result["msg"]
            assert not [name for name in disk.files() if "staged" in name]
            if "Nothing has changed" in result["msg"]:
                assert disk.files() == files
                assert [disk.get("foo:old"), disk.get("foo:new")] == [200, 401]
            else:
                assert "Envoy runs version" in result["msg"]
                assert [disk.get("foo:old"), disk.get("foo:new")] == [401, 200]
        assert codes[0] == "file_error"
        assert codes[-1] in ("published", "none"), codes
        assert [disk.get("foo:old"), disk.get("foo:new")] == [401, 200]

    def test_full_and_refused_by_envoy(disk):
        """The way back needs no room: it was made ready before the live file changed."""
        blind = native_users("foo-without-a-password", envoy_binary=str(disk.blind))
        ballast = disk.directory / "ballast"
        outcomes = set()
        for room in range(18):
            ballast.write_bytes(b"")
            ballast.write_bytes(bytes(shutil.disk_usage(disk.directory).free - room * 4096))
            result = disk.filter("users", **blind)
            outcomes.add(result.code)
            assert disk.get("foo:old") == 200
            assert b"foo-without-a-password" not in disk.live("users").read_bytes()
        assert outcomes == {"file_error", "refused_by_envoy"}
        ballast.unlink()
        assert not disk.filter("users", **OLD).failed
        assert disk.filter("users", **OLD)["action"] == "none"

    def test_read_only(disk):
        subprocess.run(["mount", "-o", "remount,ro", str(disk.directory)], check=True)
        files = disk.files()
        for result in (disk.filter("users", **NEW), disk.config(filters=[NATIVE])):
            assert result.code == "file_error"
            assert "Read-only file system" in result["msg"]
            assert str(disk.directory) in result["msg"]
        assert disk.files() == files
        assert disk.get("foo:old") == 200
        subprocess.run(["mount", "-o", "remount,rw", str(disk.directory)], check=True)
        assert disk.filter("users", **NEW)["action"] == "published"

else:

    def test_disk_full_and_read_only():
        """Runs the tests above where it may mount."""
        enter = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
        if not shutil.which("unshare") or subprocess.run([*enter, "true"], capture_output=True, check=False).returncode:
            pytest.skip("NOT RUN: disk full and read-only file system (this machine lets nobody mount)")
        command = [*enter, sys.executable, "-m", "pytest", "-q", __file__]
        process = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**os.environ, INSIDE: "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        assert "3 passed" in process.stdout, process.stdout
