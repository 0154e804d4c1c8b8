#!/bin/sh
# Resolve every requirements/*.in to a hash-pinned requirements/*.txt that is valid on all supported Pythons.
# usage: tools/lock_requirements.sh [NAME...]
set -eu
cd "$(dirname "$0")/.."

uv=build/lock/bin/uv
[ -x "$uv" ] || { "$(tools/find_python.sh)" -m venv build/lock && build/lock/bin/pip install --quiet uv; }

lock() { # NAME OLDEST_PYTHON [--constraints FILE]...
    name=$1 python=$2
    shift 2
    "$uv" pip compile --quiet --universal --python-version "$python" --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@" "requirements/$name.in" --output-file "requirements/$name.txt"
}

[ $# -gt 0 ] || set -- runtime demo test collections units newest go molecule

for name; do
    case $name in
        runtime) lock runtime 3.11 ;;
        # The collection builds extensions with it wherever it is installed, so it is a part of its code.
        go)
            lock go 3.11
            {
                sed -n 1,3p plugins/module_utils/_build.py
                echo '"""The toolchain that builds extensions, pinned. Made by tools/lock_requirements.sh from requirements/go.in."""'
                printf '\nfrom __future__ import annotations\n\nREQUIREMENTS = r"""\n'
                cat requirements/go.txt
                echo '"""'
            } > plugins/module_utils/_toolchain.py
            rm requirements/go.txt
            ;;
        # These share a virtual environment with runtime, so each is held to what the one before it chose.
        demo) lock demo 3.11 --constraints requirements/runtime.txt ;;
        test) lock test 3.11 --constraints requirements/runtime.txt --constraints requirements/demo.txt ;;
        # Only taken apart, never installed.
        collections) lock collections 3.11 --no-deps ;;
        units) lock units 3.9 ;;
        molecule) lock molecule 3.11 --constraints requirements/runtime.txt ;;
        newest) lock newest 3.12 ;;
        *) echo "no such requirements: $name" >&2; exit 2 ;;
    esac
done
