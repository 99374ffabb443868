"""The dialplan of extensions.conf: contexts, extensions, priorities, and the calls in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sipdeploy.lint.stack.asterisk.patterns import covers, is_pattern

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Config, Files, Section, Setting
    from sipdeploy.lint.stack.rules import Stack

HINT = -1
_PRIORITY = re.compile(r"\s*([\w-]*)\s*(?:\(([^)]*)\))?\s*(?:\+\s*(\d+))?\s*(?:\(([^)]*)\))?\s*\Z")
_MOST_CONTEXTS = 100  # contexts that includes reach; more only in an attack
_MOST_INCLUDERS = 20
_MOST_PATTERNS = 300  # patterns of a context, likewise


class Step(NamedTuple):
    """A priority of an extension: an application with its arguments.

    `start` is the offset of the application in the file; `arguments` is as it is written.
    """

    setting: Setting
    priority: int
    label: str
    application: str
    arguments: str
    start: int
    arguments_start: int


@dataclass(eq=False)
class Extension:
    """The steps of a name, or of a pattern such as `_X.`, in a context."""

    name: str
    setting: Setting
    steps: dict[int, Step] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    has_hint: bool = False

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for many numbers."""
        return is_pattern(self.name)

    def has(self, place: str) -> bool:
        """Whether a priority, as a number or a label, is there."""
        return place in self.labels or (place.isdecimal() and int(place[:9]) in self.steps)


class Refused(NamedTuple):
    """A line that Asterisk does not add to the dialplan, and why."""

    setting: Setting
    reason: str
    fix: str


