"""The objects of pjsip.conf: sections by type and name, and what their settings amount to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import TYPE_CHECKING

from sipdeploy.lint.stack.asterisk.config import Files, Section, Setting, names
from sipdeploy.lint.stack.rules import Finding

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Config
    from sipdeploy.lint.stack.files import StackFile
    from sipdeploy.lint.stack.rules import RuleFunction, Stack

# Text that somebody fills in before Asterisk reads the file: `${IP}`, `{{ ip }}`, `<ip>`, `%IP%`.
_OPEN_TEXT = re.compile(r"\$\{?\w|\{\{|\$\(|<%|^<[^>]*>$|%\w+%|@\w+@|__\w+__")
_URI = re.compile(r"sips?:(?:[^@;]*@)?(\[[^\]]*\]|[^:;>?\s]+)(?::([0-9]{1,5}))?")


@dataclass(eq=False, kw_only=True)
class Pjsip:
    """The sections of pjsip.conf that are no templates, by their type."""

    config: Config
    files: Files

    @cached_property
    def typed(self) -> dict[str, list[Section]]:
        """The sections of each type."""
        typed: dict[str, list[Section]] = {}
        for section in self.config.live:
            typed.setdefault(section.get("type").lower(), []).append(section)
        return typed

    @cached_property
    def by_name(self) -> dict[tuple[str, str], Section]:
        """The sections by type and name."""
        return {(kind, each.name): each for kind, all_ in self.typed.items() for each in all_}

    def of(self, kind: str) -> list[Section]:
        """The sections of a type."""
        return self.typed.get(kind, [])

    def is_closed(self, kind: str) -> bool:
        """Whether all objects of a type are in the file, and not in a database or a wizard."""
        wizard = self.files.named("pjsip_wizard.conf")
        return (
            self.config.is_complete and not (wizard and wizard.live) and kind not in self._stored
        )

    @cached_property
    def _stored(self) -> set[str]:
        """The types that sorcery.conf reads from elsewhere."""
        sorcery = self.files.named("sorcery.conf")
        sections = sorcery.live if sorcery else []
        return {
            setting.key.partition("/")[0]
            for section in sections
            if section.name.startswith("res_pjsip")
            for setting in section.settings
            if not setting.value.startswith("config,pjsip.conf")
        }

    def contacts(self, endpoint: Section) -> Iterator[Setting]:
        """The static contacts of an endpoint's aors."""
        for name in names(endpoint.get("aors")):
            aor = self.by_name.get(("aor", name))
            yield from (s for s in (aor.settings if aor else ()) if s.key == "contact")

    @cached_property
    def is_reached_by_proxy(self) -> bool:
        """Whether browsers come through a proxy: Asterisk itself serves no WebSocket."""
        protocols = {each.get("protocol").lower() for each in self.of("transport")}
        http = self.files.named("http.conf")
        general = http.section("general") if http else None
        is_serving = general is not None and general.says("enabled")
        return not protocols & {"ws", "wss"} and not is_serving


@lru_cache(maxsize=4)
def _objects(files: Files) -> Pjsip | None:
    config = files.named("pjsip.conf")
    return Pjsip(config=config, files=files) if config else None


def pjsip(stack: Stack) -> Pjsip | None:
    """The objects of the pjsip.conf of a stack; None if it has none."""
    return _objects(stack.asterisk) if stack.asterisk else None


def once(check: RuleFunction) -> RuleFunction:
    """Drop repeated findings of a rule: many sections inherit the same line."""

    @wraps(check)
    def unrepeated(stack: Stack) -> Iterator[Finding]:
        seen = set()
        for finding in check(stack):
            key = (finding.file.path, finding.start, finding.message)
            if key not in seen:
                seen.add(key)
                yield finding

    return unrepeated


def is_open(value: str) -> bool:
    """Whether somebody, or a program, replaces the value before Asterisk reads it."""
    return bool(_OPEN_TEXT.search(value))


def host_and_port(uri: str) -> tuple[str, int]:
    """Host and port of the first SIP URI in a text; 5060 if there is no port."""
    match = _URI.search(uri)
    return (match[1].strip("[]"), int(match[2] or 5060)) if match else ("", 0)


def is_private(host: str) -> bool:
    """Whether a host is a private or loopback address; a name is neither."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    return address.is_private and not address.is_unspecified


Place = tuple["StackFile", int, int, str]


def at_setting(
    setting: Setting, message: str, fix: str, *, label: str = "", other: tuple[Place, ...] = ()
) -> Finding:
    """A finding at the value of a setting."""
    return Finding(
        file=setting.file,
        start=setting.start,
        end=setting.end,
        message=message,
        help=fix,
        label=label,
        other=other,
    )


def at_key(setting: Setting, message: str, fix: str) -> Finding:
    """A finding at the key of a setting."""
    end = setting.key_start + len(setting.key)
    return Finding(file=setting.file, start=setting.key_start, end=end, message=message, help=fix)


def at_section(
    section: Section, message: str, fix: str, *, label: str = "", other: tuple[Place, ...] = ()
) -> Finding:
    """A finding at the name of a section."""
    return Finding(
        file=section.file,
        start=section.start,
        end=section.end,
        message=message,
        help=fix,
        label=label,
        other=other,
    )


def place(thing: Setting | Section, label: str) -> Place:
    """A place that matters for a finding elsewhere."""
    return thing.file, thing.start, thing.end, label
