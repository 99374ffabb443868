"""Patterns of extensions, such as `_9[1-5]X.`, and the arguments of applications."""

from __future__ import annotations

from functools import lru_cache

_DIGITS = {"X": "0123456789", "Z": "123456789", "N": "23456789"}


def is_pattern(name: str) -> bool:
    """Whether an extension is a pattern."""
    return name.startswith("_")


@lru_cache(maxsize=65536)
def _sets(pattern: str) -> tuple[tuple[frozenset[str], ...], str]:
    """The letters of each position, and the end: `.`, `!` or nothing; of a number too."""
    pattern = pattern.partition("/")[0]  # what follows is the caller's number
    if not is_pattern(pattern):
        return tuple(frozenset(letter) for letter in pattern), ""
    sets: list[frozenset[str]] = []
    at = 1
    while at < len(pattern):
        letter = pattern[at]
        if letter in {".", "!"}:
            return tuple(sets), letter
        end = pattern.find("]", at) if letter == "[" else -1
        if end > 0:
            sets.append(_class(pattern[at + 1 : end]))
            at = end
        elif letter not in {"-", " "}:
            sets.append(frozenset(_DIGITS.get(letter.upper(), letter)))
        at += 1
    return tuple(sets), ""


def _class(inside: str) -> frozenset[str]:
    letters: set[str] = set()
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            first, last = ord(inside[at]), ord(inside[at + 2])
            letters.update(map(chr, range(first, min(last, first + 127) + 1)))
            at += 3
        else:
            letters.add(inside[at])
            at += 1
    return frozenset(letters)


def covers(pattern: str, other: str) -> bool:
    """Whether a pattern matches all that another pattern or number matches."""
    mine, end = _sets(pattern)
    theirs, their_end = _sets(other)
    if not end and (their_end or len(mine) != len(theirs)):
        return False
    shortest = len(theirs) + (their_end == ".")
    if shortest < len(mine) + (end == "."):
        return False
    return len(theirs) >= len(mine) and all(b <= a for a, b in zip(mine, theirs, strict=False))


def is_endless(name: str) -> bool:
    """Whether a pattern matches any further text: it ends with `.` or `!`."""
    return is_pattern(name) and _sets(name)[1] != ""


def split(text: str, marks: str = ",") -> list[tuple[str, int]]:
    """Split at marks outside of brackets and quotes; each part with its offset."""
    parts, depth, start, quoted = [], 0, 0, False
    for at, letter in enumerate(text):
        if letter == '"' and text[at - 1 : at] != "\\":
            quoted = not quoted
        elif letter in "({[":
            depth += 1
        elif letter in ")}]":
            depth = max(depth - 1, 0)
        elif letter in marks and not depth and not quoted:
            parts.append((text[start:at], start))
            start = at + 1
    parts.append((text[start:], start))
    return parts
