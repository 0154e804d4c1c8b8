# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save all that etcd holds, as `etcdutl snapshot restore` takes it. The newest ones stay.

usage: backup.py URL FOLDER KEEP AUTHORITY CERTIFICATE KEY

etcd's own HTTP interface streams the snapshot, and ends it with the digest of all that came before.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import ssl
import sys
import time
import urllib.parse

#: A database consists of such pages, and the digest follows it.
_PAGE, _DIGEST = 512, 32


def main() -> None:
    url, folder, keep, authority, certificate, key = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(certificate, key)
    name = time.strftime("etcd-%Y%m%dT%H%M%SZ.snapshot", time.gmtime())
    part = os.path.join(folder, ".part")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    connection = http.client.HTTPSConnection(urllib.parse.urlsplit(url).netloc, timeout=300, context=context)
    with contextlib.closing(connection), open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
        connection.request("POST", "/v3/maintenance/snapshot", "{}")
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"{url} answers with status {response.status}: {response.read(500)!r}")
        for line in response:
            message = json.loads(line)
            if "result" not in message:
                sys.exit(f"{url} breaks off: {str(message)[:500]}")
            file.write(base64.b64decode(message["result"].get("blob", "")))
        check(file)
        os.fsync(file.fileno())
    path = os.path.join(folder, name)
    os.rename(part, path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)
    saved = sorted(name for name in os.listdir(folder) if name.endswith(".snapshot"))
    for old in saved[: -int(keep)]:
        os.unlink(os.path.join(folder, old))
    print(path)


def check(file) -> None:
    """End unless the snapshot is whole."""
    size = file.tell() - _DIGEST
    file.seek(0)
    digest = hashlib.sha256()
    left = size
    while left > 0:
        block = file.read(min(left, 1 << 20))
        digest.update(block)
        left -= len(block)
    if size <= 0 or size % _PAGE or file.read() != digest.digest():
        sys.exit("etcd sent a snapshot that is not whole")


if __name__ == "__main__":
    main()
