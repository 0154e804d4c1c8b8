#!/usr/bin/env bash
# Run a command in namespaces of its own, where root's podman can run systemd although this machine doesn't let it.
# What the command leaves running ends with it. There is no network but the one that podman makes.
# usage: tools/sandbox.sh --why                  print what makes this necessary here, or nothing
#        tools/sandbox.sh FOLDER COMMAND...      FOLDER is where podman keeps its images
set -euo pipefail

case $1 in
    --why)
        [ "$(stat --file-system --format=%T /sys/fs/cgroup)" = cgroup2fs ] || echo "/sys/fs/cgroup is not cgroup v2"
        # 1 << CAP_SYS_RESOURCE, in what a process can ever have: without it, limits can't be raised.
        bounding=$(sed -n 's/^CapBnd:\t//p' /proc/self/status)
        (((16#$bounding >> 24) & 1)) || echo "there is no CAP_SYS_RESOURCE"
        ;;

    --cgroup)
        # In a mount namespace: see cgroup v2, and work in a group of it that nobody else uses.
        shift
        group=/sys/fs/cgroup/molecule-$$
        mount -t cgroup2 none /sys/fs/cgroup
        mkdir "$group"
        # However this shell ends, the first process in there is killed, and by the kernel all others with it.
        (
            echo "$BASHPID" >"$group/cgroup.procs"
            exec setpriv --pdeathsig=KILL \
                unshare --cgroup --net --pid --fork --kill-child --mount --mount-proc "$0" --inside "$@"
        ) <&0 &
        trap 'kill -KILL $!' HUP INT TERM
        status=0
        wait $! || status=$?
        # The kernel takes a moment to forget the processes that ended with their namespace.
        for _ in {1..50}; do
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
            sleep 0.1
        done
        exit "$status"
        ;;

    --inside)
        # As the first process of a PID namespace: when it ends, the kernel ends all others.
        folder=$2
        shift 2
        # In place of the mount from before there was a cgroup namespace, which shows the groups of all the machine.
        umount /sys/fs/cgroup
        mount -t cgroup2 none /sys/fs/cgroup
        # podman's locks and what it knows of running containers: other podmans of this machine keep theirs there.
        mount -t tmpfs none /run
        mount -t tmpfs none /dev/shm
        ip link set lo up
        mkdir -p "$folder"
        cat >"$folder/containers.conf" <<END
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=16384:16384"]
pids_limit = 0
[network]
network_backend = "netavark"
network_config_dir = "/run/containers/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
END
        cat >"$folder/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$folder/storage"
runroot = "/run/containers/storage"
END
        export CONTAINERS_CONF=$folder/containers.conf CONTAINERS_STORAGE_CONF=$folder/storage.conf
        # Not exec: this shell also takes care of orphans.
        "$@"
        ;;

    *) exec unshare --mount "$0" --cgroup "$@" ;;
esac
