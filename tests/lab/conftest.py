"""Real hosts for the tests, which are skipped on machines that cannot run the lab."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from system import INVENTORY, System, packages_of, passwords

from lab import Lab, why_not
from lab.images import cache_directory


@pytest.fixture(scope="module")
def lab():
    """A lab for each file, so that its end frees memory and inotify watches of the hosts."""
    if reason := why_not():
        pytest.skip(reason)
    with Lab() as running:
        yield running


@pytest.fixture
def login(lab, monkeypatch, tmp_path):
    """A home with the SSH configuration of the lab, without an agent."""
    # a host that a test boots finds the images of the lab, instead of building its own
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_directory().parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(f"Include {lab.ssh_config}\n")


class Deployer:
    """A deploying machine: a home with keys and known hosts, an inventory, the command."""

    def __init__(self, lab, folder: Path):
        self.folder = folder
        home = folder / "home"
        ssh = home / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        shutil.copy(lab.ssh_config, ssh / "config")
        (home / "tmp").mkdir()
        own = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "NO_COLOR": "1"}
        self.environment = {**os.environ, **own}
        self.environment.pop("SSH_AUTH_SOCK", None)

    def write(self, **values: object) -> None:
        (self.folder / "inventory.yaml").write_text(INVENTORY.format(**values))
        secrets = self.folder / "secrets.yaml"
        secrets.touch(mode=0o600)
        secrets.write_text(passwords())

    def run(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sipdeploy", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module", params=["kamailio", "asterisk"])
def system(request, lab, tmp_path_factory):
    """A calling system, deployed with `sipdeploy apply`, per file and mode.

    The host has the packages already: test_apply_to_hosts proves that apply installs them.
    """
    mode = request.param
    file = request.module.__name__.removeprefix("test_").replace("_", "-")
    suite = os.environ.get("LAB_SUITE", "sid")
    host = lab.boot(f"{file}-{mode}", suite=suite, packages=packages_of(suite))
    deployer = Deployer(lab, tmp_path_factory.mktemp(mode))
    deployer.write(name=host.name, address=host.address, mode=mode)
    began = time.monotonic()
    done = deployer.run("apply", host.name, "--yes")
    if done.returncode:
        host.stop()
        pytest.fail(done.stdout + done.stderr)
    yield System(
        mode=mode,
        host=host,
        deployer=deployer,
        apply_seconds=time.monotonic() - began,
    )
    host.stop()
