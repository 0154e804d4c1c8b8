#!/bin/sh
# Print the path of the Python that a virtual environment is made from: the first that really runs, is new enough and has venv.
# usage: tools/find_python.sh [OLDEST_MINOR]     e.g. 12 for Python 3.12 or newer
set -eu
oldest=${1:-11}
probe="import ensurepip, sys, venv; sys.version_info >= (3, $oldest) or sys.exit(1); print(sys.executable)"

# A pyenv shim can exist for a version that does not run, hence the try and the look at pyenv's own folders.
for python in python3 python3.11 python3.12 python3.13 python3.14 "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/*/bin/python; do
    "$python" -c "$probe" 2>/dev/null && exit
done
echo "No Python 3.$oldest or newer with venv was found. Debian and Ubuntu have it in: python3 python3-venv" >&2
exit 1
