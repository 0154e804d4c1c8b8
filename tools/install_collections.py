# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the collections that ours builds on into a folder of collections.

usage: python tools/install_collections.py REQUIREMENTS FOLDER

They come from the package `ansible`, pinned by its hash. It holds a hundred collections, so those that are wanted are
taken out of it instead of it being installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

COLLECTIONS = ("kubernetes/core",)


def install(bundle: zipfile.ZipFile, collection: str, folder: Path) -> None:
    target = folder / "ansible_collections" / collection
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"ansible_collections/{collection}/"
    members = [name for name in bundle.namelist() if name.startswith(prefix)]
    assert members, f"{bundle.filename} holds no {prefix}"
    # Renamed when it is whole.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as scratch:
        bundle.extractall(scratch, members)
        shutil.rmtree(target, ignore_errors=True)
        Path(scratch, prefix).rename(target)


def main(requirements: str, folder: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--only-binary=:all:", f"--dest={scratch}", f"--requirement={requirements}"]
        subprocess.run(command, check=True)
        (wheel,) = Path(scratch).iterdir()
        with zipfile.ZipFile(wheel) as bundle:
            for collection in COLLECTIONS:
                install(bundle, collection, Path(folder))
                print(f"{folder}: {collection.replace('/', '.')} from {wheel.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
