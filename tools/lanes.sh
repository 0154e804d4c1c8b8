#!/usr/bin/env bash
# Run lanes of make's targets side by side, the targets of a lane in turn, all of them even when one fails. A lane may set
# variables, too.
# The output of the last lane is shown as it comes, that of the others when all have ended.
# usage: tools/lanes.sh "TARGET..." "TARGET... VARIABLE=VALUE"
set -euo pipefail
# Each lane is a process group of its own, so that all of it can be ended.
set -m

scratch=$(mktemp --directory)
# The trap below calls it.
# shellcheck disable=SC2329
end() {
    for pid in $(jobs -pr); do
        # It may have ended since.
        kill -TERM -- "-$pid" || true
    done
    wait
    rm -rf "$scratch"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM

lane() { # TARGET...
    local outcome=passed
    SECONDS=0
    make --no-print-directory --keep-going "$@" </dev/null || outcome=FAILED
    echo "lane $outcome after $SECONDS s: $*" >>"$scratch/outcomes"
    [ "$outcome" = passed ]
}

pids=()
for ((index = 1; index <= $#; index++)); do
    read -ra targets <<<"${!index}"
    if ((index < $#)); then
        lane "${targets[@]}" >"$scratch/$index.log" 2>&1 &
    else
        lane "${targets[@]}" &
    fi
    pids+=($!)
done
# Each by its own status: a lane that is killed says nothing.
status=0
for pid in "${pids[@]}"; do
    wait "$pid" || status=1
done

for ((index = 1; index < $#; index++)); do
    cat "$scratch/$index.log"
done
cat "$scratch/outcomes"
exit "$status"
