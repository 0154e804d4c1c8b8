# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that no file names a package registry's host or a path of the machine it was written on.

Where packages come from is for the user's own client settings to say (many use a mirror); a checkout can lie anywhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# Each with a ~ inside, so that this file passes its own check.
_HOSTS = (
    "py~pi.org python~hosted.org crates~.io proxy.go~lang.org sum.go~lang.org npm~js.org "
    "repo1.ma~ven.org maven.apa~che.org deb.deb~ian.org archive.ubu~ntu.com"
)
_FOLDERS = "/wor~k/main /wor~k/shared /wor~k/. /ro~ot/ /tm~p/exp /ho~me/ /Us~ers/"
FORBIDDEN = re.compile(
    "|".join(re.escape(host) for host in _HOSTS.replace("~", "").split())
    + "".join(rf"|(?<![\w.]){re.escape(folder)}" for folder in _FOLDERS.replace("~", "").split())
)


def main() -> int:
    listing = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], capture_output=True, check=True)
    files = [Path(name) for name in listing.stdout.decode().split("\0") if name]
    found = 0
    for file in filter(Path.is_file, files):
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            for match in FORBIDDEN.finditer(line):
                found += 1
                print(f"{file}:{number}: names {match.group()}")
    print(f"{len(files)} files, {found} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
