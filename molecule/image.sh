#!/bin/sh
# Make the file system of a host, unless it is there already: Debian with systemd, ssh and Python, httpbin to be an upstream, and what
# a control plane is set up by.
# usage: molecule/image.sh SUITE FOLDER     e.g. bookworm; makes FOLDER/SUITE.tar, about 250 MB, in half a minute
set -eu
suite=$1 tar=$2/$1.tar

# One that this recipe did not make is made anew.
[ -e "$tar" ] && [ "$tar" -nt "$0" ] && exit
mkdir -p "$2"
echo "making $tar"
# Not needed in a container, where they fail or reach for the machine's own terminals.
masked='getty.target systemd-modules-load.service'
# Without security updates: an old Debian's archive of them lacks files that its own index names.
mmdebstrap --quiet --variant=minbase \
    --include=systemd,systemd-sysv,dbus,libnss-systemd,openssh-server,python3,iproute2,procps \
    --include=gunicorn,python3-httpbin,libfaketime,python3-apt,openssl,python3-kubernetes \
    --setup-hook="sed -i /security/d \"\$1\"/etc/apt/sources.list" \
    --customize-hook="chroot \"\$1\" systemctl --quiet mask $masked" \
    "$suite" "$tar.part.tar"
mv "$tar.part.tar" "$tar"
