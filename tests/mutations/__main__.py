"""`python -m tests.mutations [NAME...]`: remove guards one at a time; a test must notice each.

The exit status is 1 if a mutation survives or is broken. The checkout is never changed.
"""

import argparse
import signal
import sys
from collections import Counter
from collections.abc import Sequence

from tests.mutations.rows import Mutation, load
from tests.mutations.run import Verdict, judge, unfit


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    chosen = choose(load(), options)
    if options.list:
        for one in chosen:
            print(f"{one.name:14} {one.test}{f' ({one.suite})' if one.suite else ''}")
        return 0
    tests = {one.test for one in chosen}
    print(f"{len(tests)} tests run on the unchanged tree first", file=sys.stderr)
    bad = unfit(chosen, options.seconds * len(chosen))
    width = max(len(one.name) for one in chosen)
    counts = Counter()
    for one in chosen:
        if reason := bad.get((one.test, one.suite)):
            verdict = Verdict(mutation=one, word="broken", reason=reason)
        else:
            verdict = judge(one, options.seconds)
        counts[verdict.word] += 1
        line = f"{one.name:{width}}  {verdict.word:8}  {verdict.seconds:6.1f} s  {verdict.reason}"
        print(line.rstrip(), flush=True)
    print(", ".join(f"{counts[word]} {word}" for word in ("noticed", "survived", "broken")))
    return 0 if counts["noticed"] == len(chosen) else 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations (default: all)")
    parser.add_argument(
        "--list", action="store_true", help="list them with their tests, and run none"
    )
    parser.add_argument("--unit", action="store_true", help="only those that need no lab")
    parser.add_argument(
        "--seconds", type=float, default=600, help="seconds for each (default: 600)"
    )
    return parser.parse_args(argv)


def choose(mutations: Sequence[Mutation], options: argparse.Namespace) -> list[Mutation]:
    """Return the selected mutations; SystemExit for an unknown name."""
    known = {one.name for one in mutations}
    if unknown := [name for name in options.names if name not in known]:
        raise SystemExit(f"no mutation is named {', '.join(unknown)} (see --list)")
    chosen = [one for one in mutations if not options.names or one.name in options.names]
    chosen = [one for one in chosen if one.is_unit or not options.unit]
    if not chosen:
        raise SystemExit("no mutation is left to run")
    return chosen


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
