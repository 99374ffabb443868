"""One booted Debian: systemd as PID 1, sshd and apt, its own disk and network, under nspawn.

A host is reached by SSH as any other; `run`, `read` and `write` go in by the side door, for the
harness that needs to look or to break something, never for the product.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lab import images
from lab.machine import LabError, cgroup2, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.network import Network

BOOT_SECONDS = 60
STOP_SECONDS = 30
ARCHIVES = "/var/cache/apt/archives"

# In a mount namespace of its own, so that nothing of it is ever in this machine's mount table.
# cgroup2 is laid over whatever is there because a new systemd refuses the first version.
# `volatile`: no fsync reaches the disk. This machine does not lose power when a host does.
_BOOT = """\
echo $$ >"$1/cgroup.procs"
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t overlay -o "lowerdir=$2,upperdir=$3/upper,workdir=$3/work,volatile" overlay "$3/root"
shift 3
exec systemd-nspawn "$@"
"""

_ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A host's own disk: what it has written, over layers that it only reads."""

    directory: Path
    layers: tuple[Path, ...]

    @property
    def upper(self) -> Path:
        """What the host itself has written."""
        return self.directory / "upper"

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """Write a root-owned file while the host is off."""
        target = self.upper / path.lstrip("/")
        for parent in reversed(target.relative_to(self.upper).parents):
            self._make_directory(parent)
        target.unlink(missing_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def _make_directory(self, path: Path) -> None:
        directory = self.upper / path
        if not directory.exists():
            directory.mkdir()
            below = next(filter(Path.exists, (layer / path for layer in self.layers)), None)
            if below:  # its mode counts from now on
                shutil.copystat(below, directory)
            else:
                directory.chmod(0o700 if path.name == ".ssh" else 0o755)


class Host:
    """A booted Debian of a lab, made by `Lab.boot`.

    Asked from inside to reboot, it goes off (nspawn leaves that to its caller): `start` it again.
    """

    ssh_port = 22

    def __init__(self, name: str, network: Network, *, octet: int, disk: Disk, key: str) -> None:
        """Describe a host that is off; `key` is the public key that may log in."""
        self.name = name
        self.key = ""  # its host key, the public half
        self.address = network.host_address(octet)
        self.disk = disk
        self._network = network
        self._octet = octet
        self._login_key = key
        self._nspawn: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address} {'on' if self.is_running else 'off'}>"

    @property
    def is_running(self) -> bool:
        """Whether the host has power."""
        return self._nspawn is not None and self._nspawn.poll() is None

    @property
    def pid(self) -> int:
        """The host's PID 1, as this machine counts."""
        if not (pid := self._init()):
            raise LabError(f"{self.name} is off")
        return pid

    @property
    def console(self) -> str:
        """What the host has printed on its console since it was made."""
        return (self.disk.directory / "console").read_text("utf-8", errors="replace")

    @property
    def network(self) -> Network:
        """The lab's network."""
        return self._network

    @property
    def hardware_address(self) -> str:
        """The MAC address of its interface."""
        return self._network.hardware_address(self._octet)

    def start(self) -> None:
        """Boot; returns when logins are possible and every unit has started or failed."""
        if self.is_running:
            return
        if self._nspawn:  # it went off by itself
            self.kill()
        self._network.attach(self.name, self._octet)
        images.lend_packages(self.disk.directory / "archives")
        self._boot()
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._has_booted():
            if not self.is_running or time.monotonic() > deadline:
                raise LabError(f"{self.name} does not boot:\n{self.console[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut down in order, as `systemctl poweroff` does."""
        if self._nspawn and self.is_running:
            self._nspawn.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Cut the power: no process gets a word in, and no peer hears a farewell.

        What the host has written stays, also what it never synced: this machine holds it.
        """
        self._network.detach(self.name, self._octet)
        kill_group(self._group)
        self.reap()
        self.share_packages()

    def reap(self) -> None:
        """Take leave of a host whose processes are dead."""
        if self._nspawn:
            self._nspawn.wait(STOP_SECONDS)
            self._nspawn = None

    def share_packages(self) -> None:
        """Let later hosts have the packages that this one has downloaded."""
        images.collect_packages(self.disk.directory / "archives")

    def run(
        self, command: str | Sequence[str], *, check: bool = False, input_bytes: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line, or an argv, as root inside the host.

        With `check`, a status other than 0 raises CalledProcessError that tells what was printed.
        """
        done = self._enter(command, input_bytes)
        result = subprocess.CompletedProcess(
            command, done.returncode, _text(done.stdout), _text(done.stderr)
        )
        if check and result.returncode:
            failure = subprocess.CalledProcessError(
                result.returncode, command, result.stdout, result.stderr
            )
            failure.add_note(f"on {self.name}: {(result.stderr or result.stdout).strip()[-2000:]}")
            raise failure
        return result

    def read(self, path: str) -> bytes:
        """Return what is in a file of the running host; FileNotFoundError when it is not there."""
        done = self._enter(["cat", "--", path], b"")
        if done.returncode:
            raise FileNotFoundError(f"{self.name}:{path}: {_text(done.stderr).strip()}")
        return done.stdout

    def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a root-owned file of the running host, with the directories above it."""
        self.run(
            ["install", "-D", f"--mode={mode:o}", "/dev/stdin", path],
            check=True,
            input_bytes=content,
        )

    def add_user(self, name: str, *, sudo: Literal["nopasswd", "none"] = "none") -> None:
        """Add a login that takes the lab's key, and that may or may not become root."""
        self.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
        home = f"/home/{name}"
        self.write(f"{home}/.ssh/authorized_keys", self._login_key.encode(), mode=0o600)
        self.run(["chmod", "0700", f"{home}/.ssh"], check=True)
        self.run(["chown", "--recursive", f"{name}:{name}", f"{home}/.ssh"], check=True)
        if sudo == "nopasswd":
            rule = f"{name} ALL=(ALL:ALL) NOPASSWD: ALL\n"
            self.write(f"/etc/sudoers.d/{name}", rule.encode(), mode=0o440)

    @property
    def _group(self) -> Path:
        return group(self._network.name) / self.name

    def _boot(self) -> None:
        directory = self.disk.directory
        for made_afresh in ("work", "root"):
            shutil.rmtree(directory / made_afresh, ignore_errors=True)
            (directory / made_afresh).mkdir(parents=True)
        self._group.mkdir(parents=True, exist_ok=True)
        layers = ":".join(map(str, self.disk.layers))
        shell = ["unshare", "--mount", "sh", "-euc", _BOOT, "sh"]
        with (directory / "console").open("ab") as console:
            self._nspawn = subprocess.Popen(
                [*shell, str(self._group), layers, str(directory), *self._nspawn_options()],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C is for the lab, which then ends its hosts
                env=_ENVIRONMENT | {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
            )

    def _nspawn_options(self) -> Iterator[str]:
        resolved = Path("/run/systemd/resolve/resolv.conf").exists()
        namespace = self._network.namespace(self.name)
        yield from ("--quiet", "--boot", "--register=no", "--keep-unit", "--console=read-only")
        yield f"--machine={namespace}"
        yield f"--hostname={self.name}"
        yield f"--directory={self.disk.directory}/root"
        yield f"--network-namespace-path=/run/netns/{namespace}"
        yield f"--resolv-conf={'copy-uplink' if resolved else 'copy-host'}"
        yield "--link-journal=no"
        yield "--timezone=off"  # else /etc/localtime is a mount and tzdata cannot be installed
        yield "--capability=CAP_NET_ADMIN"  # not given by itself with a namespace made elsewhere
        # As PID 1 of a real machine has it, however little this session is allowed.
        yield f"--rlimit=NOFILE=1024:{Path('/proc/sys/fs/nr_open').read_text('ascii').strip()}"
        yield f"--bind={self.disk.directory}/archives:{ARCHIVES}"

    def _init(self) -> int | None:
        if not self._nspawn or not self.is_running:
            return None
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
            for pid in children.read_text("ascii").split():
                status = Path(f"/proc/{pid}/status").read_text("utf-8", errors="replace")
                # Until it has become systemd, PID 1 is a piece of nspawn that sees this machine.
                if re.search(r"(?ms)^Name:\t(systemd|init)$.*^NSpid:.*\t1$", status):
                    return int(pid)
        return None

    def _has_booted(self) -> bool:
        # Not asked by a connection to port 22: sshd remembers callers that go without a word.
        if not self._init():
            return False
        state = self.run("systemctl is-system-running --wait").stdout.strip()
        return state in ("running", "degraded")

    def _enter(
        self, command: str | Sequence[str], input_bytes: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        return subprocess.run(
            ["nsenter", f"--target={self.pid}", *_NAMESPACES, "--", *argv],
            input=input_bytes,
            capture_output=True,
            env=_ENVIRONMENT,
            check=False,
        )


def group(name: str) -> Path:
    """Return the control group of all hosts of the lab of this name; it may not exist."""
    root = cgroup2()
    if root is None:
        raise LabError("no cgroup2 hierarchy is mounted")
    return root / name


def kill_group(path: Path) -> None:
    """Kill every process of a control group and of those below it, and remove it."""
    if not path.exists():
        return
    (path / "cgroup.kill").write_text("1", "ascii")
    deadline = time.monotonic() + STOP_SECONDS
    while "populated 1" in (path / "cgroup.events").read_text("ascii"):
        if time.monotonic() > deadline:
            raise LabError(f"processes in {path} do not die")
        time.sleep(0.01)
    for directory, _, _ in os.walk(path, topdown=False):
        Path(directory).rmdir()


def key_pair(file: Path) -> tuple[str, str]:
    """Make an Ed25519 key in `file` and `file`.pub; return both halves as OpenSSH writes them."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", file.name, "-f", file)
    return file.read_text("ascii"), Path(f"{file}.pub").read_text("ascii")


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace")
