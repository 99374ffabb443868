"""Mutations of SIP messages, from the data of a corpus file; the same for the same seed.

This module is pure: it knows no host, no password and no parser.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED = 10
FILE = Path(__file__).parents[2] / "tests/lab/differential/corpus.toml"
_HEADERS = (
    "",
    "Via",
    "Max-Forwards",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Content-Type",
    "Expires",
)
_ADDRESSES = ("From", "To")
_WEIGHTS = (30, 20, 8, 16, 10, 12, 8)  # of the mutations in Corpus._step, in their order
_IN_DISPLAY = 0.3  # the share of injections in From and To that go into the display name


@dataclass(frozen=True, slots=True)
class Names:
    """The values of the placeholders of the corpus: {other}, {domain}, {dialog_...}."""

    other: str
    domain: str
    dialog_call_id: str = "Call-ID: none"
    dialog_from: str = "From: <sip:none@none>"
    dialog_to: str = "To: <sip:none@none>"


@dataclass(frozen=True, slots=True)
class Mutant:
    """The mutations of one message; `kind` selects the message."""

    kind: str
    steps: tuple[Step, ...]

    @property
    def title(self) -> str:
        """A description without details, to group similar mutants."""
        return " + ".join(step.title for step in self.steps)

    def apply(self, message: str, names: Names) -> bytes:
        """Return the mutated message, as bytes for a WebSocket frame."""
        head, _, body = message.partition("\r\n\r\n")
        lines = head.split("\r\n")
        for step in self.steps:
            lines = step.change(lines, names)
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@dataclass(frozen=True, slots=True)
class Step:
    """One mutation of the lines of a message."""

    title: str
    change: Callable[[list[str], Names], list[str]]


class Corpus:
    """The corpus file, and the mutants made from it."""

    def __init__(self, file: Path = FILE) -> None:
        """Read the file; tomllib.TOMLDecodeError or KeyError if it is not valid."""
        data: dict[str, Any] = tomllib.loads(file.read_text())
        self.breaks: list[str] = data["breaks"]
        self.lines: list[str] = data["lines"]
        self.dialog_lines: list[str] = data["dialog_lines"]
        self.holders: list[str] = data["holders"]
        self.names: list[str] = data["names"]
        self.addresses: list[str] = data["addresses"]
        self.users: list[str] = data["users"]
        self.known = [_known(entry) for entry in data["known"]]

    def mutants(self, count: int, seed: int, kinds: dict[str, int]) -> Iterator[Mutant]:
        """Yield `count` mutants, first the known attacks; `kinds` maps each kind to its weight."""
        dice = random.Random(seed)  # noqa: S311  # repeatable, not secret
        first = [Mutant(kind, (step,)) for kind in kinds for step in self.known]
        yield from first[:count]
        names, weights = list(kinds), list(kinds.values())
        for _ in range(count - len(first)):
            (kind,) = dice.choices(names, weights)
            steps = dice.choices((1, 2, 3), (8, 3, 1))[0]
            yield Mutant(kind, tuple(self._step(dice, kind) for _ in range(steps)))

    def _step(self, dice: random.Random, kind: str) -> Step:
        makers = (
            self._smuggle,
            self._hold,
            self._disguise,
            self._readdress,
            self._user,
            _noise,
            _shuffle,
        )
        (maker,) = dice.choices(makers, _WEIGHTS)
        return maker(dice, kind)

    def _smuggled(self, dice: random.Random, kind: str) -> tuple[str, str]:
        separator = dice.choice(self.breaks)
        lines = self.dialog_lines if kind == "dialog" else self.lines
        return separator, dice.choice(lines).replace("{break}", separator)

    def _smuggle(self, dice: random.Random, kind: str) -> Step:
        """Inject a break and a line into a header: at its end, in a parameter or in its name."""
        separator, line = self._smuggled(dice, kind)
        name, inner = dice.choice(_HEADERS), dice.choice(("", "", ";x=a", ';x="a', ";x="))
        if name in _ADDRESSES and dice.random() < _IN_DISPLAY:
            return _changed(
                name,
                f'display "a{separator!r}"',
                lambda value, n: f'"a{separator}{_fill(line, n)}" {value}',
            )
        return _changed(
            name,
            f"{inner}{separator!r} behind",
            lambda value, n: value + inner + separator + _fill(line, n),
        )

    def _hold(self, dice: random.Random, kind: str) -> Step:
        """Insert, at any place, a new header that ends with a break and a line."""
        separator, line = self._smuggled(dice, kind)
        holder, place = dice.choice(self.holders), dice.random()
        title = f"{holder.partition(':')[0]} {separator!r}"
        return _inserted(title, place, lambda n: holder + separator + _fill(line, n))

    def _disguise(self, dice: random.Random, kind: str) -> Step:
        """Insert a line whose header name has another case, or additional characters."""
        pattern, line = dice.choice(self.names), self._smuggled(dice, kind)[1]
        place, case = dice.random(), dice.choice((str, str.lower, str.upper, str.swapcase))

        def made(names: Names) -> str:
            name, _, value = _fill(line, names).partition(":")
            return pattern.replace("{name}", case(name)) + ":" + value

        return _inserted(f"name {pattern!r}", place, made)

    def _readdress(self, dice: random.Random, _: str) -> Step:
        """Rewrite From, To or both."""
        pattern = dice.choice(self.addresses)
        which = dice.choice((("From",), ("To",), _ADDRESSES))

        def change(lines: list[str], names: Names) -> list[str]:
            return [
                _readdressed(line, pattern, names) if line.partition(":")[0] in which else line
                for line in lines
            ]

        return Step(f"{'+'.join(which)} as {pattern!r}", change)

    def _user(self, dice: random.Random, _: str) -> Step:
        """Rewrite one digit of the user part of a URI."""
        pattern, name, which = (
            dice.choice(self.users),
            dice.choice(("", *_ADDRESSES)),
            dice.randrange(4),
        )

        def change(value: str, _: Names) -> str:
            return re.sub(
                rf"(sip:\d{{{which}}})(\d)",
                lambda m: m[1] + pattern.replace("{digit}", m[2]),
                value,
                count=1,
            )

        return _changed(name, f"user {pattern!r}", change)


def _noise(dice: random.Random, _: str) -> Step:
    """Insert a special character at any place of the headers."""
    special, place = dice.choice('\r\n\0\t "<>@;:,&=%\\?#\x0b\x0c\x85[](){}|~`^'), dice.random()

    def change(lines: list[str], _: Names) -> list[str]:
        text = "\r\n".join(lines)
        cut = int(place * len(text))
        return (text[:cut] + special + text[cut:]).split("\r\n")

    return Step(f"noise {special!r}", change)


def _shuffle(dice: random.Random, _: str) -> Step:
    """Double, delete, fold or reorder headers."""
    act, place, turn = (
        dice.choice(("double", "leave out", "fold", "turn")),
        dice.random(),
        dice.randrange(1, 9),
    )

    def change(lines: list[str], _: Names) -> list[str]:
        at = 1 + int(place * (len(lines) - 1)) if len(lines) > 1 else 0
        if act == "double":
            return [*lines[:at], *lines[at : at + 1], *lines[at:]]
        if act == "leave out":
            return lines[:at] + lines[at + 1 :]
        if act == "fold":
            return [
                line.replace(" ", "\r\n ", 1) if index == at else line
                for index, line in enumerate(lines)
            ]
        return [lines[0], *lines[1 + turn :], *lines[1 : 1 + turn]]

    return Step(act, change)


def _readdressed(line: str, pattern: str, names: Names) -> str:
    name, _, value = line.partition(": ")
    return f"{name}: {_fill(pattern, names).replace('{value}', value)}"


def _fill(text: str, names: Names) -> str:
    """Fill in the placeholders, except {value}."""
    for key in ("dialog_call_id", "dialog_from", "dialog_to", "other", "domain"):
        text = text.replace("{" + key + "}", getattr(names, key))
    return text


def _changed(name: str, title: str, change: Callable[[str, Names], str]) -> Step:
    """Return a step that changes the value of a header; "" means the start line."""

    def apply(lines: list[str], names: Names) -> list[str]:
        if not name:
            return [change(lines[0], names), *lines[1:]]
        prefix = f"{name}: "
        return [
            prefix + change(line.removeprefix(prefix), names) if line.startswith(prefix) else line
            for line in lines
        ]

    return Step(f"{name or 'start line'} {title}", apply)


def _inserted(title: str, place: float, made: Callable[[Names], str]) -> Step:
    """Return a step that inserts a header at `place`, from 0 (first) to 1 (last)."""

    def apply(lines: list[str], names: Names) -> list[str]:
        at = 1 + int(place * len(lines))
        return [*lines[:at], made(names), *lines[at:]]

    return Step(title, apply)


def _known(entry: dict[str, Any]) -> Step:
    """Return the step of a known attack: `add` after, at the end or at the start of headers."""
    name, add = entry["name"], entry["add"]

    def apply(lines: list[str], names: Names) -> list[str]:
        text = _fill(add, names)
        made: list[str] = []
        for index, line in enumerate(lines):
            key, _, value = line.partition(": ")
            header = key if index else ""
            if header == entry.get("end_of"):
                made.append(line + text)
            elif header in entry.get("begin_of", ()):
                made.append(f"{key}: {text}{value}")
            else:
                made.append(line)
            if header == entry.get("after"):
                made.append(text)
        return made

    return Step(f"known: {name}", apply)
