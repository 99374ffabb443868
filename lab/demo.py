"""`make demo`: boot a temporary host, apply the example, and prove it with calls.

The demo runs and prints the commands that a user would type.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab import Lab, why_not
from lab.browser import Browser, spki_pin
from lab.phones.page import NotSeen
from sipdeploy.sip import media

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.hosts import Host
    from lab.phones.phone import Phone

EXAMPLE = Path(__file__).parent.parent / "inventory.example.yaml"
DOMAIN = "sip.example.com"
INIT = "init --new-passwords"  # the example names users, and no secrets file comes with it
LOW_HZ, HIGH_HZ = 440, 620
NEXT = """
It took {total:.0f} s from a bare Debian to a proven call. The host is removed. On your own host:

  {sipdeploy} init pbx --domain sip.example.org --address 203.0.113.10
  cd pbx
  {sipdeploy} lint
  {sipdeploy} apply sip1

  {sipdeploy} phone --open 1001 1002

To boot a bare host for tests, until Ctrl-C: {python} -m lab host
"""


class DemoFailed(Exception):  # noqa: N818  # the name says what happened
    """A step of the demo failed; the message names it."""


def demo() -> None:
    """Run the demo; DemoFailed, or NotSeen of the phones, names the failed step."""
    began = time.monotonic()
    if reason := why_not():
        _without_a_host(reason)
        return
    with Lab() as lab:
        _say(f"a bare Debian host ({time.monotonic() - began:.1f} s)")
        host = lab.boot("sip1")
        folder = lab.directory / "site"
        _site(folder, host.address)
        environment = _home(lab)
        _type("lint", folder, environment)
        _type("apply sip1 --yes", folder, environment)
        _say("a second apply changes nothing")
        _type("apply sip1 --yes", folder, environment)
        _say("two browsers call each other")
        _prove(host, folder)
        level, reason = last_level()
        _say(f"the proof of a deploying machine, level {level}{reason}")
        _type(f"verify sip1 --level {level}", folder, environment)
    python = sys.executable
    command = Path(python).with_name("sipdeploy")
    _write(NEXT.format(total=time.monotonic() - began, python=python, sipdeploy=command))


def last_level() -> tuple[str, str]:
    """The last proof: with sound, or without the extra for it, and why."""
    problem = media.missing()
    return ("full", "") if problem is None else ("quick", f", because {problem.message}")


def _without_a_host(reason: str) -> None:
    """Render and lint, on a machine that cannot run the lab."""
    _say(f"cannot boot a host: {reason}; rendering and linting the example instead")
    folder = Path.cwd() / "rendered-example"
    folder.mkdir(exist_ok=True)
    shutil.copy(EXAMPLE, folder / "inventory.yaml")
    environment = dict(os.environ)
    for command in (INIT, "lint", "render"):
        _type(command, folder, environment)
    _say(f"see {folder / 'rendered'}; no host was booted, and no call was proven")


def _site(folder: Path, address: str) -> None:
    """Write the example with the address of this host."""
    folder.mkdir()
    text = re.sub(r"(?m)^(\s+address:) \S+", rf"\1 {address}", EXAMPLE.read_text(), count=1)
    (folder / "inventory.yaml").write_text(text)
    _type(INIT, folder, dict(os.environ))


def _home(lab: Lab) -> dict[str, str]:
    """An environment whose ~/.ssh knows the host key, as after a first login."""
    ssh = lab.directory / "home" / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    shutil.copy(lab.ssh_config, ssh / "config")
    kept = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    return {**kept, "HOME": str(ssh.parent)}


def _type(command: str, folder: Path, environment: dict[str, str]) -> None:
    """Print and run `sipdeploy COMMAND`; DemoFailed if it fails."""
    _write(f"\n$ sipdeploy {command}\n")
    argv = [sys.executable, "-m", "sipdeploy", *command.split()]
    done = subprocess.run(argv, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise DemoFailed(f"`sipdeploy {command}` failed with exit code {done.returncode}")


def _prove(host: Host, folder: Path) -> None:
    """Register two phones, call each other and the IVR, and hang up."""
    passwords = dict(re.findall(r'"?(\d+)"?: "?([^"\s]+)', (folder / "secrets.yaml").read_text()))
    pin = spki_pin(host.read("/etc/kamailio/tls/server.crt"))
    resolve = {DOMAIN: host.address}
    with (
        Browser(resolve, spki=[pin], tone_hz=LOW_HZ) as first,
        Browser(resolve, spki=[pin], tone_hz=HIGH_HZ) as second,
    ):
        with _seen("1001 and 1002 register over wss"):
            alice = first.phone("1001", password=passwords["1001"])
            bob = second.phone("1002", password=passwords["1002"])
        _call(alice, bob)
        _call(bob, alice)
        with _seen("6000 says its digits, rings, and hangs up"):
            call = alice.call("6000").wait("answered").wait("ended", timeout_seconds=25)
            _require(call.heard_speech() and call.heard_seconds(LOW_HZ) > 1, "the IVR was heard")


def _call(caller: Phone, callee: Phone) -> None:
    with _seen(
        f"{caller.number} calls {callee.number}: audio both ways, and hanging up ends both"
    ):
        call = caller.call(callee.number)
        incoming = callee.wait_incoming().answer()
        call.wait("answered")
        tones = {"1001": HIGH_HZ, "1002": LOW_HZ}  # what each should hear
        _require(call.hears(tones[caller.number]), f"{caller.number} hears {callee.number}")
        _require(incoming.hears(tones[callee.number]), f"{callee.number} hears {caller.number}")
        call.hang_up()
        incoming.wait("ended")


def _require(is_seen: bool, what: str) -> None:  # noqa: FBT001  # an assertion
    if not is_seen:
        raise DemoFailed(f"not seen: {what}")


@contextlib.contextmanager
def _seen(what: str) -> Iterator[None]:
    """Print one line of the proof: the expectation, then the result and its duration."""
    _write(f"  {what} ".ljust(72, "."))
    began = time.monotonic()
    try:
        yield
    except (NotSeen, DemoFailed):
        _write(" FAILED\n")
        raise
    _write(f" ok  {time.monotonic() - began:.1f}s\n")


def _say(text: str) -> None:
    _write(f"\n== {text}\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