@dataclass(eq=False)
class Context:
    """A context: its extensions by name, and the contexts that it includes."""

    name: str
    section: Section
    extensions: dict[str, Extension] = field(default_factory=dict)
    includes: list[tuple[str, Setting]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    repeated: list[tuple[Step, Step]] = field(default_factory=list)
    is_open: bool = False  # a switch, or a name with a variable: more than the file shows

    @cached_property
    def patterns(self) -> list[Extension]:
        """The extensions that stand for many numbers."""
        return [each for each in self.extensions.values() if "/" in each.name or each.is_pattern]

    def matching(self, number: str) -> Iterator[Extension]:
        """The extensions that match a number."""
        number = number.replace("-", "")
        if number in self.extensions:
            yield self.extensions[number]
        yield from (each for each in self.patterns[:_MOST_PATTERNS] if covers(each.name, number))


@dataclass(eq=False)
class Dialplan:
    """All contexts of a dialplan."""

    config: Config
    contexts: dict[str, Context]
    is_closed: bool  # no other file defines contexts
    _reached: dict[str, tuple[list[Context], bool]] = field(default_factory=dict)
    _around: dict[str, tuple[list[Context], bool]] = field(default_factory=dict)

    def reachable(self, context: Context) -> tuple[list[Context], bool]:
        """A context and all that it includes; whether these are all of its extensions."""
        if context.name not in self._reached:
            self._reached[context.name] = self._reach(context)
        return self._reached[context.name]

    def _reach(self, context: Context) -> tuple[list[Context], bool]:
        found, queue, is_whole = {context.name: context}, [context], self.is_closed
        while queue:
            each = queue.pop()
            is_whole = is_whole and not each.is_open and len(each.patterns) <= _MOST_PATTERNS
            for name, _ in each.includes[:_MOST_CONTEXTS]:
                inner = self.contexts.get(name)
                is_whole = is_whole and inner is not None and len(found) < _MOST_CONTEXTS
                if inner and name not in found and len(found) < _MOST_CONTEXTS:
                    found[name] = inner
                    queue.append(inner)
        return list(found.values()), is_whole

    @cached_property
    def _includers(self) -> dict[str, list[Context]]:
        includers: dict[str, list[Context]] = {}
        for context in self.contexts.values():
            for name, _ in context.includes:
                includers.setdefault(name, []).append(context)
        return includers

    def around(self, context: Context) -> tuple[list[Context], bool]:
        """What a call in a context can reach; it may be there by an include of another one."""
        if context.name not in self._around:
            self._around[context.name] = self._look_around(context)
        return self._around[context.name]

    def _look_around(self, context: Context) -> tuple[list[Context], bool]:
        outer, queue = {context.name: context}, [context]
        while queue and len(outer) < _MOST_INCLUDERS:
            for each in self._includers.get(queue.pop().name, ())[:_MOST_CONTEXTS]:
                if each.name not in outer:
                    outer[each.name] = each
                    queue.append(each)
        reached = [self.reachable(each) for each in outer.values()]
        found = {each.name: each for contexts, _ in reached for each in contexts}
        is_whole = not queue and all(whole for _, whole in reached)
        return list(found.values()), is_whole

    def steps(self) -> Iterator[tuple[Context, Extension, Step]]:
        """All steps of all extensions."""
        for context in self.contexts.values():
            for extension in context.extensions.values():
                for step in extension.steps.values():
                    yield context, extension, step


@lru_cache(maxsize=4)
def _read(files: Files) -> Dialplan | None:
    config = files.named("extensions.conf")
    if config is None:
        return None
    contexts: dict[str, Context] = {}
    for section in config.live:
        if section.name.lower() not in {"general", "globals"}:
            context = contexts.setdefault(section.name, Context(section.name, section))
            _Reader(context).read(section)
    general = config.section("general")
    users = files.named("users.conf")
    is_closed = config.is_complete and not (users and len(users.live) > 1)
    return Dialplan(
        config, contexts, is_closed and not (general and general.get("overrideswitch"))
    )


def dialplan(stack: Stack) -> Dialplan | None:
    """The dialplan of a stack; None if it has none."""
    return _read(stack.asterisk) if stack.asterisk else None


class _Reader:
    """Reads a section as Asterisk's pbx_config does: `n` counts on, also over extensions."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._name = ""
        self._last: int | None = None

    def read(self, section: Section) -> None:
        """Add the lines of a section to the context."""
        context = self._context
        for setting in section.settings:
            if setting.key == "exten":
                name, rest, at = _first(setting.value)
                self._name = name
                self._step(setting, rest, at)
            elif setting.key.startswith("same"):
                self._step(setting, setting.value, 0)
            elif setting.key == "include":
                name = setting.value.partition(",")[0].partition("|")[0].strip()
                context.includes.append((name, setting))
                context.is_open = context.is_open or "${" in name
            elif setting.key in {"switch", "lswitch", "eswitch", "autohints"}:
                context.is_open = True

    def _refuse(self, setting: Setting, reason: str, fix: str) -> None:
        self._context.refused.append(Refused(setting, reason, fix))

    def _step(self, setting: Setting, rest: str, at: int) -> None:
        if not self._name:
            self._refuse(setting, "no `exten` precedes it", "write `exten => NUMBER,1,...` first")
            return
        if "${" in self._name:
            self._context.is_open = True
            return
        word, call, after = _first(rest)
        number, label = self._number(setting, word)
        if number is None:
            return
        name = self._name if is_pattern(self._name) else self._name.replace("-", "")
        extension = self._context.extensions.setdefault(name, Extension(name, setting))
        self._last = number
        if number == HINT:
            extension.has_hint = True
            return
        space = len(call) - len(call.lstrip())
        start = setting.start + at + after + space
        application, parenthesis, arguments = call[space:].partition("(")
        end = arguments.rfind(")")
        step = Step(
            setting=setting,
            priority=number,
            label=label,
            application=application.strip(),
            arguments=arguments[:end] if end >= 0 else arguments,
            start=start,
            arguments_start=start + len(application) + len(parenthesis),
        )
        if label:
            extension.labels.setdefault(label, number)
        there = extension.steps.setdefault(number, step)
        if there is not step:
            self._context.repeated.append((step, there))

    def _number(self, setting: Setting, word: str) -> tuple[int | None, str]:
        match = _PRIORITY.match(word)
        text, label, plus = (
            (match[1], match[2] or match[4] or "", match[3]) if match else ("",) * 3
        )
        extra = int(plus[:9]) if plus else 0
        if text == "hint":
            return HINT, ""
        if text in {"n", "next", "s", "same"}:
            if self._last in {None, HINT}:
                fix = "write `1`, or the number that it shall have"
                self._refuse(setting, f"`{text}` needs a numbered priority before it", fix)
                return None, ""
            return (self._last or 0) + (text in {"n", "next"}) + extra, label
        if text.isdecimal() and text.isascii() and int(text[:9]) > 0:
            return int(text[:9]) + extra, label
        extension = self._context.extensions.get(self._name)
        if extension and text in extension.labels:
            return extension.labels[text], label
        self._refuse(setting, f"`{word.strip()}` is not a priority", "write `1` or `n`")
        return None, ""


def _first(text: str) -> tuple[str, str, int]:
    """Split at the first comma outside brackets: what precedes, what follows, and its offset."""
    depth = 0
    for at, letter in enumerate(text):
        if letter == "[":
            depth += 1
        elif letter == "]" and depth:
            depth -= 1
        elif letter == "," and not depth:
            return text[:at].strip(), text[at + 1 :], at + 1
    if depth:  # no bracket closes: take the first comma
        head, _, rest = text.partition(",")
        return head.strip(), rest, len(head) + 1
    return text.strip(), "", len(text)


class Dialled(NamedTuple):
    """A `PJSIP/...` in an argument: the endpoint, the number, and whether a URI is given."""

    endpoint: str
    number: str
    has_uri: bool
    step: Step
    start: int
    end: int


_PJSIP = re.compile(r"\bPJSIP/([^&,()|^\s]*)", re.IGNORECASE)


@lru_cache(maxsize=4)
def dialled(plan: Dialplan) -> tuple[Dialled, ...]:
    """All endpoints that the dialplan dials by their literal name."""
    found = []
    for _, _, step in plan.steps():
        if step.application.lower() in {"dial", "originate", "page"}:
            for match in _PJSIP.finditer(step.arguments):
                resource, _, uri = match[1].partition("/")
                number, at, name = resource.rpartition("@")
                start = step.arguments_start + match.start(1) + len(number) + len(at)
                if name and not re.search(r"[$\[\]{}]", name):
                    has_uri = bool(uri)
                    found.append(Dialled(name, number, has_uri, step, start, start + len(name)))
    return tuple(found)
