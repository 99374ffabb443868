"""The objects of pjsip.conf: sections by type and name, and what their settings amount to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import TYPE_CHECKING

from sipdeploy.lint.stack.asterisk.config import Files, Problem, Section, Setting, names, of
from sipdeploy.lint.stack.rules import Finding

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Config
    from sipdeploy.lint.stack.files import StackFile
    from sipdeploy.lint.stack.rules import RuleFunction, Stack

# Text that somebody fills in before Asterisk reads the file: `${IP}`, `{{ ip }}`, `<ip>`, `%IP%`.
_OPEN_TEXT = re.compile(r"\$\{?\w|\{\{|\$\(|<%|^<[^>]*>$|%\w+%|@\w+@|__\w+__")


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
        return self._is_whole and kind not in self._stored

    @cached_property
    def _is_whole(self) -> bool:
        """Whether the file includes all of its parts, and no wizard adds objects."""
        return self.config.is_complete and not self.files.named("pjsip_wizard.conf").live

    @cached_property
    def _stored(self) -> set[str]:
        """The types that sorcery.conf reads from elsewhere."""
        return {
            setting.key.partition("/")[0]
            for section in self.files.named("sorcery.conf").live
            if section.name.startswith("res_pjsip")
            for setting in section.settings
            if not setting.value.startswith("config,pjsip.conf")
        }

    @property
    def static_contacts(self) -> list[Setting]:
        """The static contacts of all aors."""
        return [s for aor in self.of("aor") for s in aor.settings if s.key == "contact"]

    def contacts(self, endpoint: Section) -> Iterator[Setting]:
        """The static contacts of an endpoint's aors."""
        for name in names(endpoint.get("aors")):
            aor = self.by_name.get(("aor", name))
            yield from (s for s in (aor.settings if aor else ()) if s.key == "contact")

    @cached_property
    def is_reached_by_proxy(self) -> bool:
        """Whether browsers come through a proxy: Asterisk itself serves no WebSocket."""
        protocols = {each.get("protocol").lower() for each in self.of("transport")}
        is_serving = self.files.named("http.conf").general.says("enabled")
        return not protocols & {"ws", "wss"} and not is_serving


@lru_cache(maxsize=4)
def _objects(files: Files) -> Pjsip:
    return Pjsip(config=files.named("pjsip.conf"), files=files)


def pjsip(stack: Stack) -> Pjsip:
    """The objects of the pjsip.conf of a stack."""
    return _objects(of(stack))


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


Place = tuple["StackFile", int, int, str]


def at(
    thing: Setting | Section | Problem,
    message: str,
    fix: str,
    *,
    label: str = "",
    other: tuple[Place, ...] = (),
) -> Finding:
    """A finding at the value of a setting, at the name of a section, or at a refused line."""
    return Finding(
        file=thing.file,
        start=thing.start,
        end=thing.end,
        message=message,
        help=fix,
        label=label,
        other=other,
    )


def at_key(setting: Setting, message: str, fix: str) -> Finding:
    """A finding at the key of a setting."""
    end = setting.key_start + len(setting.key)
    return Finding(file=setting.file, start=setting.key_start, end=end, message=message, help=fix)


def at_weak(secret: Setting, user: str, reason: str) -> Finding:
    """A finding at a password or secret that is easy to guess, by the reason of `weakness()`."""
    return at(
        secret,
        f"the {secret.key} of `{user}` is weak",
        "write a long random one, as `openssl rand -base64 18` prints",
        label=reason.replace("the number", "the user name"),
    )


def place(thing: Setting | Section, label: str) -> Place:
    """A place that matters for a finding elsewhere."""
    return thing.file, thing.start, thing.end, label
