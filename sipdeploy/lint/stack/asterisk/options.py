"""Rules about the sections, options and values of pjsip.conf, by the catalogue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sipdeploy.lint.stack.asterisk import catalogue
from sipdeploy.lint.stack.asterisk.config import Setting, is_false, is_true, names
from sipdeploy.lint.stack.asterisk.pjsip import (
    Pjsip,
    at_key,
    at_section,
    at_setting,
    is_open,
    once,
    pjsip,
    place,
)
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Files, Section

_NUMBERS = {
    "unsigned": r"\+?\d+|0[xX][0-9a-fA-F]+",
    "integer": r"[-+]?\d+",
    "number": r"[-+]?\d*\.?\d+",
}
_FOREIGN_CODECS = {"amr", "amrwb", "amr-wb", "evs"}  # widely used patches


def settings_by_kind(objects: Pjsip) -> Iterator[tuple[str, Setting]]:
    """Each setting with the type of its section; that of a template once for each type."""
    seen: set[tuple[str, int]] = set()
    for kind, sections in objects.typed.items():
        for section in sections:
            if section.inherited and (kind, id(section.inherited)) not in seen:
                seen.add((kind, id(section.inherited)))
                yield from ((kind, setting) for setting in section.inherited)
            yield from ((kind, setting) for setting in section.own)


Option = tuple[str, Setting, dict[str, Any] | None]


def _options(stack: Stack) -> tuple[Option, ...]:
    """Each setting of a section of a known type, with its entry of the catalogue."""
    return _of_files(stack.asterisk) if stack.asterisk else ()


@lru_cache(maxsize=4)
def _of_files(files: Files) -> tuple[Option, ...]:
    objects = pjsip(Stack(asterisk=files))
    if objects is None:
        return ()
    tables = {kind: catalogue.options(kind) for kind in objects.typed if kind != "phoneprov"}
    return tuple(
        (kind, setting, tables[kind].get(setting.key))
        for kind, setting in settings_by_kind(objects)
        if tables.get(kind)
        and setting.key not in {"type", ""}
        and setting.key[0] != "@"  # a field of one's own
        and not (kind == "inbound-publication" and setting.key.startswith("event_"))
    )


@rule("SD830", "error")
@once
def unknown_option(stack: Stack) -> Iterator[Finding]:
    """Unknown option in pjsip.conf: Asterisk drops the whole section.

    It writes one line to its log; the endpoint, or whatever the section is, does not exist.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=aor
        max_contact=5
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=aor
        max_contacts=5
    """
    for kind, setting, option in _options(stack):
        if option is None and not is_open(setting.key):
            near = catalogue.near(setting.key, catalogue.options(kind))
            others = [k for k in catalogue.kinds() if setting.key in catalogue.options(k)]
            fix = f"delete the line: it belongs to `type={others[0]}`" if others else "delete it"
            yield at_key(
                setting,
                f"`type={kind}` has no option `{setting.key}`",
                f"write `{near}`" if near and not others else fix,
            )


@lru_cache(maxsize=4096)
def _wrong(kind: str, key: str, value: str) -> tuple[str, str]:
    """What is wrong with a value, and what to write; empty if nothing is."""
    option = catalogue.options(kind)[key]
    if not value or is_open(value):
        return "", ""
    return _CHECKS.get(option["type"], _no_check)(option, value)


def _no_check(_option: dict[str, Any], _value: str) -> tuple[str, str]:
    return "", ""


def _check_bool(_option: dict[str, Any], value: str) -> tuple[str, str]:
    if is_true(value) or is_false(value):
        return "", ""
    return "is neither yes nor no, so it counts as no", "write `yes` or `no`"


def _check_number(option: dict[str, Any], value: str) -> tuple[str, str]:
    if not re.fullmatch(_NUMBERS[option["type"]], value):
        return "is not a number", "write a number, such as `60`"
    low, high = option.get("range", (None, None))
    if low is not None and value.isdecimal() and not low <= int(value[:12]) <= high:
        return f"is not between {low} and {high}", f"write a number from {low} to {high}"
    return "", ""


def _check_codecs(_option: dict[str, Any], value: str) -> tuple[str, str]:
    for word in names(value.replace("|", ",")):
        name = word.lstrip("!").partition(":")[0].strip().lower()
        known = catalogue.codecs() | {"all"} | _FOREIGN_CODECS
        if name not in known and name.rstrip("0123456789") not in {"slin", "speex", "silk"}:
            near = catalogue.near(name, known)
            fix = f"write `{near}`" if near else "delete it; `core show codecs` lists the names"
            return f"names the codec `{name}`, which does not exist", fix
    return "", ""


def _check_values(option: dict[str, Any], value: str) -> tuple[str, str]:
    known = option["values"]
    words = names(value) if option["type"] == "list" else [value]
    for word in words:
        is_word = (is_true(word) and "yes" in known) or (is_false(word) and "no" in known)
        if word.lower() not in known and not is_word:
            near = catalogue.near(word.lower(), known)
            listed = ", ".join(f"`{each}`" for each in known if len(each) > 1)
            return "is not a value of it", f"write `{near}`" if near else f"write one of {listed}"
    return "", ""


_CHECKS: dict[str, Callable[[dict[str, Any], str], tuple[str, str]]] = {
    "bool": _check_bool,
    "unsigned": _check_number,
    "integer": _check_number,
    "number": _check_number,
    "codecs": _check_codecs,
    "enum": _check_values,
    "list": _check_values,
}


@rule("SD831", "error")
@once
def wrong_value(stack: Stack) -> Iterator[Finding]:
    """Wrong value in pjsip.conf: not of the option's type, or not among its values.

    Asterisk drops the whole section. If the option is yes or no, any other word counts as no,
    without a message.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        media_encryption=srtp
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        media_encryption=sdes
    """
    for kind, setting, option in _options(stack):
        if option is not None:
            reason, fix = _wrong(kind, setting.key, setting.value)
            if reason:
                yield at_setting(setting, f"`{setting.key}={setting.value}` {reason}", fix)


@rule("SD832", "error")
@once
def option_of_another_version(stack: Stack) -> Iterator[Finding]:
    """Option that this version of Asterisk does not have: it drops the whole section.

    The rule needs the version, such as `--asterisk 18`.

    Situation: `tenantid=7` in an endpoint, and Asterisk 18
    Fix: delete the line, or install Asterisk 22
    """
    for _, setting, option in _options(stack):
        reason = catalogue.missing_in(option or {}, stack.asterisk_version)
        if reason:
            shown = ".".join(map(str, stack.asterisk_version or ()))
            yield at_key(
                setting,
                f"Asterisk {shown} has no option `{setting.key}`: {reason}",
                "delete the line",
            )


@rule("SD833", "error")
def unknown_type(stack: Stack) -> Iterator[Finding]:
    """Section of pjsip.conf without a known `type`: Asterisk ignores it silently.

    The settings in it look active, and the defaults apply. `[global]` needs `type=global` too.

    Bad: /etc/asterisk/pjsip.conf
        [global]
        user_agent=pbx
    Good: /etc/asterisk/pjsip.conf
        [global]
        type=global
        user_agent=pbx
    """
    objects = pjsip(stack)
    for section in objects.config.live if objects else ():
        kind = section.values.get("type")
        if kind is None and section.settings:
            near = catalogue.near(section.name.lower(), catalogue.kinds())
            yield at_section(
                section,
                f"the section `{section.name}` has no `type`, so Asterisk ignores it",
                f"add `type={near}`" if near else "add a `type`, such as `type=endpoint`",
            )
        elif kind and kind.value.lower() not in catalogue.kinds() and not is_open(kind.value):
            near = catalogue.near(kind.value.lower(), catalogue.kinds())
            yield at_setting(
                kind,
                f"there is no type `{kind.value}`, so Asterisk ignores the section",
                f"write `type={near}`" if near else "write a type, such as `type=endpoint`",
            )


_REFERENCES = {
    "endpoint": {"auth": "auth", "outbound_auth": "auth", "aors": "aor", "transport": "transport"},
    "registration": {"outbound_auth": "auth", "transport": "transport", "endpoint": "endpoint"},
    "outbound-publish": {"outbound_auth": "auth", "transport": "transport"},
    "identify": {"endpoint": "endpoint"},
}


@rule("SD834", "error")
@once
def missing_section(stack: Stack) -> Iterator[Finding]:
    """Reference to a section that does not exist, or that has another type.

    Asterisk starts all the same: registrations or calls of this endpoint fail later.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        aors=1001
        [1001]
        type=auth
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        aors=1001
        [1001]
        type=aor
    """
    objects = pjsip(stack)
    if objects is None:
        return
    for kind, references in _REFERENCES.items():
        for section in objects.of(kind):
            for key, wanted in references.items():
                if key in section.values and objects.is_closed(wanted):
                    yield from _missing(objects, section.values[key], wanted)


def _missing(objects: Pjsip, setting: Setting, wanted: str) -> Iterator[Finding]:
    for name in names(setting.value):
        if (wanted, name) in objects.by_name or is_open(name):
            continue
        others = [kind for kind in objects.typed if (kind, name) in objects.by_name and kind]
        what = f"has `type={others[0]}`" if others else "does not exist"
        near = catalogue.near(name, [each.name for each in objects.of(wanted)][:1000])
        add = f"add a section `[{name}]` with `type={wanted}`"
        at = setting.value.find(name)
        yield Finding(
            file=setting.file,
            start=setting.start + at,
            end=setting.start + at + len(name),
            message=f"`{setting.key}` names the {wanted} `{name}`, which {what}",
            help=f"write `{near}`, or {add}" if near and near != name else add,
        )


@rule("SD845", "error")
def duplicate_section(stack: Stack) -> Iterator[Finding]:
    """Two sections of the same name and type: Asterisk refuses to load all objects of this type.

    One name may be used for different types, as `[1001]` for endpoint, auth and aor.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=aor
        max_contacts=1
        [1001]
        type=aor
        max_contacts=5
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=aor
        max_contacts=5
    """
    objects = pjsip(stack)
    for kind, sections in objects.typed.items() if objects else ():
        count = Counter(section.name for section in sections)
        first: dict[str, Section] = {}
        for section in sections:
            if kind not in catalogue.kinds() or count[section.name] == 1:
                continue
            other = first.setdefault(section.name, section)
            if other is not section:
                yield at_section(
                    section,
                    f"there is another section `{section.name}` with `type={kind}`",
                    "delete one of them, or write `[NAME](+)` to add to the first",
                    other=(place(other, "the first"),),
                )
