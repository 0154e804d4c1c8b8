#!/bin/sh
# Install hash-pinned requirements into a virtual environment, making it first where needed.
# usage: tools/install.sh VENV REQUIREMENTS [PYTHON]     PYTHON: what to make it from, by default what find_python.sh finds
set -eu
venv=$1 requirements=$2

if ! "$venv/bin/python" -c "" 2>/dev/null; then
    python=${3:-$("$(dirname "$0")/find_python.sh")}
    echo "making $venv with $python"
    "$python" -m venv --clear "$venv"
fi
echo "installing $requirements into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$requirements"
