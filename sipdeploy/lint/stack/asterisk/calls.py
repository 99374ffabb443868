"""Rules about the applications of the dialplan, and what callers can put into their arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sipdeploy.lint.stack.asterisk import catalogue
from sipdeploy.lint.stack.asterisk.dialplan import Extension, Step, dialplan
from sipdeploy.lint.stack.asterisk.patterns import is_endless
from sipdeploy.lint.stack.asterisk.pjsip import once
from sipdeploy.lint.stack.rules import Finding, Stack, rule
from sipdeploy.services.extensions import modules

_SHELLS = {"system", "trysystem"}
# Functions whose result has no letter that the caller chose freely.
_SAFE = re.compile(r"\$\{(?:FILTER|LEN|MD5|SHA1|URIENCODE|CUT|DIALPLAN_EXISTS)\(", re.IGNORECASE)
_FUNCTION = re.compile(r"\$\{\w+\(")  # its result is not the text of the caller
# Applications that call phones: the place of their options.
_OPTIONS_OF = {"dial": 2, "retrydial": 5, "page": 1, "queue": 1}
_EXAMPLES = {
    "dial": "Dial(PJSIP/...,20,iI)",
    "retrydial": "RetryDial(sound,5,3,PJSIP/...,20,iI)",
    "page": "Page(PJSIP/...,i)",
    "queue": "Queue(support,i)",
}
_CALLER = r"CALLERID\((?:name|num|all)\b"


@rule("SD856", "warning")
@once
def unknown_application(stack: Stack) -> Iterator[Finding]:
    """Application that Asterisk does not have, or not in this version: the call ends there.

    An application of a module that is not part of Asterisk is reported as well.

    Bad: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Anser()
    Good: /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Answer()
    """
    known = catalogue.applications()
    for _, _, step in dialplan(stack).steps():
        name = step.application
        entry = known.get(name.lower())
        reason = catalogue.missing_in(entry or {}, stack.asterisk_version)
        if not name or "$" in name or (entry and not reason):
            continue
        near = catalogue.near(name.lower(), known)
        yield Finding(
            file=step.setting.file,
            start=step.start,
            end=step.start + len(name),
            message=f"this version has no application `{name}`: {reason}"
            if reason
            else f"Asterisk has no application `{name}`",
            help=f"write `{known[near]['name']}`"
            if near and not reason
            else "write another application; `core show applications` lists them",
        )


@rule("SD857", "error")
@once
def number_in_shell(stack: Stack) -> Iterator[Finding]:
    """Text of the caller in a shell command: whoever calls runs commands on the server.

    `_X.` matches `1;reboot`, and a caller ID is any text. FILTER keeps the letters that you name.

    Bad: /etc/asterisk/extensions.conf
        [in]
        exten => _X.,1,System(/usr/local/bin/log ${EXTEN})
    Good: /etc/asterisk/extensions.conf
        [in]
        exten => _X.,1,System(/usr/local/bin/log ${FILTER(0-9,${EXTEN})})
    """
    for extension, step, tainted in _steps(stack):
        shell = [step.arguments] if step.application.lower() in _SHELLS else _shells(step)
        sources = [*_sources(extension, tainted), _CALLER]
        for text in shell:
            if match := _unfiltered(text, sources):
                yield _finding(
                    step,
                    f"the caller chooses `${{{match}}}` in this shell command",
                    f"write `${{FILTER(0-9,${{{match}}})}}`",
                )


@rule("SD858", "warning")
@once
def number_in_dial(stack: Stack) -> Iterator[Finding]:
    """Number with any text in Dial: a caller can add `&` and dial another line as well.

    `_X.` also matches `1&PJSIP/00123@trunk`. `_X` repeated matches digits only, and FILTER keeps
    the letters that you name.

    Bad: /etc/asterisk/extensions.conf
        [in]
        exten => _X.,1,Dial(PJSIP/${EXTEN}@trunk)
    Good: /etc/asterisk/extensions.conf
        [in]
        exten => _X.,1,Dial(PJSIP/${FILTER(0-9,${EXTEN})}@trunk)
    """
    for extension, step, tainted in _steps(stack):
        if step.application.lower() == "dial":
            match = _unfiltered(step.arguments, _sources(extension, tainted))
            if match:
                yield _finding(
                    step,
                    f"`{extension.name}` lets the caller put any text into this Dial",
                    f"write `${{FILTER(0-9,${{{match}}})}}`",
                )


@rule("SD870", "warning")
@once
def forwarding(stack: Stack) -> Iterator[Finding]:
    """Call to a phone without the option `i`: the phone can have Asterisk call any number.

    A phone that answers 302 names a number, which Asterisk then dials in your context, as if your
    dialplan had said so. `i` ignores that. sipdeploy reports this in `dialplan/*.conf` only.

    Bad: /etc/asterisk/extensions.conf
        [shop]
        exten => 7000,1,Dial(PJSIP/trunk/sip:1001@sip.example.com,20)
    Good: /etc/asterisk/extensions.conf
        [shop]
        exten => 7000,1,Dial(PJSIP/trunk/sip:1001@sip.example.com,20,iI)
    """
    for _, _, step in dialplan(stack).steps() if stack.is_ours else ():
        for name, arguments, start in _rings(step):
            place = _OPTIONS_OF[name.lower()]
            given = [*_split(arguments), *[""] * 6]
            options = _inside(given[place])
            if "i" in options or "$" in options or not _calls_phones(name, given[0]):
                continue
            yield Finding(
                file=step.setting.file,
                start=start,
                end=start + len(name),
                message=f"this `{name}` lets the phone that it calls send the call to any number",
                help=f"add the option `i`, as in `{_EXAMPLES[name.lower()]}`",
            )


@rule("SD871", "note")
@once
def loaded_by_hand(stack: Stack) -> Iterator[Finding]:
    """Module that you load yourself: it runs programs, opens connections, writes files, or calls.

    sipdeploy loads the modules that `dialplan/*.conf` needs, but none that can harm the host. An
    apply refuses an application whose module is not loaded.

    Bad: /etc/asterisk/extensions.conf
        [shop]
        exten => 7000,1,MixMonitor(shop.wav)
    Good: /etc/asterisk/extensions.conf
        [shop]
        exten => 7000,1,VoiceMail(1001@default)
    """
    for _, _, step in dialplan(stack).steps() if stack.is_ours else ():
        for name, start in _names(step):
            module, reason = modules.BY_HAND.get(name.lower(), ("", ""))
            if module:
                yield Finding(
                    file=step.setting.file,
                    start=start,
                    end=start + len(name),
                    message=f"sipdeploy does not load `{module}`, which `{name}` needs: "
                    f"it {reason}",
                    help=f"on each host, write `load={module}.so` into "
                    "/etc/asterisk/local/modules.conf if you want that",
                )


def _names(step: Step) -> Iterator[tuple[str, int]]:
    """The names of the application, and of all that its arguments call, with their places."""
    yield step.application, step.start
    for match in modules.CALL.finditer(step.arguments):
        yield match[1], step.arguments_start + match.start(1)


def _rings(step: Step) -> Iterator[tuple[str, str, int]]:
    """Applications that call phones, with their arguments and places; also those in ExecIf."""
    if step.application.lower() in _OPTIONS_OF:
        yield step.application, step.arguments, step.start
    if step.application.lower() in {"exec", "tryexec", "execif"}:
        for match in modules.CALL.finditer(step.arguments):
            if match[1].lower() in _OPTIONS_OF:
                arguments = _closed(step.arguments[match.end() :])
                yield match[1], arguments, step.arguments_start + match.start(1)


def _calls_phones(name: str, destinations: str) -> bool:
    """Whether a destination may be a phone; what `Local/` leads to is judged there."""
    if name.lower() not in {"dial", "page"}:
        return True
    return any(not each.strip().lower().startswith("local/") for each in destinations.split("&"))


def _closed(text: str) -> str:
    """The text up to the parenthesis that closes it."""
    depth = 1
    for at, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            return text[:at]
    return text


def _split(arguments: str) -> list[str]:
    """The arguments of an application: split at commas outside parentheses and the like."""
    parts, depth, begin = [], 0, 0
    for at, letter in enumerate(arguments):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0:
            parts.append(arguments[begin:at])
            begin = at + 1
    return [*parts, arguments[begin:]]


def _inside(options: str) -> str:
    """The letters of options, without the arguments of each, which stand in parentheses."""
    kept, depth = [], 0
    for letter in options:
        depth += letter == "("
        if not depth:
            kept.append(letter)
        depth -= letter == ")" and depth > 0
    return "".join(kept)


def _steps(stack: Stack) -> Iterator[tuple[Extension, Step, set[str]]]:
    """Each step with the variables that earlier steps of its extension filled from the number."""
    for context in dialplan(stack).contexts.values():
        for extension in context.extensions.values():
            tainted: set[str] = set()
            for _, step in sorted(extension.steps.items()):
                yield extension, step, tainted
                name, sign, value = step.arguments.partition("=")
                if step.application.lower() == "set" and sign and len(tainted) < 10:  # noqa: PLR2004
                    variable = name.strip().lstrip("_")
                    if _unfiltered(_without(_FUNCTION, value), _sources(extension, tainted)):
                        tainted.add(variable)
                    else:
                        tainted.discard(variable)


def _sources(extension: Extension, tainted: set[str]) -> list[str]:
    words = [re.escape(name) + r"\b" for name in sorted(tainted)]
    return [r"EXTEN\b", *words] if is_endless(extension.name) else words


def _unfiltered(text: str, sources: list[str]) -> str:
    """The first variable of the caller that no function filters, or an empty text."""
    if not sources or "${" not in text:
        return ""
    expression = re.compile(r"\$\{(" + "|".join(sources) + r")[^}]{0,80}")
    match = expression.search(_without(_SAFE, text))
    return match[0][2:] if match else ""


def _without(function: re.Pattern[str], text: str) -> str:
    """Drop `${FILTER(...)}` and the like, with all that is in it."""
    kept, at = [], 0
    while match := function.search(text, at):
        kept.append(text[at : match.start()])
        at, depth = match.start() + 2, 1
        while at < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
    return "".join([*kept, text[at:]])


def _shells(step: Step) -> list[str]:
    """The arguments of each function SHELL."""
    return re.split(r"\$\{SHELL\(", step.arguments)[1:]


def _finding(step: Step, message: str, fix: str) -> Finding:
    start = step.arguments_start
    return Finding(
        file=step.setting.file,
        start=start,
        end=start + len(step.arguments),
        message=message,
        help=fix,
    )
