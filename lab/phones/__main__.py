"""`python -m lab.phones build`: build the script of the page if it is out of date."""

from __future__ import annotations

import sys

from lab.phones.build import BuildFailed, build

USAGE = "usage: python -m lab.phones build"


def main(arguments: list[str]) -> int:
    """Exit status: 0 built or up to date, 1 npm failed, 2 wrong usage."""
    if arguments != ["build"]:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    try:
        script = build()
    except BuildFailed as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    sys.stdout.write(f"{script}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
