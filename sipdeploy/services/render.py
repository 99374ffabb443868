"""Renders templates to the bytes of managed files; the only user of Jinja2.

The environment prints a string only if one of the quoting filters below returned it. So a template
that forgets to quote a value of the inventory fails, instead of letting it break out of its place.
Rendering is pure: equal values give equal bytes, whatever the clock, the host or the environment.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sipdeploy.inventory.files import cache_folder

if TYPE_CHECKING:
    import jinja2

BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
TOKEN = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._:*/+-]*\Z")
PHONE_KEY = re.compile(r"[0-9*#]")
NAME_BYTES = 79
PLAIN_NAME = re.compile(r"[\w.'-]+(?: [\w.'-]+)*", re.ASCII)
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*\Z")
IPV6 = re.compile(r"(?=.*:)[0-9A-Fa-f:.]+\Z")
ORIGIN = re.compile(r"[A-Za-z0-9+.-]+://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?\Z")


class UnquotableError(ValueError):
    """A value that cannot be quoted for its place in a template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedFile:
    """A file that sipdeploy owns completely.

    `path` is absolute on the host, `owner` is `user:group`. `reload` is the command that loads new
    content: None if `service` must restart for it, empty if no command is needed. The content of a
    `sensitive` file is never shown. `template` names its source. An `is_data` file has only users
    and services and no routing, so a change needs no trial start of a daemon.
    """

    path: str
    content: bytes
    mode: int
    owner: str
    service: str
    reload: tuple[str, ...] | None
    sensitive: bool = False
    template: str
    is_data: bool = False


@dataclass(frozen=True, slots=True)
class FileSet:
    """All managed files of one host, sorted by path."""

    files: tuple[ManagedFile, ...]

    def text(self) -> Mapping[str, str]:
        """Path -> content of every text file, for the lint of the rendered files."""
        return {f.path: f.content.decode() for f in self.files if b"\0" not in f.content}


class Quoted(str):
    """Text that a quoting filter has returned."""

    __slots__ = ()


def token(value: object) -> Quoted:
    """A name, number, host or path that needs no quotes. Raises UnquotableError for other text."""
    text = str(value)
    if not TOKEN.match(text):
        raise UnquotableError(f"`{text!r}` is not a plain token")
    return Quoted(text)


def uri_host(value: object) -> Quoted:
    """The host of a SIP URI, an IPv6 address in brackets (RFC 3261, section 25.1)."""
    text = str(value)
    if IPV6.match(text):
        return Quoted(f"[{text}]")
    if not HOST.match(text):
        raise UnquotableError(f"`{text!r}` is not a host")
    return Quoted(text)


def phone_key(value: object) -> Quoted:
    """A key of a phone, as an extension: a digit, `*` or `#`."""
    text = str(value)
    if not PHONE_KEY.fullmatch(text):
        raise UnquotableError(f"`{text!r}` is not a key of a phone")
    return Quoted(text)


def token_list(values: Sequence[object]) -> Quoted:
    """Tokens joined by commas."""
    return Quoted(",".join(token(value) for value in values))


def posix_pattern(values: Sequence[str]) -> Quoted:
    """A Kamailio string with the POSIX extended pattern that matches exactly these web origins.

    Their hosts are names or addresses, IPv6 in brackets.
    """
    for value in values:
        if not ORIGIN.match(value):
            raise UnquotableError(f"`{value!r}` is not a web origin")
    choices = "|".join(re.sub(r"([].*+[])", r"[\1]", value) for value in values)
    return Quoted(f'"^({choices})$"')


def display_name(value: object) -> str:
    """A quoted-string (RFC 3261, section 25.1), not yet quoted for the file that it goes to."""
    text = str(value)
    if BAD_CHARACTERS.search(text):
        raise UnquotableError(f"`{text!r}` cannot be a display name")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def asterisk_name(value: object) -> Quoted:
    """A caller name for pjsip.conf and voicemail.conf.

    Asterisk's parsers of `callerid=` and of a mailbox line have no escapes for their separators,
    so these characters become spaces; in SIP itself the name is unchanged. The parsers keep 79
    bytes, so this function cuts a longer name between two characters.
    """
    text = str(value)
    if len(text) <= NAME_BYTES and PLAIN_NAME.fullmatch(text):
        return Quoted(text)  # the usual case
    if BAD_CHARACTERS.search(text):
        raise UnquotableError(f"`{text!r}` cannot be a caller name")
    plain = " ".join(re.sub(r'[",;<>\\|()\[\]${}=#]', " ", text).split())
    return Quoted(plain.encode()[:NAME_BYTES].decode(errors="ignore").strip())


def html(value: object) -> Quoted:
    """Text or an attribute in double quotes of an HTML page."""
    return Quoted(escape(str(value)))


def nginx_string(value: object) -> Quoted:
    """A string for nginx, which has no way to write `$` in one."""
    text = str(value)
    if BAD_CHARACTERS.search(text) or set(text) & set('"\\$'):
        raise UnquotableError(f"`{text!r}` cannot be a string of nginx")
    return Quoted(f'"{text}"')


FILTERS: Mapping[str, Callable[..., str]] = {
    "token": token,
    "phone_key": phone_key,
    "token_list": token_list,
    "uri_host": uri_host,
    "posix_pattern": posix_pattern,
    "asterisk_name": asterisk_name,
    "html": html,
    "nginx_string": nginx_string,
}


def only_quoted(value: object) -> object:
    """Jinja calls this for each printed value (`finalize`): only ints and quoted text pass."""
    if isinstance(value, Quoted) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise UnquotableError(f"a template prints `{value!r}` without a quoting filter")


def template_directory() -> Path:
    """The folder of the templates: in the package in a wheel, beside it in a checkout."""
    inside = Path(__file__).parent.parent / "templates"
    return inside if inside.is_dir() else Path(__file__).parent.parent.parent / "templates"


@cache
def environment() -> "jinja2.Environment":
    """The Jinja environment; undefined names are errors.

    It caches compiled templates for the next run, keyed by their content. The cache is code, so it
    is used only in a folder that nobody else can write to.
    """
    import jinja2  # noqa: PLC0415 - slow to import; loaded while a host is read

    cache_path = cache_folder("templates")
    environment_ = jinja2.Environment(
        bytecode_cache=jinja2.FileSystemBytecodeCache(str(cache_path)) if cache_path else None,
        loader=jinja2.FileSystemLoader(template_directory()),
        undefined=jinja2.StrictUndefined,
        finalize=only_quoted,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # not HTML: `only_quoted` refuses what is not quoted
    )
    environment_.filters.update(FILTERS)
    return environment_


def compile_templates() -> None:
    """Compile all templates in advance, while the facts of a host are read."""
    for name in environment().list_templates(extensions=["j2"]):
        environment().get_template(name)


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """Render `template`, a path below templates/, with `values`.

    Raises UnquotableError for a value that cannot be quoted for its place.
    """
    return environment().get_template(template).render(values).encode()


def rendered(
    template: str,
    values: Mapping[str, Any],
    *,
    path: str,
    mode: int,
    service: str,
    reload: tuple[str, ...] | None,
    owner: str = "root:root",
) -> ManagedFile:
    """The managed file with the text of `template`, without secrets. Raises as `render`."""
    return ManagedFile(
        path=path,
        content=render(template, values),
        mode=mode,
        owner=owner,
        service=service,
        reload=reload,
        template=template,
    )
