# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until the main process of a unit answers with status 200. The unit counts as started only then.

usage: ready.py URL SECONDS [AUTHORITY CERTIFICATE KEY]
"""

import http.client
import os
import ssl
import sys
import time
import urllib.parse


def main() -> None:
    url, seconds, *files = sys.argv[1:]
    parts = urllib.parse.urlsplit(url)
    context = None
    if files:
        context = ssl.create_default_context(cafile=files[0])
        context.load_cert_chain(files[1], files[2])
    deadline = time.monotonic() + float(seconds)
    while True:
        found = _ask(parts, context)
        if found == "":
            return
        try:
            os.kill(int(os.environ["MAINPID"]), 0)
        except ProcessLookupError:
            sys.exit("its process has ended")
        if time.monotonic() > deadline:
            sys.exit(f"{url} is not ready after {seconds} s: {found}")
        time.sleep(0.1)


def _ask(parts: urllib.parse.SplitResult, context: "ssl.SSLContext | None") -> str:
    """What is wrong; nothing if it is ready."""
    if context:
        connection = http.client.HTTPSConnection(parts.netloc, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        text = response.read(500).decode("utf-8", "replace")
        return "" if response.status == 200 else f"status {response.status} {text}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


if __name__ == "__main__":
    main()
