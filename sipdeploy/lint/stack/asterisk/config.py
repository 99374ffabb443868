r"""Asterisk's configuration format, with the place of each word. Never raises; linear in the text.

The format is that of Asterisk's main/config.c: sections, templates `(!)`, inheritance `(a,b)`,
additions `(+)`, includes, `=` and `=>`, and comments `;`, `;-- --;`, unless escaped as `\;`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sipdeploy.lint.stack.files import StackFile

_SPACE = "".join(map(chr, range(33)))
_MOST_INCLUDES = 10  # levels, as in Asterisk
_MOST_INHERITED = 400  # settings; an endpoint has 150 options, so only an attack has more
_MOST_OF_A_NAME = 8  # sections of one name that an addition can choose from


class Setting(NamedTuple):
    """`key = value` with the offsets of the key's start, and of the value in its file."""

    key: str
    value: str
    file: StackFile
    key_start: int
    start: int
    end: int


class Line(NamedTuple):
    """A line without its comments: `text`, whose first character is at `start`."""

    text: str
    start: int
    end: int
    is_plain: bool  # the text is that of the file, so offsets in it are offsets in the file


class Problem(NamedTuple):
    """A line that Asterisk does not accept. `kind` is a word that rules select by."""

    kind: str
    text: str
    file: StackFile
    start: int
    end: int


@dataclass(eq=False, kw_only=True, slots=True)
class Section:
    """A section: its own settings, and those that it inherits, which come first.

    There are two or three for each user, so this does without cached_property, which is slow.
    """

    name: str
    file: StackFile
    start: int
    end: int
    is_template: bool = False
    inherited: tuple[Setting, ...] = ()
    own: list[Setting] = field(default_factory=list)
    _settings: tuple[Setting, ...] | None = None
    _values: dict[str, Setting] | None = None

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All settings in the order in which Asterisk applies them."""
        if self._settings is None:
            self._settings = (*self.inherited, *self.own)
        return self._settings

    @property
    def values(self) -> dict[str, Setting]:
        """The last setting of each key."""
        if self._values is None:
            self._values = {each.key: each for each in self.settings}
        return self._values

    def forget(self) -> None:
        """Drop what was computed, because settings follow."""
        self._settings = self._values = None

    def get(self, key: str, default: str = "") -> str:
        """Return the last value of a key."""
        setting = self.values.get(key)
        return default if setting is None else setting.value

    def says(self, key: str, default: str = "no") -> bool:
        """Whether the last value of a key is one of Asterisk's words for yes."""
        return is_true(self.get(key, default))


@dataclass(eq=False, kw_only=True)
class Config:
    """A file with its includes: sections in order, and what is wrong with its lines.

    `is_complete` is false if it includes a file that is not there, or the output of a program.
    """

    file: StackFile
    sections: list[Section] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    is_complete: bool = True

    @cached_property
    def live(self) -> list[Section]:
        """The sections that are not templates."""
        return [each for each in self.sections if not each.is_template]

    def section(self, name: str) -> Section | None:
        """Return the first section of a name that is not a template."""
        return next((each for each in self.live if each.name.lower() == name), None)


@dataclass(eq=False)
class Files:
    """Place to parsed file, for the files of Asterisk that rules read."""

    configs: dict[str, Config]
    places: frozenset[str] = frozenset()  # of all files of the stack

    def named(self, name: str) -> Config | None:
        """Return the file of a name such as `pjsip.conf`, of whatever folder."""
        return self.configs.get(f"/etc/asterisk/{name}") or next(
            (each for place, each in self.configs.items() if place.endswith(f"/{name}")), None
        )


def is_true(value: str) -> bool:
    """Asterisk's words for yes."""
    return value.lower() in {"yes", "true", "y", "t", "1", "on"}


def is_false(value: str) -> bool:
    """Asterisk's words for no."""
    return value.lower() in {"no", "false", "n", "f", "0", "off"}


