# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real node beside the real control plane: controller manager, scheduler, containerd, kubelet.

It needs root and runc. The node lives in a network and a mount namespace of its own, with one cable to the machine's;
only ``Network.machine`` and ``Network.node`` can talk to each other. Pods share the node's network (``hostNetwork``).
All is ended by PID, and the namespaces take mounts and devices with them.

    with Network() as network, ControlPlane(network.machine) as plane, Node(plane, network) as node:
        plane.api.apply(deployment)
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tarfile
import typing as t

import yaml
from control_plane import BUILT, ControlPlane, Object, Program
from real import envoy_binary, free_port, wait_until

PAUSE = "localhost/pause:1"
ENVOY = "localhost/envoy:1"
CGROUPS = pathlib.Path("/sys/fs/cgroup")
#: What a kubelet sets for the whole machine, and doesn't take back.
SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
SYSCTLS += ("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")


def missing() -> str:
    """Why no node can run here; empty if one can."""
    if os.geteuid():
        return "needs root"
    if absent := [name for name in ("runc", "ip", "nsenter", "unshare", "mount", "iptables") if not shutil.which(name)]:
        return f"not installed: {', '.join(absent)}"
    return ""


class Network:
    """A network and a mount namespace, and a cable between the machine and them."""

    def __init__(self) -> None:
        # Of a network that is for measurements between devices, with one part for each process.
        number = os.getpid() % (1 << 14)
        prefix = f"198.19.{number >> 6}.{(number & 63) << 2}".rpartition(".")
        self.machine, self.node = (f"{prefix[0]}.{int(prefix[2]) + place}" for place in (1, 2))
        self.cable = f"moe{os.getpid()}"
        self.holder: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.holder is not None
        return self.holder.pid

    def inside(self, *command: t.Any) -> list[str]:
        """The command that runs a command there, with the same PID."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", *map(str, command)]

    def __enter__(self) -> Network:
        # Mounts of Pods must reach those inside and nobody outside; what programs leave in these folders is for nobody.
        script = "mount --make-rshared / && for d in /run /var/log; do mount -t tmpfs none $d; done && "
        script += "ip link set lo up && echo ready && exec sleep infinity"
        command = ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c", script]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert self.holder.stdout is not None
            assert self.holder.stdout.readline() == b"ready\n", "no namespaces can be made here"
            peer = f"{self.cable}p"
            ip("link", "add", self.cable, "type", "veth", "peer", "name", peer, "netns", str(self.pid))
            ip("addr", "add", f"{self.machine}/30", "dev", self.cable)
            ip("link", "set", self.cable, "up")
            for words in (["addr", "add", f"{self.node}/30", "dev", peer], ["link", "set", peer, "up"]):
                subprocess.run(self.inside("ip", *words), check=True)
            subprocess.run(self.inside("ip", "route", "add", "default", "via", self.machine), check=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def processes(self) -> list[int]:
        """All that runs in one of the namespaces, but the process that holds them."""
        found = []
        ours = {os.readlink(f"/proc/{self.pid}/ns/{kind}") for kind in ("net", "mnt")}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if ours & {os.readlink(folder / "ns" / kind) for kind in ("net", "mnt")}:
                    found.append(int(folder.name))
        return [pid for pid in found if pid != self.pid]

    def end_all(self) -> None:
        """End what runs in there: shims and containers outlive the containerd that started them."""

        def gone() -> bool:
            left = self.processes()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_until(gone, "something still runs on the node")

    def __exit__(self, *_error: object) -> None:
        if self.holder is not None and self.holder.stdout is not None:
            self.holder.kill()
            self.holder.wait()
            self.holder.stdout.close()
        subprocess.run(["ip", "link", "delete", self.cable], check=False, capture_output=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def libraries(program: pathlib.Path) -> list[pathlib.Path]:
    """The shared libraries that a program is linked to, and its loader."""
    done = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True)
    return [pathlib.Path(name) for name in re.findall(r"(/\S+) \(0x", done.stdout)]


def write_image(archive: pathlib.Path, name: str, files: dict[str, pathlib.Path], command: list[str]) -> None:
    """A docker archive with files of this machine."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", dereference=True) as tar:
        for path, file in files.items():
            tar.add(file, path.lstrip("/"))
    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    config = {"architecture": machine, "os": "linux", "config": {"Entrypoint": command}}
    config["rootfs"] = {"type": "layers", "diff_ids": [digest]}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {"layer.tar": layer.getvalue(), "config.json": json.dumps(config), "manifest.json": json.dumps(manifest)}
    with tarfile.open(archive, "w") as tar:
        for part, content in parts.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(part)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


class Cgroups:
    """A cgroup of the node's own, in each hierarchy that the machine has."""

    def __init__(self) -> None:
        #: one hierarchy for all controllers, and no second one of version 1
        self.unified = (CGROUPS / "cgroup.controllers").exists()
        self.name = f"moe-node-{os.getpid()}"
        roots = [CGROUPS] if self.unified else [path for path in CGROUPS.iterdir() if path.is_dir()]
        self.folders = [root / self.name for root in roots]

    def make(self) -> None:
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
            for name in ("cpuset.mems", "cpuset.cpus"):
                if not self.unified and (folder / name).exists():
                    (folder / name).write_text((folder.parent / name).read_text())

    def remove(self) -> None:
        for top in self.folders:
            for folder, _names, _files in os.walk(top, topdown=False):
                # A process that was killed is in there until the kernel is through with it.
                wait_until(lambda folder=folder: _removed(folder), f"{folder} is still in use")


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


