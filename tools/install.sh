#!/bin/sh
# Install hash-pinned requirements into a virtual environment, making it first where needed.
# usage: tools/install.sh VENV REQUIREMENTS [OLDEST_MINOR]
set -eu
venv=$1 requirements=$2 oldest=${3:-11}

if ! "$venv/bin/python" -c "" 2>/dev/null; then
    python=$("$(dirname "$0")/find_python.sh" "$oldest")
    echo "making $venv with $python"
    "$python" -m venv --clear "$venv"
fi
echo "installing $requirements into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$requirements"