def lines(file: StackFile) -> Iterator[Line]:
    """Yield the lines that say something, without comments."""
    text, depth, at = file.text, 0, 0
    if text.startswith("\ufeff"):
        at = 1
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if not depth and text.find(";", at, end) < 0:
            kept, first, last, is_plain = text[at:end], at, end, True
        else:
            parts, depth = _uncommented(text, at, end, depth)
            kept = "".join(text[a:b] for a, b in parts)
            first, last = (parts[0][0], parts[-1][1]) if parts else (at, at)
            is_plain = len(parts) == 1
        stripped = kept.lstrip(_SPACE)
        if stripped:
            start = first + len(kept) - len(stripped)
            yield Line(stripped.rstrip(_SPACE), start, last, is_plain)
        at = end + 1


def _uncommented(text: str, at: int, end: int, depth: int) -> tuple[list[tuple[int, int]], int]:
    """Return the parts of a line outside comments, and the depth of comments at its end."""
    parts, start = [], at  # `start`: after the last mark
    while (mark := text.find(";", start, end)) >= 0:
        if mark > start and text[mark - 1] == "\\":
            if not depth:
                parts.append((at, mark - 1))
                at = mark
            start = mark + 1
        elif text.startswith("--", mark + 1, end) and not text.startswith("-", mark + 3, end):
            if not depth:
                parts.append((at, mark))
            depth, start = depth + 1, mark + 3
        elif depth and mark >= start + 2 and text.endswith("--", start, mark):
            depth, at, start = depth - 1, mark + 1, mark + 1
        elif depth:
            start = mark + 1
        else:  # the rest of the line is a comment
            parts.append((at, mark))
            at = start = end
    if not depth:
        parts.append((at, end))
    parts = [part for part in parts if part[0] < part[1]]
    while parts and not text[slice(*parts[-1])].strip(_SPACE):
        parts.pop()
    return parts, depth


