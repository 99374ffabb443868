"""Directives of kamailio.cfg: defines, conditions, substitutions and includes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.kamailio.tokens import Token, tokens

_DIRECTIVE = re.compile(r"[#!]!(\w+)\s*(.*)", re.DOTALL)
_DEFINES = {"define", "trydef", "redefine", "defexp", "defexps", "defenv", "defenvs", "trydefenv"}
_MOST_INCLUDES = 256
_DEEPEST_INCLUDE = 16
_MOST_SUBSTITUTIONS = 300
_LONGEST_DEFINE = 64  # tokens: a longer one is opaque
_LONGEST_STRING = 10_000  # a longer one is not substituted


@dataclass(kw_only=True)
class Preprocessor:
    """Turns a file with its includes into one stream of the active tokens.

    A name is defined only if the files define it, not by the command line of Kamailio.
    """

    files: Mapping[str, StackFile]
    missing: list[Token] = field(default_factory=list)  # of `include_file`: Kamailio needs them
    absent: list[Token] = field(default_factory=list)  # of `import_file`
    names: dict[str, tuple[Token, ...]] = field(default_factory=dict)
    _replaced: dict[str, str] = field(default_factory=dict)
    _pattern: re.Pattern[str] | None = None
    _active: list[bool] = field(default_factory=list)
    _included: int = 0

    def run(self, file: StackFile, depth: int = 0) -> Iterator[Token]:
        """Yield the active tokens of a file and its includes."""
        include = ""
        for token in tokens(file):
            if token.kind == "directive":
                include = self._directive(token)
                if include:  # `#!include_file "name"`
                    kind, _, name = include.partition(" ")
                    yield from self._include(token, kind, name, depth)
                    include = ""
            elif not all(self._active):
                continue
            elif include and token.kind == "string":
                yield from self._include(token, include, token.value, depth)
                include = ""
            elif token.kind == "word" and token.value in {"include_file", "import_file"}:
                include = token.value
            else:
                include = ""
                yield from self._expanded(token)

    def _directive(self, token: Token) -> str:
        match = _DIRECTIVE.match(token.value)
        if match is None:
            return ""
        name, rest = match[1], match[2].strip()
        if name in {"ifdef", "ifndef"}:
            self._active.append((rest.split(" ")[0] in self.names) == (name == "ifdef"))
        elif name == "ifexp":
            self._active.append(True)
        elif name == "else" and self._active:
            self._active[-1] = not self._active[-1]
        elif name == "endif" and self._active:
            self._active.pop()
        elif all(self._active):
            return self._action(name, rest, token)
        return ""

    def _action(self, name: str, rest: str, token: Token) -> str:
        if name in _DEFINES:
            words = rest.replace("\\\n", " ").split(None, 1)
            if words:
                value = words[1] if len(words) > 1 else ""
                self._define(words[0].partition("=")[0], value, token)
        elif name in {"subst", "substdef", "substdefs"}:
            self._substitute(name, rest.strip("\"'"), token)
        elif name in {"include_file", "import_file"}:
            return f"{name} {rest.strip(chr(34))}"
        return ""

    def _define(self, name: str, value: str, token: Token) -> None:
        lexed = tokens(StackFile(path="", place="", text=value[:_LONGEST_STRING]))
        placed = [
            inner._replace(file=token.file, start=token.start, end=token.end) for inner in lexed
        ]
        self.names[name] = tuple(placed[:_LONGEST_DEFINE])

    def _substitute(self, kind: str, text: str, token: Token) -> None:
        """Substitute fixed texts only: a pattern could be slow, and rules need no pattern."""
        parts = text[1:].split(text[:1]) if text else []
        if len(parts) < 2 or not re.fullmatch(r"[\w-]+", parts[0]):  # noqa: PLR2004
            return
        if len(self._replaced) < _MOST_SUBSTITUTIONS:
            self._replaced[parts[0]] = parts[1]
            self._pattern = re.compile("|".join(map(re.escape, self._replaced)))
        if kind != "subst":
            self._define(parts[0], f'"{parts[1]}"' if kind == "substdefs" else parts[1], token)

    def _expanded(self, token: Token) -> Iterator[Token]:
        if token.kind == "word" and token.value in self.names:
            for inner in self._value(token):
                yield inner._replace(file=token.file, start=token.start, end=token.end)
        elif (
            token.kind in {"string", "pv"} and self._pattern and len(token.value) < _LONGEST_STRING
        ):
            value = self._pattern.sub(lambda match: self._replaced[match[0]], token.value)
            yield token if value == token.value else token._replace(value=value)
        else:
            yield token

    def _value(self, token: Token) -> tuple[Token, ...]:
        """The tokens of a define; a define that is one other define stands for that one."""
        value = self.names[token.value]
        for _ in range(8):
            if len(value) != 1 or value[0].kind != "word" or value[0].value not in self.names:
                break
            value = self.names[value[0].value]
        return value

    def _include(self, token: Token, kind: str, name: str, depth: int) -> Iterator[Token]:
        file = self._found(token.file, name)
        self._included += 1
        if file is None:
            (self.missing if kind == "include_file" else self.absent).append(token)
        elif depth < _DEEPEST_INCLUDE and self._included <= _MOST_INCLUDES:
            yield from self.run(file, depth + 1)

    def _found(self, file: StackFile, name: str) -> StackFile | None:
        folder = posixpath.dirname(file.place)
        places = (name, posixpath.normpath(posixpath.join(folder, name)))
        return next((self.files[place] for place in places if place in self.files), None)
