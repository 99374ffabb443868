"""What is wrong with a rendered `pjsip.conf`: names that lead nowhere, endpoints open to anyone.

Pure. One pass over the text, for it has a dozen lines for each user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a rule has found, and the offset in which file."""

    path: str
    offset: int
    length: int
    message: str
    help: str = ""


@dataclass(slots=True)
class Section:
    """A section, `[name](templates)`: the keys that matter here, those of its templates below."""

    name: str
    path: str
    offset: int
    is_template: bool
    inherited: tuple[Mapping[str, tuple[str, int]], ...]
    own: dict[str, tuple[str, int]] = field(default_factory=dict)

    def get(self, key: str) -> str:
        """Give the value of a key, from the section or the last template that has it."""
        for keys in (self.own, *reversed(self.inherited)):
            if key in keys:
                return keys[key][0]
        return ""

    def flat(self) -> dict[str, tuple[str, int]]:
        """Give all keys, own ones on top."""
        merged: dict[str, tuple[str, int]] = {}
        for keys in (*self.inherited, self.own):
            merged |= keys
        return merged


_LINE = re.compile(
    r"^(?:\[([^\]\n]+)\](?:\(([^)\n]*)\))?"
    r"|(type|aors|auth|outbound_auth|transport|endpoint|acl|permit|deny)[ \t]*=>?[ \t]*([^;\n]*))",
    re.MULTILINE,
)
_PATH = re.compile(r"/etc/asterisk/pjsip[^/]*\.conf\Z")


def sections(files: Mapping[str, str]) -> list[Section]:
    """Read the sections of all `pjsip*.conf` among the files."""
    templates: dict[str, dict[str, tuple[str, int]]] = {}
    return [
        each
        for path in sorted(filter(_PATH.match, files))
        for each in _read(path, files[path], templates)
    ]


def _read(path: str, text: str, templates: dict[str, dict[str, tuple[str, int]]]) -> list[Section]:
    """Read one file; `templates` are those of the files that include it, and gain its own."""
    found: list[Section] = []
    for line in _LINE.finditer(text):
        name, options, key, value = line.groups()
        if name is not None:
            if found and found[-1].is_template:
                templates[found[-1].name] = found[-1].flat()
            words = [word.strip() for word in options.split(",")] if options else []
            inherited = tuple(templates[word] for word in words if word in templates)
            found.append(Section(name, path, line.start(1), "!" in words, inherited))
        elif found:
            found[-1].own[key] = (value.rstrip(), line.start(4))
    if found and found[-1].is_template:
        templates[found[-1].name] = found[-1].flat()
    return found


RuleFunction = Callable[[list[Section]], Iterable[Place]]
_REFERENCES: Mapping[str, str] = {
    "aors": "aor",
    "auth": "auth",
    "outbound_auth": "auth",
    "transport": "transport",
}


def missing_section(found: list[Section]) -> Iterator[Place]:
    """Missing section: an endpoint of `pjsip.conf` names an aor, auth or transport that is not.

    Asterisk loads the rest and says it once in its log; the endpoint cannot be used.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        auth=1001-auth
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        auth=1001-auth
        [1001-auth]
        type=auth
    """
    typed = {(each.get("type"), each.name) for each in found if not each.is_template}
    for each in found:
        for key, kind in _REFERENCES.items():
            if key not in each.own:
                continue
            value, offset = each.own[key]
            for name in (part.strip() for part in value.split(",") if part.strip()):
                if (kind, name) not in typed:
                    message = f"`{each.name}` names the {kind} `{name}`, which does not exist"
                    yield Place(path=each.path, offset=offset, length=len(value), message=message)


def open_endpoint(found: list[Section]) -> Iterator[Place]:
    """Open endpoint: neither `auth`, nor an `identify` section, nor an `acl` guards it.

    Whoever reaches the port and writes its name into From calls as this endpoint.

    Bad: /etc/asterisk/pjsip.conf
        [trunk]
        type=endpoint
        context=in
    Good: /etc/asterisk/pjsip.conf
        [trunk]
        type=endpoint
        context=in
        [trunk-identify]
        type=identify
        endpoint=trunk
        match=127.0.0.1
    """
    whole = [each for each in found if not each.is_template]
    identified = {each.get("endpoint") for each in whole if each.get("type") == "identify"}
    for each in whole:
        if each.get("type") != "endpoint" or each.name in identified:
            continue
        if not any(each.get(key) for key in ("auth", "acl", "permit", "deny")):
            yield Place(
                path=each.path,
                offset=each.offset,
                length=len(each.name),
                message=f"the endpoint `{each.name}` takes anyone who uses its name",
                help="give it `auth=`, `acl=`, or an `identify` section",
            )


RULES: Mapping[str, RuleFunction] = {"SD415": missing_section, "SD416": open_endpoint}