class _Parser:
    """One file with its includes, which are read in place: a section goes on in them."""

    def __init__(self, file: StackFile, files: Mapping[str, StackFile], most: int) -> None:
        self.config = Config(file=file)
        self._files = files
        self._lines: dict[str, list[Line]] = {}
        self._left = most  # characters; a file can be included twice, but not without end
        self._by_name: dict[str, list[Section]] = {}
        self._section: Section | None = None
        self._read(file, ())

    def _read(self, file: StackFile, above: tuple[str, ...]) -> None:
        self._left -= len(file.text)
        if file.place not in self._lines:
            self._lines[file.place] = list(lines(file))
        above = (*above, file.place)
        for line in self._lines[file.place]:
            if line.text[0] == "[":
                self._begin(file, line)
            elif line.text[0] == "#":
                self._directive(file, line, above)
            else:
                self._setting(file, line)

    def _problem(self, kind: str, text: str, file: StackFile, line: Line) -> None:
        self.config.problems.append(Problem(kind, text, file, line.start, line.end))

    def _begin(self, file: StackFile, line: Line) -> None:
        name, bracket, rest = line.text[1:].partition("]")
        options: list[str] = []
        if rest.startswith("("):
            inside, closed, _ = rest[1:].partition(")")
            options = [option.strip(_SPACE) for option in inside.split(",")]
            if not closed:
                self._problem("bracket", ")", file, line)
        if not bracket:
            self._problem("bracket", "]", file, line)
        start = line.start + 1
        section = Section(name=name, file=file, start=start, end=start + len(name))
        section.is_template = "!" in options
        added = next((option for option in options if option.startswith("+")), None)
        there = None if added is None else self._there(name, added[1:], file, line)
        section = there or section
        for option in options:
            if option and option != "!" and not option.startswith("+"):
                self._inherit(section, option, line)
        if there is None:
            same = self._by_name.setdefault(name.lower(), [])
            if len(same) < _MOST_OF_A_NAME:
                same.append(section)
            self.config.sections.append(section)
        self._section = section

    def _there(self, name: str, chosen: str, file: StackFile, line: Line) -> Section | None:
        """Return the section that `(+)` adds to; `chosen` is what follows the plus sign."""
        wanted = [part.partition("=") for part in chosen.split("&") if part]
        of_value = [(key, value) for key, _, value in wanted if key != "TEMPLATES"]
        for section in self._by_name.get(name.lower(), ()):
            if section.is_template and not chosen:
                continue
            pairs = {(each.key, each.value) for each in section.settings} if of_value else set()
            if all((key.lower(), value) in pairs for key, value in of_value):
                section.forget()
                return section
        self._problem("addition", name, file, line)
        return None

    def _inherit(self, section: Section, name: str, line: Line) -> None:
        base = next(iter(self._by_name.get(name.lower(), ())), None)
        if base is None or base is section:
            self._problem("template", name, section.file, line)
        elif len(section.inherited) + len(base.settings) <= _MOST_INHERITED:
            section.inherited = section.inherited + base.settings

    def _setting(self, file: StackFile, line: Line) -> None:
        key, sign, value = line.text.partition("=")
        if self._section is None:
            self._problem("outside", line.text, file, line)
            return
        if not sign:
            self._problem("equals", line.text, file, line)
            return
        at = len(key) + 1
        if value.startswith(">"):
            value, at = value[1:], at + 1
        stripped = value.lstrip(_SPACE)
        at += len(value) - len(stripped)
        start = line.start + at
        end = start + len(stripped) if line.is_plain else line.end
        word = key.rstrip(_SPACE + "+").lower()
        self._section.own.append(
            Setting(word, stripped, file, line.start, min(start, end), max(start, end))
        )

    def _directive(self, file: StackFile, line: Line, above: tuple[str, ...]) -> None:
        match = re.match(r"#(\w+)\s*(.*)", line.text)
        word, argument = (match[1].lower(), match[2]) if match else ("", "")
        name = argument.strip("<>\"'" + _SPACE)
        if word == "exec":
            self.config.is_complete = False
        elif word in {"include", "tryinclude"}:
            if not self._include(name, above) and word == "include":
                self.config.is_complete = False
                self._problem("include", name, file, line)
        else:
            self._problem("directive", line.text.split()[0], file, line)

    def _include(self, name: str, above: tuple[str, ...]) -> bool:
        """Read the included files in place; whether Asterisk would accept the directive."""
        place = normpath(join(dirname(self.config.file.place), name))
        is_glob = any(letter in name for letter in "*?[")
        matching = [place] if place in self._files else []
        if is_glob:
            matching = sorted(each for each in self._files if fnmatchcase(each, place))
        for each in matching:
            if each in above or len(above) >= _MOST_INCLUDES or self._left < 0:
                self.config.is_complete = False
            else:
                self._read(self._files[each], above)
        if is_glob and not matching:  # the files may be elsewhere, such as passwords not in git
            self.config.is_complete = False
        return bool(matching) or is_glob


ROOTS = (
    *("pjsip.conf", "pjsip_wizard.conf", "sorcery.conf", "extconfig.conf", "acl.conf"),
    *("extensions.conf", "res_parking.conf", "features.conf", "users.conf"),
    *("rtp.conf", "voicemail.conf", "http.conf", "manager.conf"),
)


def parse(files: Mapping[str, StackFile]) -> Files:
    """Parse the files of Asterisk that rules read, by place, each with its includes."""
    most = 4 * sum(len(file.text) for file in files.values()) + 100_000
    return Files(
        {
            place: _Parser(file, files, most).config
            for place, file in files.items()
            if place.rpartition("/")[2] in ROOTS
        },
        frozenset(files),
    )


def names(value: str) -> Iterable[str]:
    """The words of a list with commas."""
    return [word for word in (part.strip(_SPACE) for part in value.split(",")) if word]
