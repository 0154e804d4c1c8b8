#!/bin/sh
# Build the reference of modules, filters and roles as web pages: build/docs/html/index.html.
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/build/venv/bin:$PATH"

# antsibull-docs refuses a folder that others may write to.
umask 022
mkdir -p build/docs/rst
antsibull-docs collection --use-current --squash-hierarchy --cleanup everything --dest-dir build/docs/rst moe.gateway
# Links into Ansible's own documentation lead nowhere here; the lint checks those within the collection.
sphinx-build -q -C -b html -D project=moe.gateway -D extensions=sphinx_antsibull_ext -D html_theme=alabaster \
    -D suppress_warnings=ref.ref build/docs/rst build/docs/html
echo "build/docs/html/index.html"
