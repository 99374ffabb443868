"""Secrets as values that cannot be printed, the models of their sources, and HA1.

Pure. Never reads a file and never runs a command; `passwords` does that.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sipdeploy.diagnostics import HIDDEN
from sipdeploy.inventory import fields


class Secret:
    """A text that prints as `[hidden]`; `reveal()` returns it. Cannot be pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret cannot be pickled")

    def __deepcopy__(self, memo: Any) -> Secret:
        return self

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Accept text or a Secret; serialise it as `[hidden]`."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Secret) else Secret(value),
            serialization=core_schema.to_string_ser_schema(),
            json_schema_input_schema=core_schema.str_schema(),
        )


_Line = Annotated[str, AfterValidator(fields.line)]


class PasswordSource(BaseModel):
    """The source of one password: exactly one of the three keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    env: _Line | None = Field(
        default=None, min_length=1, description="name of an environment variable"
    )
    file: _Line | None = Field(
        default=None, min_length=1, description="a file; its first line is the password"
    )
    command: _Line | None = Field(
        default=None, min_length=1, description="a command that prints it"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> PasswordSource:
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError("one_source", "exactly one source")
        return self


class PlacedSource(PasswordSource):
    """A source with the directory in which its file is, and its command runs."""

    directory: Path

    @classmethod
    def of(cls, source: PasswordSource, directory: Path) -> PlacedSource:
        """The source as `directory`, that of the inventory, places it."""
        return cls.model_construct(**source.model_dump(), directory=directory)


class SecretsCommand(BaseModel):
    """A command that prints the text of the secrets file, and one that stores a new text."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    command: str = Field(min_length=1, description="such as `sops -d secrets.enc.yaml`")
    store: str | None = Field(
        default=None,
        min_length=1,
        description="stores its standard input; required by commands that change passwords",
    )


def ha1(number: str, domain: str, password: str) -> str:
    """HA1 of RFC 7616 section 3.4.2 for MD5: the lower-case hex of `number:domain:password`.

    The text is encoded in UTF-8, as RFC 7616 section 4 requires for `charset=UTF-8`.
    """
    text = f"{number}:{domain}:{password}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def credentials(domain: str, passwords: Mapping[str, Secret]) -> dict[str, str]:
    """HA1 by number, the only form of the passwords that rendering sees."""
    return {number: ha1(number, domain, secret.reveal()) for number, secret in passwords.items()}


_SHAPES = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)"
    r"|(?<=://)[^\s/:@]*:[^\s/@]+(?=@)"  # the password of a URL
    r"|[A-Za-z0-9+/_-]{20,}={0,2}",
    re.DOTALL,
)
_HEX = re.compile(r"[0-9a-f]{32,}|[0-9A-F]{32,}")  # an HA1, the dialog key
_MOST_OF_A_WORD = 40  # longer words with all kinds of characters are base64
_FRAME = re.compile(r'(?m)^( *File ".*", line \d+.*\n)')


def hide_shapes(text: str) -> str:
    """Hide everything that looks like a secret, except in the paths of a traceback."""
    parts = _FRAME.split(text)
    return "".join(part if i % 2 else _SHAPES.sub(_hidden, part) for i, part in enumerate(parts))


def _hidden(match: re.Match[str]) -> str:
    word = match[0].rstrip("=")
    if word.startswith("-----BEGIN") or ":" in word:
        return HIDDEN
    is_mixed = all(re.search(kind, word) for kind in ("[0-9]", "[A-Z]", "[a-z]"))
    is_key = is_mixed and (word.isalnum() or len(word) >= _MOST_OF_A_WORD)
    return HIDDEN if is_key or _HEX.fullmatch(word) else match[0]


def hider(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces these texts with `[hidden]`, the longest match first.

    It takes linear time, regardless of the number of secrets.
    """
    known = sorted({text for text in secrets if text}, key=len, reverse=True)
    shortest = len(known[-1]) if known else 0
    heads: dict[str, list[str]] = {}
    for each in known:
        heads.setdefault(each[:shortest], []).append(each)

    def hidden(text: str) -> str:
        parts: list[str] = []
        done = place = 0
        while known and place + shortest <= len(text):
            choices = heads.get(text[place : place + shortest], ())
            match = next((each for each in choices if text.startswith(each, place)), "")
            if match:
                parts += [text[done:place], HIDDEN]
                done = place + len(match)
            place += len(match) or 1
        return "".join([*parts, text[done:]])

    return hidden
