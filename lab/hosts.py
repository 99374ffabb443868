"""One booted Debian under nspawn: systemd as PID 1, sshd, apt, its own disk and network.

sipdeploy reaches a host over SSH. Only the tests use `run`, `read` and `write`, which bypass SSH,
to inspect a host or to break something.
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

# In its own mount namespace, so that this machine's mount table stays unchanged.
# cgroup2 is mounted over an existing hierarchy, because new versions of systemd refuse version 1.
# `volatile`: no fsync reaches the disk, because this machine keeps its power when a host loses it.
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
    """The disk of a host: a writable directory over read-only layers."""

    directory: Path
    layers: tuple[Path, ...]

    @property
    def upper(self) -> Path:
        """The files that the host itself has written."""
        return self.directory / "upper"

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """Write a file of root while the host is off."""
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
            if below:  # the new directory hides its mode
                shutil.copystat(below, directory)
            else:
                directory.chmod(0o700 if path.name == ".ssh" else 0o755)


class Host:
    """A booted Debian of a lab, made by `Lab.boot`.

    A reboot from inside only stops the host, because nspawn leaves the start to its caller.
    """

    ssh_port = 22

    def __init__(
        self,
        name: str,
        network: Network,
        *,
        octet: int,
        disk: Disk,
        key: str,
        options: Sequence[str] = (),
    ) -> None:
        """Describe a host that is off; the public key `key` may log in.

        `options` of systemd-nspawn can take rights away from it.
        """
        self.name = name
        self.key = ""  # public host key
        self.address = network.host_address(octet)
        self.disk = disk
        self._network = network
        self._octet = octet
        self._login_key = key
        self._options = options
        self._nspawn: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address} {'on' if self.is_running else 'off'}>"

    @property
    def is_running(self) -> bool:
        """Whether the host is on."""
        return self._nspawn is not None and self._nspawn.poll() is None

    @property
    def pid(self) -> int:
        """The process ID of the host's PID 1 on this machine; LabError if the host is off."""
        if not (pid := self._init()):
            raise LabError(f"{self.name} is off")
        return pid

    @property
    def console(self) -> str:
        """The output on the console of the host since its first boot."""
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
        """Boot, and wait until logins are possible and every unit has started or failed."""
        if self.is_running:
            return
        if self._nspawn:  # the host shut down by itself
            self.kill()
        self._network.attach(self.name, self._octet)
        images.lend_packages(self.disk.directory / "archives")
        self._boot()
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._has_booted():
            if not self.is_running or time.monotonic() > deadline:
                raise LabError(f"{self.name} did not boot:\n{self.console[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut down cleanly, as `systemctl poweroff` does."""
        if self._nspawn and self.is_running:
            self._nspawn.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Cut the power: no process and no peer gets a notice.

        All written data stays, also unsynced data, because this machine holds it in memory.
        """
        self._network.detach(self.name, self._octet)
        kill_group(self._group)
        self.reap()
        self.share_packages()

    def reap(self) -> None:
        """Wait for nspawn after the processes of the host have ended."""
        if self._nspawn:
            self._nspawn.wait(STOP_SECONDS)
            self._nspawn = None

    def share_packages(self) -> None:
        """Keep the downloaded packages for later hosts."""
        images.collect_packages(self.disk.directory / "archives")

    def run(
        self, command: str | Sequence[str], *, check: bool = False, input_bytes: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line, or an argv, as root inside the host.

        With `check`, a status other than 0 raises CalledProcessError with the output as a note.
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
        """Return the content of a file on the running host; FileNotFoundError if it is missing."""
        done = self._enter(["cat", "--", path], b"")
        if done.returncode:
            raise FileNotFoundError(f"{self.name}:{path}: {_text(done.stderr).strip()}")
        return done.stdout

    def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file of root on the running host, and create its parent directories."""
        self.run(
            ["install", "-D", f"--mode={mode:o}", "/dev/stdin", path],
            check=True,
            input_bytes=content,
        )

    def add_user(self, name: str, *, sudo: Literal["nopasswd", "none"] = "none") -> None:
        """Add a login for the key of the lab, with or without passwordless sudo."""
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
        for name in ("work", "root"):
            shutil.rmtree(directory / name, ignore_errors=True)
            (directory / name).mkdir(parents=True)
        self._group.mkdir(parents=True, exist_ok=True)
        layers = ":".join(map(str, self.disk.layers))
        shell = ["unshare", "--mount", "sh", "-euc", _BOOT, "sh"]
        with (directory / "console").open("ab") as console:
            self._nspawn = subprocess.Popen(
                [*shell, str(self._group), layers, str(directory), *self._nspawn_options()],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C reaches only the lab, which then stops its hosts
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
        yield "--timezone=off"  # a mount on /etc/localtime prevents the installation of tzdata
        yield "--capability=CAP_NET_ADMIN"  # nspawn does not add it to an existing namespace
        # The limit of PID 1 on a real machine, independent of this session.
        yield f"--rlimit=NOFILE=1024:{Path('/proc/sys/fs/nr_open').read_text('ascii').strip()}"
        yield f"--bind={self.disk.directory}/archives:{ARCHIVES}"
        yield from self._options

    def _init(self) -> int | None:
        if not self._nspawn or not self.is_running:
            return None
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
            for pid in children.read_text("ascii").split():
                status = Path(f"/proc/{pid}/status").read_text("utf-8", errors="replace")
                # Before it executes systemd, PID 1 is nspawn, which still sees this machine.
                if re.search(r"(?ms)^Name:\t(systemd|init)$.*^NSpid:.*\t1$", status):
                    return int(pid)
        return None

    def _has_booted(self) -> bool:
        # No connection to port 22, because sshd penalises clients that do not log in.
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
    """Return the control group of all hosts of a lab; it may not exist."""
    root = cgroup2()
    if root is None:
        raise LabError("no cgroup2 hierarchy is mounted")
    return root / name


def kill_group(path: Path) -> None:
    """Kill every process of a control group and its descendants, and remove the group."""
    if not path.exists():
        return
    (path / "cgroup.kill").write_text("1", "ascii")
    deadline = time.monotonic() + STOP_SECONDS
    while "populated 1" in (path / "cgroup.events").read_text("ascii"):
        if time.monotonic() > deadline:
            raise LabError(f"processes in {path} do not end")
        time.sleep(0.01)
    for directory, _, _ in os.walk(path, topdown=False):
        Path(directory).rmdir()


def key_pair(file: Path) -> tuple[str, str]:
    """Create an Ed25519 key in `file` and `file`.pub; return the private and the public key."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", file.name, "-f", file)
    return file.read_text("ascii"), Path(f"{file}.pub").read_text("ascii")


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace")
