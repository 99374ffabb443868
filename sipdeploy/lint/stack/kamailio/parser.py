"""The grammar of kamailio.cfg, as far as the rules need it. Skips what it cannot read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sipdeploy.lint.stack.kamailio.preprocessor import Preprocessor
from sipdeploy.lint.stack.kamailio.syntax import (
    NO_FILE,
    Assign,
    Block,
    Both,
    Call,
    Case,
    Compare,
    Condition,
    If,
    Jump,
    Not,
    Parameter,
    Route,
    Setting,
    Statement,
    Switch,
    Syntax,
    Tokens,
    Value,
    While,
)
from sipdeploy.lint.stack.kamailio.tokens import Token, on_one_line

if TYPE_CHECKING:
    from sipdeploy.lint.stack.files import StackFile

_ROUTES = {
    "request_route",
    "route",
    "reply_route",
    "onreply_route",
    "failure_route",
    "branch_route",
    "onsend_route",
    "event_route",
    "local_route",
}
_COMPARISONS = {"==", "!=", "=~", "!~", "<", ">", "<=", ">=", "eq", "ne", "="}
_AFTER_GROUP = _COMPARISONS | {"+", "-", "*", "/", "%"}
_OPERATORS = _COMPARISONS | {"&&", "||", "and", "or"}
_JUMPS = {"exit", "drop", "return", "break", "continue"}
_DEEPEST = 100
_OPENING, _CLOSING = {"(", "{", "["}, {")", "}", "]"}
_MODULES = re.compile(r"[\w-]+")


class Parser:
    """Reads tokens one after another; each method returns a node and stops behind it."""

    def __init__(self, root: StackFile, files: Mapping[str, StackFile]) -> None:
        self._preprocessor = Preprocessor(files=files)
        found = list(self._preprocessor.run(root))
        self._broken = tuple(token for token in found if token.kind == "broken")
        self._tokens = [token for token in found if token.kind != "broken"]
        end = Token("end", "", root or NO_FILE, len(root.text), len(root.text))
        self._tokens += [end, end]
        self._at = 0
        self._depth = 0
        self._is_cut = False
        self._settings: list[Setting] = []
        self._modules: list[tuple[str, Token]] = []
        self._parameters: list[Parameter] = []
        self._routes: list[Route] = []

    def parse(self) -> Syntax:
        """Read the whole file."""
        while self._peek().kind != "end":
            self._top()
        return Syntax(
            settings=tuple(self._settings),
            modules=tuple(self._modules),
            parameters=tuple(self._parameters),
            routes=tuple(self._routes),
            missing=tuple(self._preprocessor.missing),
            absent=tuple(self._preprocessor.absent),
            broken=self._broken,
            is_cut=self._is_cut,
            strings=frozenset(t.value for t in self._tokens if t.kind == "string"),
            variables=frozenset(t.value for t in self._tokens if t.kind == "pv"),
        )

    # --- the stream ---

    def _peek(self, ahead: int = 0) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._peek()
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _skip(self, *values: str) -> bool:
        if self._peek().value in values and self._peek().kind in {"mark", "word"}:
            self._next()
            return True
        return False

    def _is_mark(self, value: str, ahead: int = 0) -> bool:
        token = self._peek(ahead)
        return token.kind == "mark" and token.value == value

    def _rest_of_line(self, first: Token) -> Tokens:
        """The tokens up to a semicolon or the end of the line of `first`."""
        newline = first.file.text.find("\n", first.end)
        stop = len(first.file.text) if newline < 0 else newline
        found = []
        while (token := self._peek()).kind != "end" and not self._is_mark(";"):
            if token.file is not first.file or not first.start <= token.start < stop:
                break
            found.append(self._next())
        return tuple(found)

    def _group(self, closing: str) -> list[Tokens]:
        """The parts between commas up to the closing mark, which it skips."""
        parts: list[list[Token]] = [[]]
        depth = 0
        while (token := self._peek()).kind != "end":
            mark = token.value if token.kind == "mark" else ""
            if depth == 0 and mark == closing:
                self._next()
                break
            if depth == 0 and mark in {";", "{", "}"}:
                break
            depth += (mark in _OPENING) - (mark in _CLOSING)
            if depth == 0 and mark == ",":
                parts.append([])
            else:
                parts[-1].append(token)
            self._next()
        return [tuple(part) for part in parts]

    # --- the top level ---

    def _top(self) -> None:
        token = self._next()
        if token.kind != "word":
            return
        if token.value in _ROUTES and self._begins_route():
            self._route(token)
        elif token.value in {"loadmodule", "loadmodulex"}:
            self._skip("(")
            name = self._next().value.rpartition("/")[2].removesuffix(".so")
            self._modules.append((name, token))
        elif token.value in {"modparam", "modparamx"} and self._skip("("):
            self._modparam()
        elif self._is_mark("=") or self._is_mark("."):
            self._setting(token)

    def _begins_route(self) -> bool:
        return self._is_mark("{") or self._is_mark("[")

    def _route(self, keyword: Token) -> None:
        kind, name, token = keyword.value, "", keyword
        if self._skip("["):
            named = self._group("]")[0]
            name = "".join(part.value for part in named)
            token = named[0]._replace(end=named[-1].end) if named else token
        kind = {"onreply_route": "reply_route"}.get(kind, kind)
        if kind == "route" and name in {"", "0"}:
            kind, name = "request_route", ""
        if self._is_mark("{"):
            self._routes.append(Route(kind, name, token, self._block()))

    def _modparam(self) -> None:
        module, name, value = (*self._group(")"), (), (), ())[:3]
        if module and name:
            modules = tuple(_MODULES.findall(module[0].value))
            text = on_one_line(value)
            self._parameters.append(
                Parameter(modules, module[0], name[0], text, len(self._modules))
            )

    def _setting(self, token: Token) -> None:
        name = token.value
        while self._skip("."):
            name += f".{self._next().value}"
        if self._skip("="):
            found = self._rest_of_line(token)
            self._settings.append(Setting(name, token, on_one_line(found), found))

    # --- statements ---

    def _block(self) -> Block:
        """The statements in braces, or one statement without them."""
        self._depth += 1
        statements: list[Statement] = []
        if self._depth > _DEEPEST:
            self._is_cut = True
            self._skip_block()
        elif self._skip("{"):
            while self._peek().kind != "end" and not self._skip("}"):
                if statement := self._statement():
                    statements.append(statement)
        elif statement := self._statement():
            statements.append(statement)
        self._depth -= 1
        return tuple(statements)

    def _skip_block(self) -> None:
        depth = 0
        while (token := self._peek()).kind != "end":
            depth += (token.value == "{") - (token.value == "}") if token.kind == "mark" else 0
            if depth < 0:
                return
            self._next()
            if depth == 0 and token.value in {";", "}"}:
                return

    def _statement(self) -> Statement | None:
        token = self._next()
        if token.kind == "pv":
            return self._assignment(token)
        return self._keyword(token) if token.kind == "word" else None

    def _keyword(self, token: Token) -> Statement | None:
        if token.value == "if":
            condition = self._condition()
            then = self._block()
            return If(token, condition, then, self._block() if self._skip("else") else ())
        if token.value == "while":
            return While(self._condition(), self._block())
        if token.value == "switch":
            return self._switch()
        if token.value in _JUMPS:
            return Jump(token.value, token, self._up_to_semicolon())
        if self._is_mark("("):
            return self._call(token)
        self._up_to_semicolon()
        return None

    def _assignment(self, target: Token) -> Statement:
        self._skip("=", "+=", ":")
        value = self._up_to_semicolon()
        calls = [
            Call(token.value, token, ())
            for token, after in itertools.pairwise(value)
            if token.kind == "word" and after.value == "(" and after.kind == "mark"
        ]
        return Assign(target, value, tuple(calls))

    def _up_to_semicolon(self) -> Tokens:
        found = []
        while (token := self._peek()).kind != "end":
            if token.kind == "mark" and token.value in {";", "{", "}"}:
                self._skip(";")
                break
            found.append(self._next())
        return tuple(found)

    def _switch(self) -> Switch:
        subject = self._group(")")[0] if self._skip("(") else ()
        cases: list[Case] = []
        if self._skip("{"):
            while self._peek().kind != "end" and not self._skip("}"):
                keyword = self._next()
                if keyword.value in {"case", "default"}:
                    value = self._up_to_colon()
                    cases.append(Case(value if keyword.value == "case" else None, self._case()))
        return Switch(subject, tuple(cases))

    def _up_to_colon(self) -> Tokens:
        found = []
        while self._peek().kind != "end" and self._peek().value not in {"{", "}", ";"}:
            if self._skip(":"):
                break
            found.append(self._next())
        return tuple(found)

    def _case(self) -> Block:
        self._depth += 1
        statements: list[Statement] = []
        while self._peek().kind != "end" and not self._is_mark("}"):
            if self._peek().kind == "word" and self._peek().value in {"case", "default"}:
                break
            if self._depth > _DEEPEST:
                self._is_cut = True
                self._skip_block()
            elif statement := self._statement():
                statements.append(statement)
        self._depth -= 1
        return tuple(statements)

    def _call(self, token: Token) -> Call:
        self._skip("(")
        arguments = tuple(part for part in self._group(")") if part)
        return Call(token.value, token, arguments)

    # --- conditions ---

    def _condition(self) -> Condition:
        if not self._skip("("):
            return Value(())
        condition = self._or()
        while not self._skip(")"):
            if self._peek().kind == "end" or self._peek().value in {"{", "}", ";"}:
                break
            self._next()
        return condition

    def _or(self) -> Condition:
        return self._joined(("||", "or"), is_and=False)

    def _joined(self, marks: tuple[str, ...], *, is_and: bool) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._is_cut = True
            self._depth -= 1
            return Value(self._operand())
        part = self._not if is_and else self._and
        parts = [part()]
        while self._skip(*marks):
            parts.append(part())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Both(is_and, tuple(parts))

    def _and(self) -> Condition:
        return self._joined(("&&", "and"), is_and=True)

    def _not(self) -> Condition:
        negations = 0
        while self._skip("!", "not"):
            negations += 1
        condition = self._primary()
        return Not(condition) if negations % 2 else condition

    def _primary(self) -> Condition:
        token = self._peek()
        if self._is_mark("("):
            before = self._at
            self._next()
            inner = self._or()
            self._skip(")")
            if self._peek().value not in _AFTER_GROUP:
                return inner
            left = tuple(self._tokens[before : self._at])
            return self._comparison((*left, *self._operand()), None)
        if token.kind == "word" and self._is_mark("(", 1):
            self._next()
            call = self._call(token)
            return self._comparison((token,), call)
        return self._comparison(self._operand(), None)

    def _comparison(self, left: Tokens, call: Call | None) -> Condition:
        operator = self._peek()
        if operator.value in _COMPARISONS and operator.kind in {"mark", "word"}:
            self._next()
            name = {"eq": "==", "ne": "!=", "=": "=="}.get(operator.value, operator.value)
            return Compare(left, name, self._operand(), call)
        return call or Value(left)

    def _operand(self) -> Tokens:
        """The tokens up to the next operator of conditions at this depth."""
        found: list[Token] = []
        depth = 0
        while (token := self._peek()).kind != "end":
            if token.kind in {"mark", "word"}:
                value = token.value
                if value in {"{", "}", ";"} or (depth == 0 and value == ")"):
                    break
                if depth == 0 and value in _OPERATORS:
                    break
                depth += (value in _OPENING) - (value in _CLOSING)
            found.append(self._next())
        return tuple(found)
