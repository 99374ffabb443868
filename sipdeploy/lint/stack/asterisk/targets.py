"""Rules about where the dialplan goes: contexts, extensions, priorities, endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sipdeploy.lint.stack.asterisk import catalogue
from sipdeploy.lint.stack.asterisk.dialplan import (
    Context,
    Dialplan,
    Extension,
    Step,
    dialled,
    dialplan,
)
from sipdeploy.lint.stack.asterisk.patterns import covers, is_endless, is_pattern, split
from sipdeploy.lint.stack.asterisk.pjsip import at, is_open, once, pjsip, place
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Setting

_PLAIN = {"goto", "gosub"}
_CONDITIONAL = {"gotoif", "gosubif", "gotoiftime"}
_MOST_COMPARISONS = 100_000
_USER = re.compile(r"[0-9]{2,15}", re.ASCII)
# Contexts that modules of Asterisk make.
_MADE = {"parkedcalls", "parkedcalls-hints", "park-hints", "dundi-e164-local", "adhoc"}


class Target(NamedTuple):
    """A destination in the arguments of a step; None for a part that is not written."""

    context: str | None
    extension: str | None
    priority: str
    step: Step
    start: int
    end: int


def _targets(step: Step) -> Iterator[Target]:
    name, arguments = step.application.lower(), step.arguments
    if name in _PLAIN:
        yield from _target(step, arguments, 0)
    elif name in _CONDITIONAL:
        at = sum(len(part) + 1 for part, _ in split(arguments, "?")[:1])
        for text, offset in split(arguments[at:], ":"):
            yield from _target(step, text, at + offset)


def _target(step: Step, text: str, at: int) -> Iterator[Target]:
    parts = [part.strip() for part, _ in split(text)]
    if not text.strip() or len(parts) > 3:  # noqa: PLR2004  # context, extension, priority
        return
    before: list[str | None] = [None, None, None]
    context, extension, priority = [*before, *parts][-3:]
    space = len(text) - len(text.lstrip())
    start = step.arguments_start + at + space
    priority = (priority or "").partition("(")[0].strip()
    yield Target(context, extension, priority, step, start, start + len(text.strip()))


def _is_known(text: str | None) -> bool:
    """Whether a part of a destination is what it says, and not the value of a variable."""
    return bool(text) and "$" not in (text or "") and not is_open(text or "")


@lru_cache(maxsize=4)
def _all_targets(plan: Dialplan) -> tuple[tuple[Context, Extension, Target], ...]:
    return tuple(
        (context, extension, target)
        for context, extension, step in plan.steps()
        for target in _targets(step)
    )


@rule("SD850", "error")
@once
def missing_target(stack: Stack) -> Iterator[Finding]:
    """Goto or Gosub to a context, extension or priority that does not exist: the call ends there.

    Asterisk looks for it only during the call.

    Bad: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Goto(menu,s,1)
    Good: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Goto(menu,s,1)
        [menu]
        exten => s,1,Answer()
    """
    plan = dialplan(stack)
    for context, extension, target in _all_targets(plan):
        if problem := _missing(plan, context, extension, target):
            message, fix = problem
            yield Finding(
                file=target.step.setting.file,
                start=target.start,
                end=target.end,
                message=message,
                help=fix,
            )


def _missing(
    plan: Dialplan, here: Context, extension: Extension, target: Target
) -> tuple[str, str] | None:
    context = here
    if target.context is not None:
        if not _is_known(target.context) or target.context in _MADE:
            return None
        if target.context not in plan.contexts:
            near = catalogue.near(target.context, plan.contexts)
            fix = f"write `{near}`" if near else f"add a section `[{target.context}]`"
            message = f"there is no context `{target.context}`"
            return (message, fix) if plan.is_closed else None
        context = plan.contexts[target.context]
    is_here = target.context is None
    reached, is_whole = plan.around(context) if is_here else plan.reachable(context)
    if not is_whole or target.priority[:1] in {"+", "-"}:
        return None
    if target.extension is None:
        return _missing_label(reached, extension, target.priority)
    return _missing_extension(reached, context, target)


def _missing_label(
    reached: list[Context], extension: Extension, priority: str
) -> tuple[str, str] | None:
    """A priority alone is one of the same extension, or of another one that matches too."""
    if not _is_known(priority) or extension.has(priority):
        return None
    if any(each.has(priority) for context in reached for each in context.patterns):
        return None
    what = "priority" if priority.isdigit() else "label"
    near = catalogue.near(priority, extension.labels)
    fix = f"write `{near}`" if near else "write a label of this extension, as in `n(NAME)`"
    return f"`{extension.name}` has no {what} `{priority}`", fix


def _missing_extension(
    reached: list[Context], context: Context, target: Target
) -> tuple[str, str] | None:
    name = target.extension or ""
    if not _is_known(name) or is_pattern(name):
        return None
    found = [each for inner in reached for each in inner.matching(name)]
    is_caught = any("i" in inner.extensions for inner in reached)
    if not found and not is_caught:
        near = catalogue.near(name, list(context.extensions)[:1000])
        fix = f"write `{near}`" if near else f"add `exten => {name},1,...` to `[{context.name}]`"
        return f"`{context.name}` has no extension `{name}`", fix
    if found and _is_known(target.priority) and not any(e.has(target.priority) for e in found):
        what = "priority" if target.priority.isdigit() else "label"
        fix = "write a priority that it has, such as `1`"
        return f"`{name}` in `{context.name}` has no {what} `{target.priority}`", fix
    return None


@rule("SD851", "warning")
@once
def missing_include(stack: Stack) -> Iterator[Finding]:
    """Include of a context that does not exist: its numbers cannot be called.

    Bad: /etc/asterisk/extensions.conf
        [in]
        include => users
    Good: /etc/asterisk/extensions.conf
        [in]
        include => users
        [users]
        exten => 1001,1,Dial(PJSIP/1001)
    """
    plan = dialplan(stack)
    if not plan.is_closed:
        return
    for context in plan.contexts.values():
        for name, setting in context.includes:
            if name not in plan.contexts and name not in _MADE and _is_known(name):
                near = catalogue.near(name, plan.contexts)
                yield at(
                    setting,
                    f"`{context.name}` includes the context `{name}`, which does not exist",
                    f"write `{near}`" if near else f"add a section `[{name}]`, or delete the line",
                )


@rule("SD852", "warning")
@once
def unreachable_priority(stack: Stack) -> Iterator[Finding]:
    """Unreachable priorities: a number is missing before them, and no Goto leads there.

    Asterisk goes from a priority to the next number, and ends the call where there is none. `n` is
    one more than the priority on the line above, also if that belongs to another extension.

    Bad: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Answer()
        exten => 6000,3,Echo()
    Good: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Answer()
        exten => 6000,2,Echo()
    """
    plan = dialplan(stack)
    reached = {target.priority for _, _, target in _all_targets(plan)}
    for context, extension, missing in _gaps(plan):
        step = extension.steps[min(n for n in extension.steps if n > missing)]
        is_target = step.label or str(step.priority) in reached
        if not is_target and not _is_elsewhere(plan, context, extension, missing):
            yield at(
                step.setting,
                f"`{extension.name}` has no priority {missing}, "
                f"so priority {step.priority} is not reached",
                f"write `exten => {extension.name},{missing},...`",
            )


def _gaps(plan: Dialplan) -> Iterator[tuple[Context, Extension, int]]:
    """Each extension with a missing priority, and the first of these."""
    for context in plan.contexts.values():
        for extension in context.extensions.values():
            numbers = range(1, len(extension.steps) + 1)
            missing = next((n for n in numbers if n not in extension.steps), 0)
            if missing:
                yield context, extension, missing


def _is_elsewhere(plan: Dialplan, context: Context, extension: Extension, missing: int) -> bool:
    """Whether another extension that matches the same numbers has the priority."""
    reached, is_whole = plan.reachable(context)
    if context.is_open or not is_whole:
        return True
    name = extension.name
    return any(
        missing in other.steps and (covers(other.name, name) or covers(name, other.name))
        for inner in reached
        for other in [*inner.patterns[:300], *inner.matching(name)]
    )


@rule("SD853", "error")
@once
def refused_line(stack: Stack) -> Iterator[Finding]:
    """Line of the dialplan that Asterisk refuses: `same` or `n` without a line before it.

    Asterisk logs it and loads the rest.

    Bad: /etc/asterisk/extensions.conf
        [in]
        same => n,Answer()
    Good: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Answer()
        same => n,Echo()
    """
    for context in dialplan(stack).contexts.values():
        for setting, reason, fix in context.refused:
            yield at(setting, f"Asterisk refuses this line: {reason}", fix)


@rule("SD854", "warning")
@once
def repeated_priority(stack: Stack) -> Iterator[Finding]:
    """The same priority twice: Asterisk keeps the first and ignores the second.

    Bad: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Answer()
        exten => 6000,1,Echo()
    Good: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Answer()
        exten => 6000,2,Echo()
    """
    for context in dialplan(stack).contexts.values():
        for step, first in context.repeated:
            yield at(
                step.setting,
                f"Asterisk ignores this line: priority {step.priority} is there already",
                "write `n`, or delete the line",
                other=(place(first.setting, "the first"),),
            )


@rule("SD855", "warning")
def hidden_extension(stack: Stack) -> Iterator[Finding]:
    """Pattern that hides included extensions: a context's own patterns come before its includes.

    Includes are searched only if nothing in the context itself matches.

    Bad: /etc/asterisk/extensions.conf
        [in]
        include => services
        exten => _X.,1,Hangup()
        [services]
        exten => 6000,1,Echo()
    Good: /etc/asterisk/extensions.conf
        [in]
        include => services
        include => rest
        [services]
        exten => 6000,1,Echo()
        [rest]
        exten => _X.,1,Hangup()
    """
    left = _MOST_COMPARISONS
    for context, pattern, inner, setting in _overlaps(dialplan(stack)):
        left -= len(inner.extensions)
        if left < 0:
            return
        hidden = [
            each.name
            for each in inner.extensions.values()
            if each.name not in context.extensions
            and 1 in each.steps
            and covers(pattern.name, each.name)
        ]
        if hidden:
            more = f" and {len(hidden) - 1} more" if len(hidden) > 1 else ""
            yield at(
                setting,
                f"`{pattern.name}` hides `{hidden[0]}`{more} of `{inner.name}`",
                f"move `{pattern.name}` to a context of its own, included last",
                other=(place(pattern.setting, "matches first"),),
            )


def _overlaps(plan: Dialplan) -> Iterator[tuple[Context, Extension, Context, Setting]]:
    """Each context with a pattern that has no end, and a context that it includes."""
    for context in plan.contexts.values():
        endless = [each for each in context.patterns if is_endless(each.name) and 1 in each.steps]
        for name, setting in context.includes if endless else ():
            inner = plan.contexts.get(name)
            if inner and inner is not context:
                yield from ((context, pattern, inner, setting) for pattern in endless)


@rule("SD859", "error")
@once
def missing_endpoint(stack: Stack) -> Iterator[Finding]:
    """Dial of an endpoint that pjsip.conf does not have: the call fails at once.

    Bad: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Dial(PJSIP/alice)
        ; /etc/asterisk/pjsip.conf
        [bob]
        type=endpoint
    Good: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Dial(PJSIP/bob)
        ; /etc/asterisk/pjsip.conf
        [bob]
        type=endpoint
    """
    objects = pjsip(stack)
    if not objects.is_closed("endpoint"):
        return
    for each in dialled(dialplan(stack)):
        if ("endpoint", each.endpoint) not in objects.by_name and not is_open(each.endpoint):
            near = catalogue.near(each.endpoint, [s.name for s in objects.of("endpoint")][:1000])
            add = f"add `[{each.endpoint}]` with `type=endpoint` to pjsip.conf"
            if stack.is_ours:  # sipdeploy writes pjsip.conf: an endpoint is a user
                number = each.endpoint if _USER.fullmatch(each.endpoint) else "NUMBER"
                add = f"add the user with `sipdeploy add-user {number}`"
            yield Finding(
                file=each.step.setting.file,
                start=each.start,
                end=each.end,
                message=f"there is no endpoint `{each.endpoint}`",
                help=f"write `{near}`, or {add}" if near else add,
            )
