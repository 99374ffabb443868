"""Walks the paths of requests through the routes, and notes what is known where they end.

Each walk takes one request of a stranger: a REGISTER, an INVITE, an ACK or a BYE. A state is what
is known on a path: facts about the sender and the destination, flags, and conditions already
decided. A function that the walk does not know may succeed or fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sipdeploy.lint.stack.kamailio import checks
from sipdeploy.lint.stack.kamailio.syntax import (
    Assign,
    Block,
    Both,
    Call,
    Compare,
    Condition,
    If,
    Jump,
    Not,
    Route,
    Statement,
    Switch,
    Syntax,
    Tokens,
    While,
)

_MOST_STATES = 32
_MOST_STEPS = 15_000  # statements times states of one walk
_DEEPEST = 120  # blocks inside each other, across routes


class State(NamedTuple):
    """What is known on a path. `result` is the sign of the last return code."""

    facts: frozenset[checks.Fact] = frozenset()
    flags: frozenset[str] = frozenset()
    decided: frozenset[tuple[str, bool]] = frozenset()
    result: int = 0

    def kinds(self) -> set[str]:
        """The kinds of the facts."""
        return {fact.kind for fact in self.facts}


States = frozenset[State]
NOWHERE: States = frozenset()
NO_FACTS: checks.Facts = frozenset()


class Sink(NamedTuple):
    """A call that stores or sends, with the states in which a request reaches it."""

    call: Call
    states: set[State]


class Outcome(NamedTuple):
    """The states behind a block: those that go on, those that return, those that break."""

    onward: States
    returned: States = NOWHERE
    broken: States = NOWHERE


class Walk:
    """One request on its way through all routes."""

    def __init__(self, syntax: Syntax, request: checks.Request) -> None:
        self.request = request
        self.is_cut = False
        self.sinks: dict[tuple[str, int], Sink] = {}
        self._routes: Mapping[str, Route] = {r.name: r for r in syntax.routes if r.kind == "route"}
        self._known: dict[tuple[str, States], States] = {}
        self._running: set[str] = set()
        self._depth = 0
        self._steps = 0
        for route in syntax.routes:
            if route.kind == "request_route":
                self._block(route.body, frozenset({State()}))

    # --- statements ---

    def _block(self, block: Block, states: States) -> Outcome:
        self._depth += 1
        if self._depth > _DEEPEST:
            self.is_cut = True
            self._depth -= 1
            return Outcome(states)
        returned, broken = NOWHERE, NOWHERE
        for statement in block:
            if not states:
                break
            self._steps += len(states)
            if self._steps > _MOST_STEPS or len(states) > 4 * _MOST_STATES:
                self.is_cut = True
                break
            outcome = self._statement(statement, states)
            states = _few(outcome.onward)
            returned |= outcome.returned
            broken |= outcome.broken
        self._depth -= 1
        return Outcome(states, returned, broken)

    def _statement(self, statement: Statement, states: States) -> Outcome:
        if isinstance(statement, Call):
            yes, no = self._call(statement, states)
            return Outcome(yes | no)
        if isinstance(statement, Assign):
            for call in statement.calls:
                yes, no = self._call(call, states)
                states = yes | no
            learned, made_true = checks.assigned(statement), checks.constant(statement)
            return Outcome(frozenset(_with(state, *learned, made_true) for state in states))
        if isinstance(statement, If):
            yes, no = self._condition(statement.condition, states)
            then, other = self._block(statement.then, yes), self._block(statement.other, no)
            onward, returned, broken = (a | b for a, b in zip(then, other, strict=True))
            return Outcome(_resulting(onward, 0), returned, broken)
        if isinstance(statement, Jump):
            return self._jump(statement, states)
        if isinstance(statement, While):
            yes, no = self._condition(statement.condition, states)
            body = self._block(statement.body, yes)
            return Outcome(no | body.onward | body.broken, body.returned)
        return self._switch(statement, states)

    def _jump(self, jump: Jump, states: States) -> Outcome:
        if jump.kind in {"break", "continue"}:
            return Outcome(NOWHERE, NOWHERE, states)
        value = "".join(token.value for token in jump.value).strip("()")
        if jump.kind != "return" or value == "0":
            return Outcome(NOWHERE)
        sign = -1 if value.startswith("-") else 1 if value.isdigit() or not value else 0
        sign = 0 if value.startswith("-$") else sign
        return Outcome(NOWHERE, _resulting(states, sign))

    def _switch(self, switch: Switch, states: States) -> Outcome:
        """Each case that is possible; one without `break` goes on into the next."""
        onward, returned, running = NOWHERE, NOWHERE, NOWHERE
        rest = states
        for case in switch.cases:
            entering, rest = self._case(switch.value, case.value, rest)
            outcome = self._block(case.body, _few(entering | running))
            returned |= outcome.returned
            onward |= outcome.broken
            running = outcome.onward
        return Outcome(_resulting(onward | running | rest, 0), returned)

    def _case(
        self, subject: Tokens, value: Tokens | None, states: States
    ) -> tuple[States, States]:
        """The states that a case takes, and those that it leaves to the next."""
        if value is None:
            return states, NOWHERE
        return self._condition(Compare(subject, "==", value), states)

    # --- calls ---

    def _call(self, call: Call, states: States) -> tuple[States, States]:
        """The states after success and after failure."""
        if call.name == "route":
            return self._route(call, states)
        if not checks.matters(call):
            return states, states
        kind = checks.SINKS.get(call.name)
        if kind:
            self.sinks.setdefault((kind, id(call)), Sink(call, set())).states.update(states)
        certain = self.request.answers(call)
        forgotten = checks.forgotten(call)
        after = {_with(self._after(call, state), NO_FACTS, forgotten, None) for state in states}
        if call.name in checks.FLAG_TESTS:
            flag = checks.flag(call)
            return (
                frozenset(state for state in after if flag in state.flags),
                frozenset(state for state in after if flag not in state.flags),
            )
        return self._fork(None, after, checks.learned(call), certain=certain)

    @staticmethod
    def _fork(
        text: tuple[str, bool] | None,
        states: Iterable[State],
        learned: tuple[checks.Facts, checks.Facts],
        *,
        certain: bool | None,
    ) -> tuple[States, States]:
        """The states with and without success, as far as both are possible."""
        yes: States = NOWHERE
        no: States = NOWHERE
        if certain is not False:
            forked = (_decide(state, text, learned[0], is_true=True) for state in states)
            yes = frozenset(state for state in forked if state)
        if certain is not True:
            forked = (_decide(state, text, learned[1], is_true=False) for state in states)
            no = frozenset(state for state in forked if state)
        return yes, no

    @staticmethod
    def _after(call: Call, state: State) -> State:
        if call.name in {"setflag", "setbflag", "setsflag"}:
            return state._replace(flags=state.flags | {checks.flag(call)})
        if call.name in {"resetflag", "resetbflag", "resetsflag"}:
            return state._replace(flags=state.flags - {checks.flag(call)})
        return state

    def _route(self, call: Call, states: States) -> tuple[States, States]:
        name = call.argument(0) or ""
        route = self._routes.get(name)
        if route is None or name in self._running:
            return states, states
        key = (name, states)
        if key not in self._known:
            self._running.add(name)
            outcome = self._block(route.body, states)
            self._running.discard(name)
            ended = _resulting(outcome.onward, 0)
            self._known[key] = _few(ended | outcome.returned)
        after = self._known[key]
        return (
            frozenset(state for state in after if state.result >= 0),
            frozenset(state for state in after if state.result <= 0),
        )

    # --- conditions ---

    def _condition(self, condition: Condition, states: States) -> tuple[States, States]:
        """The states in which a condition holds, and those in which it does not."""
        if not states:
            return NOWHERE, NOWHERE
        if isinstance(condition, Not):
            yes, no = self._condition(condition.condition, states)
            return no, yes
        if isinstance(condition, Both):
            return self._joined(condition, states)
        if isinstance(condition, Call):
            return self._call(condition, states)
        if isinstance(condition, Compare) and condition.call:
            return self._compared_call(condition, condition.call, states)
        return self._atom(condition, states)

    def _joined(self, condition: Both, states: States) -> tuple[States, States]:
        open_states, decided = states, NOWHERE
        for each in condition.conditions:
            yes, no = self._condition(each, _few(open_states))
            open_states, ended = (yes, no) if condition.is_and else (no, yes)
            decided |= ended
        return (open_states, decided) if condition.is_and else (decided, open_states)

    def _compared_call(
        self, condition: Compare, call: Call, states: States
    ) -> tuple[States, States]:
        yes, no = self._call(call, states)
        meaning = checks.sign_of(condition)
        if meaning is None:
            return yes | no, yes | no
        return (yes, no) if meaning > 0 else (no, yes)

    def _atom(self, condition: Condition, states: States) -> tuple[States, States]:
        meaning = checks.sign_of(condition) if checks.is_result(condition) else None
        if meaning is not None:
            return (
                frozenset(state for state in states if state.result != -meaning),
                frozenset(state for state in states if state.result != meaning),
            )
        certain = self.request.compares(condition)
        text, learned = checks.stable(condition), checks.compared(condition)
        return self._fork(text, states, learned, certain=certain)


def _with(
    state: State, facts: checks.Facts, forgotten: tuple[str, ...], made_true: str | None
) -> State:
    """A state with more facts, without the conditions that an assignment may have changed."""
    known, decided = state.facts, state.decided
    if not facts <= known:
        known |= facts
    if forgotten and any(each[0].startswith(forgotten) for each in decided):
        decided = frozenset(each for each in decided if not each[0].startswith(forgotten))
    if made_true and (made_true, True) not in decided:
        decided |= {(made_true, True)}
    if known is state.facts and decided is state.decided:
        return state
    return State(known, state.flags, decided, state.result)


def _decide(
    state: State, text: tuple[str, bool] | None, facts: checks.Facts, *, is_true: bool
) -> State | None:
    """The state in which a condition has this value; None if it contradicts an earlier one."""
    result, decided = 1 if is_true else -1, state.decided
    if text is not None:
        condition, is_positive = text
        value = is_true == is_positive
        if (condition, value) not in decided:
            if _contradicts(decided, condition, is_true=value):
                return None
            decided |= {(condition, value)}
    known = state.facts if facts <= state.facts else state.facts | facts
    if known is state.facts and decided is state.decided and result == state.result:
        return state
    return State(known, state.flags, decided, result)


def _contradicts(decided: frozenset[tuple[str, bool]], condition: str, *, is_true: bool) -> bool:
    if (condition, not is_true) in decided:
        return True
    left, equal, _ = condition.partition("==")
    return (
        is_true
        and any(
            held and other != condition and other.startswith(f"{left}==")
            for other, held in decided
        )
        if equal
        else False
    )


def _resulting(states: States, sign: int) -> States:
    """States with this sign of the last return code; 0: it is unknown."""
    return frozenset(
        state if state.result == sign else State(*state[:3], sign) for state in states
    )


def _few(states: States) -> States:
    """Join states that differ only in decided conditions, if there are too many."""
    if len(states) <= _MOST_STATES:
        return states
    fewer = frozenset(
        state._replace(decided=frozenset(d for d in state.decided if d[0][:1] != "$"), result=0)
        for state in states
    )
    if len(fewer) <= _MOST_STATES:
        return fewer
    return frozenset(state._replace(decided=frozenset()) for state in fewer)


class Flow:
    """The walks of all requests."""

    def __init__(self, syntax: Syntax) -> None:
        self.walks = {request.name: Walk(syntax, request) for request in checks.REQUESTS}
        self.is_cut = any(walk.is_cut for walk in self.walks.values())

    def reached(self, request: str, kind: str) -> list[Sink]:
        """The calls of a kind that a request reaches."""
        found = self.walks[request].sinks if not self.is_cut else {}
        return [sink for (each, _), sink in found.items() if each == kind]
