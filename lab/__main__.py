"""`python -m lab`: boot a host, run the demo, build images, install tools, clean up."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab import (
    Lab,
    LabError,
    catalogue,
    catalogue_asterisk,
    claim,
    images,
    machine,
    why_not,
)

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

_HOST = """\
{host.name} is up: Debian {suite} at {host.address}

  ssh -F {lab.ssh_config} {host.name}

hosts:
  {host.name}:
    address: {host.address}
    identity_file: {lab.identity_file}

Its host key is in {lab.known_hosts}
Press Ctrl-C to remove the host.
"""


def main() -> int:
    """Run the command line and return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = _parser().parse_args()
    try:
        arguments.command(arguments)
    except LabError as failure:
        sys.stderr.write(f"lab: {failure}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    host = commands.add_parser("host", help="boot a bare host and keep it until Ctrl-C")
    host.add_argument("name", nargs="?", default="sip1", metavar="NAME")
    host.add_argument("--suite", choices=images.SUITES, default="sid")
    host.set_defaults(command=_host)
    show = commands.add_parser("demo", help="boot a host, apply the example, make a call")
    show.set_defaults(command=_demo)
    build = commands.add_parser("images", help="build the images of bare hosts")
    build.add_argument("suites", nargs="*", default=images.SUITES, metavar="SUITE")
    build.set_defaults(command=_images)
    names = commands.add_parser("catalogue", help="write the linter's list of Kamailio's modules")
    names.set_defaults(command=lambda _: catalogue.write())
    clean = commands.add_parser("clean", help="remove the remains of killed labs")
    clean.set_defaults(command=_clean)
    install = commands.add_parser("install", help="install the tools of the lab with apt-get")
    install.set_defaults(command=_install)
    asterisk = commands.add_parser("catalogue-asterisk", help="write the options of Asterisk")
    asterisk.add_argument("repository", type=Path, help="a bare clone of Asterisk's repository")
    asterisk.set_defaults(command=lambda given: catalogue_asterisk.write(given.repository))
    guard = commands.add_parser("guard")  # every lab starts one, see claim.py
    guard.add_argument("number", type=int)
    guard.set_defaults(command=lambda arguments: claim.guard(arguments.number))
    return parser


def _demo(_: argparse.Namespace) -> None:
    from lab.demo import DemoFailed, demo  # noqa: PLC0415  # needs the tools of `install`

    try:
        demo()
    except DemoFailed as failure:
        raise LabError(f"demo: {failure}") from failure


def _host(arguments: argparse.Namespace) -> None:
    with Lab() as lab:
        host = lab.boot(arguments.name, suite=arguments.suite)
        sys.stdout.write(_HOST.format(host=host, lab=lab, suite=arguments.suite))
        sys.stdout.flush()
        signal.pause()


def _images(arguments: argparse.Namespace) -> None:
    _require()
    for suite in arguments.suites:
        sys.stdout.write(f"{suite}  {images.image(suite)}\n")


def _clean(_: argparse.Namespace) -> None:
    _require()
    for left in claim.abandoned():
        sys.stdout.write(f"removing {left.network.name}\n")
        left.release()


def _install(_: argparse.Namespace) -> None:
    if reason := machine.why_not_install():
        # No error: without a lab, its tests are skipped.
        sys.stderr.write(f"lab: nothing installed: {reason}\n")
        return
    added, absent = machine.install()
    if added:
        sys.stdout.write(f"installed: {', '.join(added)}\n")
    if absent:
        names = ", ".join(absent)
        sys.stderr.write(f"lab: not in apt's archives, so their tests are skipped: {names}\n")


def _require() -> None:
    if reason := why_not():
        raise LabError(reason)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
