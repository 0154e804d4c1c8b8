#!/bin/sh
# Run every linter, all of them even when one fails, and name those that failed.
cd "$(dirname "$0")/.." || exit
export PATH="$PWD/build/venv/bin:$PATH"

failed=""
check() { # COMMAND...
    echo "== $*"
    "$@" || failed="$failed
  $*"
}

check ruff check
check ruff format --check
check ansible-lint --offline --profile production
check antsibull-docs lint-collection-docs --plugin-docs .
check antsibull-changelog lint
check python tools/check_role_specs.py
check python tools/check_places.py

[ -z "$failed" ] && echo "lint: all passed" && exit
echo "lint: failed:$failed"
exit 1
