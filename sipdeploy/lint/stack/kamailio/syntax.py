"""What the rules see of kamailio.cfg: settings, modules, routes, statements and conditions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.kamailio.tokens import Token

Tokens = tuple[Token, ...]


class Call(NamedTuple):
    """A call of a function or of a command of the core, such as `route(AUTH)`."""

    name: str
    token: Token
    arguments: tuple[Tokens, ...]

    def argument(self, number: int) -> str | None:
        """The value of an argument that is one word or string; None if there is none, or more."""
        given = self.arguments[number] if number < len(self.arguments) else ()
        return given[0].value if len(given) == 1 else None


class Compare(NamedTuple):
    """A comparison. `call` is its left side if that is a call."""

    left: Tokens
    operator: str
    right: Tokens
    call: Call | None = None


class Not(NamedTuple):
    """A negated condition."""

    condition: Condition


class Both(NamedTuple):
    """Conditions joined by `and`, or by `or`."""

    is_and: bool
    conditions: tuple[Condition, ...]


class Value(NamedTuple):
    """Any other condition, by its tokens."""

    tokens: Tokens


Condition = Call | Compare | Not | Both | Value


class Assign(NamedTuple):
    """An assignment; `calls` are those of its right side."""

    target: Token
    value: Tokens
    calls: tuple[Call, ...]


class If(NamedTuple):
    """A conditional statement."""

    token: Token
    condition: Condition
    then: Block
    other: Block


class While(NamedTuple):
    """A loop."""

    condition: Condition
    body: Block


class Case(NamedTuple):
    """A case of a switch; without a value it is the default."""

    value: Tokens | None
    body: Block


class Switch(NamedTuple):
    """A switch with its cases."""

    value: Tokens
    cases: tuple[Case, ...]


class Jump(NamedTuple):
    """`exit`, `drop`, `return` or `break`, with the tokens of its value."""

    kind: str
    token: Token
    value: Tokens


Statement = Call | Assign | If | While | Switch | Jump
Block = tuple[Statement, ...]


class Setting(NamedTuple):
    """A global parameter, such as `listen=udp:127.0.0.1:5060`."""

    name: str
    token: Token
    value: str
    tokens: Tokens

    @property
    def end(self) -> int:
        """The end of the value, for a span of the whole setting."""
        return self.tokens[-1].end if self.tokens else self.token.end


class Parameter(NamedTuple):
    """A `modparam`: the modules, and the tokens of module, name and value."""

    modules: tuple[str, ...]
    module: Token
    name: Token
    value: str
    number: int  # of modules that are loaded before


class Route(NamedTuple):
    """A block of routing. `kind` is `request_route`, `route`, `event_route`, ..."""

    kind: str
    name: str
    token: Token
    body: Block


@dataclass(frozen=True, kw_only=True)
class Syntax:
    """A kamailio.cfg with its includes."""

    settings: tuple[Setting, ...] = ()
    modules: tuple[tuple[str, Token], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    routes: tuple[Route, ...] = ()
    missing: tuple[Token, ...] = ()  # includes that were not given
    absent: tuple[Token, ...] = ()  # imports that were not given, which may be intended
    broken: tuple[Token, ...] = ()  # strings whose quote is missing
    is_cut: bool = False  # too deep or too long in places: what is absent may be there
    strings: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()  # the pseudo-variables

    @property
    def is_complete(self) -> bool:
        """Whether nothing is unknown: a rule about what is absent needs it."""
        is_read = not self.missing and not self.broken and not self.is_cut
        return is_read and not self.setting("cfgengine")

    @property
    def is_whole(self) -> bool:
        """Whether no import is absent either: a rule about names needs it."""
        return self.is_complete and not self.absent

    @cached_property
    def loaded(self) -> dict[str, Token]:
        """The loaded modules."""
        return dict(reversed(self.modules))

    def setting(self, name: str) -> Setting | None:
        """The last setting of a name, which is the one that holds."""
        return next((each for each in reversed(self.settings) if each.name == name), None)

    def parameter(self, module: str, name: str) -> Parameter | None:
        """The last `modparam` of a name."""
        return next(
            (p for p in reversed(self.parameters) if module in p.modules and p.name.value == name),
            None,
        )

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """Every call in every route."""
        return tuple(call for route in self.routes for call in calls_of(route.body))

    def called(self, *names: str) -> Call | None:
        """The first call of one of these functions."""
        return next((call for call in self.calls if call.name in names), None)

    @cached_property
    def conditions(self) -> tuple[Compare, ...]:
        """Every comparison in every route."""
        return tuple(each for route in self.routes for each in _comparisons(route.body))


def _comparisons(block: Block) -> Iterator[Compare]:
    for statement in statements_of(block):
        if isinstance(statement, If | While):
            for part in parts_of(statement.condition):
                if isinstance(part, Compare):
                    yield part


def parts_of(condition: Condition) -> Iterator[Condition]:
    """The calls, comparisons and values of a condition."""
    if isinstance(condition, Not):
        yield from parts_of(condition.condition)
    elif isinstance(condition, Both):
        for each in condition.conditions:
            yield from parts_of(each)
    else:
        yield condition


def statements_of(block: Block) -> Iterator[Statement]:
    """Every statement of a block and the blocks in it, in the order of the text."""
    for statement in block:
        yield statement
        if isinstance(statement, If):
            yield from statements_of(statement.then)
            yield from statements_of(statement.other)
        elif isinstance(statement, While):
            yield from statements_of(statement.body)
        elif isinstance(statement, Switch):
            for case in statement.cases:
                yield from statements_of(case.body)


def calls_of(block: Block) -> Iterator[Call]:
    """The calls of a block, in the order of the text."""
    for statement in statements_of(block):
        if isinstance(statement, Call):
            yield statement
        elif isinstance(statement, Assign):
            yield from statement.calls
        elif isinstance(statement, If | While):
            yield from _calls_in(statement.condition)


def _calls_in(condition: Condition) -> Iterator[Call]:
    for part in parts_of(condition):
        if isinstance(part, Call):
            yield part
        elif isinstance(part, Compare) and part.call:
            yield part.call


NO_FILE = StackFile(path="", place="", text="")
