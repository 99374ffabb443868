"""Rules for a rendered `pjsip.conf`: references to missing sections, unprotected endpoints.

Pure. One pass over the text, because it has a dozen lines for each user.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A problem that a rule reports: the file, the offset in it, the message and the fix."""

    path: str
    offset: int
    length: int
    message: str
    help: str = ""


@dataclass(slots=True)
class Section:
    """A section, `[name](templates)`: its relevant keys, and those of its templates."""

    name: str
    path: str
    offset: int
    is_template: bool
    inherited: tuple[Mapping[str, tuple[str, int]], ...]
    own: dict[str, tuple[str, int]] = field(default_factory=dict)

    def get(self, key: str) -> str:
        """Return the value of a key, from the section or the last template that sets it."""
        for keys in (self.own, *reversed(self.inherited)):
            if key in keys:
                return keys[key][0]
        return ""

    def flat(self) -> dict[str, tuple[str, int]]:
        """Return all keys; the section's own override those of its templates."""
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
    """Read one file; adds its own templates to `templates`, which later files can use."""
    parsed: list[Section] = []
    for line in _LINE.finditer(text):
        name, options, key, value = line.groups()
        if name is not None:
            if parsed and parsed[-1].is_template:
                templates[parsed[-1].name] = parsed[-1].flat()
            flags = [flag.strip() for flag in options.split(",")] if options else []
            inherited = tuple(templates[flag] for flag in flags if flag in templates)
            parsed.append(Section(name, path, line.start(1), "!" in flags, inherited))
        elif parsed:
            parsed[-1].own[key] = (value.rstrip(), line.start(4))
    if parsed and parsed[-1].is_template:
        templates[parsed[-1].name] = parsed[-1].flat()
    return parsed


RuleFunction = Callable[[list[Section]], Iterable[Place]]
_REFERENCES: Mapping[str, str] = {
    "aors": "aor",
    "auth": "auth",
    "outbound_auth": "auth",
    "transport": "transport",
}


def missing_section(parsed: list[Section]) -> Iterator[Place]:
    """Missing section: an endpoint refers to an aor, auth or transport that does not exist.

    Asterisk loads the other sections and writes one line to its log; the endpoint does not work.

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
    typed = {(each.get("type"), each.name) for each in parsed if not each.is_template}
    for each in parsed:
        for key, kind in _REFERENCES.items():
            if key not in each.own:
                continue
            value, offset = each.own[key]
            for name in (part.strip() for part in value.split(",") if part.strip()):
                if (kind, name) not in typed:
                    yield Place(
                        path=each.path,
                        offset=offset,
                        length=len(value),
                        message=f"`{each.name}` names the {kind} `{name}`, which does not exist",
                        help=f"add a section `[{name}]` with `type={kind}`",
                    )


def open_endpoint(parsed: list[Section]) -> Iterator[Place]:
    """Open endpoint: it has no `auth`, no `acl` and no `identify` section.

    Anybody who can reach the port can call as this endpoint by writing its name into From.

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
    whole = [each for each in parsed if not each.is_template]
    identified = {each.get("endpoint") for each in whole if each.get("type") == "identify"}
    for each in whole:
        if each.get("type") != "endpoint" or each.name in identified:
            continue
        if not any(each.get(key) for key in ("auth", "acl", "permit", "deny")):
            yield Place(
                path=each.path,
                offset=each.offset,
                length=len(each.name),
                message=f"the endpoint `{each.name}` accepts anyone who uses its name",
                help="add `auth=NAME` or `acl=NAME` to it, or an `identify` section for it",
            )


RULES: Mapping[str, RuleFunction] = {"SD415": missing_section, "SD416": open_endpoint}
