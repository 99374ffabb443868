"""Root file systems for lab hosts, and downloaded packages, in a cache.

An image is an unpacked bare Debian, named after the hash of its recipe. It never changes, because
hosts mount their own disk over it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lab.machine import LabError, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUITES = ("sid", "trixie", "bookworm", "bullseye")
MIRROR_VARIABLE = "SIPDEPLOY_LAB_MIRROR"

_log = logging.getLogger(__name__)

_PACKAGES = (
    "systemd,systemd-sysv,dbus,openssh-server,iproute2,"
    "python3-minimal,sudo,ca-certificates,passwd,procps"
)

# The mirror may be a snapshot or archived, with a Release file that has expired.
# apt keeps downloaded packages for the next host.
_APT_CONFIGURATION = """\
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
APT::Keep-Downloaded-Packages "true";
Binary::apt::APT::Keep-Downloaded-Packages "true";
"""

# Remove from an image: the identity, timers that take the lock of apt at a random moment, and a
# mount that fails under nspawn.
_FINISH = """\
rm -f "$1"/etc/ssh/ssh_host_*
: >"$1/etc/machine-id"
rm -f "$1/etc/hostname"
for unit in apt-daily.timer apt-daily-upgrade.timer dev-hugepages.mount; do
    ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
"""


# An apply enables a unit with its first release; until then a boot must not start it.
_DISABLE = """\
for unit in asterisk kamailio nftables certbot.timer; do
    systemctl --root="$1" --quiet disable "$unit" 2>/dev/null || :
done
"""


def cache_directory() -> Path:
    """Return the directory of images, packages and disks of running hosts."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sipdeploy-lab"


def image(suite: str, packages: Sequence[str] = ()) -> Path:
    """Return the root directory of a bare `suite`; build it first if it is missing.

    With `packages` these are installed too and none of their units is enabled: the state of a host
    on which an apply has installed its packages.
    """
    if suite not in SUITES:
        raise ValueError(f"no suite `{suite}`: the lab knows {', '.join(SUITES)}")
    command = _recipe(suite, packages)
    digest = hashlib.sha256(json.dumps([command, _APT_CONFIGURATION]).encode()).hexdigest()
    name = f"{suite}-with" if packages else suite
    root = cache_directory() / "images" / f"{name}-{digest[:12]}"
    with _locked(root.with_name(f"{root.name}.lock")):
        if not root.exists():
            _build(command, root)
    return root


def _recipe(suite: str, packages: Sequence[str]) -> list[str]:
    options = [line.removesuffix(";") for line in _APT_CONFIGURATION.splitlines()]
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=apt",
        f"--include={','.join([_PACKAGES, *packages])}",
        *(f"--aptopt={option}" for option in [*options, *_proxy()]),
        "--skip=cleanup/apt/lists",  # keep the package lists for the hosts
        *([f"--customize-hook={_DISABLE}"] if packages else []),
        f"--customize-hook={_FINISH}",
        suite,
        "{root}",
        f"deb {mirror()} {suite} main",
    ]


def _build(command: list[str], root: Path) -> None:
    _log.info("building the image %s (once)", root.name)
    began = time.monotonic()
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    # In its own mount namespace, so that its mounts end with it.
    run("unshare", "--mount", *(word.replace("{root}", str(unfinished)) for word in command))
    unfinished.rename(root)
    _log.info("built %s in %.0f s", root.name, time.monotonic() - began)


def mirror(apt: Path = Path("/etc/apt")) -> str:
    """Return the Debian mirror: $SIPDEPLOY_LAB_MIRROR, or that of this machine's apt."""
    if configured := os.environ.get(MIRROR_VARIABLE):
        return configured
    one_line = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]
    uris = [
        *_deb822_uris(sorted(apt.glob("sources.list.d/*.sources"))),
        *_one_line_uris([file for file in one_line if file.exists()]),
    ]
    if uri := next(filter(_is_debian_archive, uris), None):
        return uri
    raise LabError(f"no Debian archive in this machine's apt sources: set {MIRROR_VARIABLE}")


def _is_debian_archive(uri: str) -> bool:
    return urlsplit(uri).path.rstrip("/").endswith("/debian")


def _deb822_uris(files: list[Path]) -> Iterator[str]:
    for file in files:
        for paragraph in re.split(r"\n\s*\n", file.read_text("utf-8")):
            fields = dict(re.findall(r"(?m)^([A-Za-z-]+):\s*(.*)$", paragraph))
            if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") == "yes":
                yield from fields.get("URIs", "").split()


def _one_line_uris(files: list[Path]) -> Iterator[str]:
    for file in files:
        yield from re.findall(r"(?m)^\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)", file.read_text("utf-8"))


def _proxy() -> list[str]:
    setting = run("apt-config", "shell", "proxy", "Acquire::http::Proxy").strip()
    value = setting.removeprefix("proxy=").strip("'")
    return [f'Acquire::http::Proxy "{value}"'] if value else []


def lend_packages(directory: Path) -> None:
    """Fill the package cache of a host with hard links to all downloaded packages.

    Every host has its own directory, because apt locks it during downloads.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for package in _pool().glob("*.deb"):
        _link(package, directory / package.name)


def collect_packages(directory: Path) -> None:
    """Keep the packages that a host has downloaded for later hosts."""
    # apt moves a package here from `partial` only after it has verified the digest.
    for package in directory.glob("*.deb"):
        _link(package, _pool() / package.name)


def _pool() -> Path:
    pool = cache_directory() / "packages"
    pool.mkdir(parents=True, exist_ok=True)
    return pool


def _link(source: Path, target: Path) -> None:
    # Another run may have removed the source or created the target.
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        os.link(source, target)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
