"""Times and sizes in words, short enough for a column."""

import itertools

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_KIBI = 1024
_SHORT = 10  # larger numbers need no decimal


def age(seconds: float) -> str:
    """`3 d 4 h`, `4 h 10 min`, `12 min`, `30 s`."""
    for (unit, length), (smaller, part) in itertools.pairwise(_UNITS):
        number, rest = divmod(int(seconds), length)
        if number:
            is_long = unit in ("d", "h") and rest >= part
            return f"{number} {unit}{f' {rest // part} {smaller}' if is_long else ''}"
    return f"{int(seconds)} s"


def size(number: float) -> str:
    """`34 MiB`, `4.1 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < _KIBI:
            is_whole = number >= _SHORT or unit == "B"
            return f"{number:.0f} {unit}" if is_whole else f"{number:.1f} {unit}"
        number /= _KIBI
    return f"{number:.1f} TiB"