class Node:
    """What makes a control plane run Pods."""

    def __init__(self, plane: ControlPlane, network: Network, name: str = "node") -> None:
        self.plane = plane
        self.network = network
        self.name = name
        self.root = plane.root / name
        self.root.mkdir()
        self.cgroups = Cgroups()
        self.socket = self.root / "containerd.sock"
        self.sysctls: dict[pathlib.Path, str] = {}
        binaries = BUILT / "bin"
        manager = [binaries / "kube-controller-manager", f"--kubeconfig={plane.kubeconfig}", "--leader-elect=false"]
        manager += [f"--root-ca-file={plane.authority.certificate}", "--use-service-account-credentials=false"]
        manager += ["--bind-address=127.0.0.1", f"--secure-port={free_port()}", f"--cert-dir={self.root / 'pki'}"]
        self.manager = Program("kube-controller-manager", list(map(str, manager)), plane.root)
        scheduler = [binaries / "kube-scheduler", f"--kubeconfig={plane.kubeconfig}", "--leader-elect=false"]
        scheduler += ["--bind-address=127.0.0.1", f"--secure-port={free_port()}", f"--cert-dir={self.root / 'pki'}"]
        self.scheduler = Program("kube-scheduler", list(map(str, scheduler)), plane.root)
        path = {"PATH": f"{binaries}:{os.environ['PATH']}"}
        command = network.inside(binaries / "containerd", "--config", self._containerd())
        self.containerd = Program("containerd", command, plane.root, path)
        user = f"system:node:{name}"
        kubeconfig = plane.write_kubeconfig(user, ["system:nodes"])
        command = network.inside(binaries / "kubelet", f"--config={self._kubelet()}", f"--kubeconfig={kubeconfig}")
        command += [f"--hostname-override={name}", f"--node-ip={network.node}", f"--root-dir={self.root / 'kubelet'}"]
        self.kubelet = Program("kubelet", command, plane.root, path)

    def _containerd(self) -> pathlib.Path:
        networks = self.root / "cni"
        networks.mkdir()
        # Pods have the node's network, so this plugin is never run; without any the node isn't ready.
        plugin = {"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "none"}]}
        (networks / "none.conflist").write_text(json.dumps(plugin))
        path = self.root / "containerd.toml"
        path.write_text(f"""\
version = 3
root = "{self.root / "containerd"}"
state = "/run/containerd"
[grpc]
address = "{self.socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{self.root / "opt"}"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
conf_dir = "{networks}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
""")
        return path

    def _kubelet(self) -> pathlib.Path:
        serving = self.plane.authority.issue("kubelet", hosts=[self.network.node, self.name])
        resolver = self.root / "resolv.conf"
        resolver.touch()
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.network.node,
            "healthzBindAddress": "127.0.0.1",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.plane.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroups.name}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "resolvConf": str(resolver),
            "volumePluginDir": str(self.root / "plugins"),
            # How full the machine is, is not what is tested.
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
        }
        path = self.root / "kubelet.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    def __enter__(self) -> Node:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        for name in SYSCTLS:
            path = pathlib.Path("/proc/sys", name)
            if path.exists():
                self.sysctls[path] = path.read_text()
        self.cgroups.make()
        self.manager.start(lambda: self._has_account("default"))
        self.scheduler.start(lambda: True)
        self.containerd.start(self.socket.exists)
        self.load_program(PAUSE, pathlib.Path(shutil.which("sleep") or ""), ["/sleep", "infinity"])
        self.load_program(ENVOY, envoy_binary(), ["/envoy"])
        self.kubelet.start(self.ready)

    def _has_account(self, namespace: str) -> bool:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        account["metadata"]["namespace"] = namespace
        return self.plane.api.get(account) is not None

    def load_program(self, name: str, program: pathlib.Path, command: list[str]) -> None:
        """Put an image onto the node that has one program of this machine and what it is linked to."""
        self.load(name, {command[0]: program, **{str(path): path for path in libraries(program)}}, command)

    def load(self, name: str, files: dict[str, pathlib.Path], command: list[str]) -> None:
        """Put an image onto the node."""
        archive = self.root / "image.tar"
        write_image(archive, name, files, command)
        words = ["--address", self.socket, "--namespace", "k8s.io", "images", "import", "--local"]
        done = subprocess.run(
            self.network.inside(BUILT / "bin" / "ctr", *words, "--snapshotter", "native", archive),
            check=False,
            capture_output=True,
            text=True,
        )
        assert not done.returncode, done.stderr
        archive.unlink()

    def ready(self) -> bool:
        node = self.plane.api.get({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}})
        conditions = node["status"].get("conditions", []) if node else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def pods(self, namespace: str) -> list[Object]:
        return self.plane.api.list("v1", "Pod", namespace)

    def stop(self) -> None:
        """End everything, and leave nothing."""
        for program in (self.kubelet, self.containerd, self.scheduler, self.manager):
            program.stop(signal.SIGKILL)
        self.network.end_all()
        self.cgroups.remove()
        for path, value in self.sysctls.items():
            if path.read_text() != value:
                path.write_text(value)
