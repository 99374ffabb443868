"""Secrets as values: the text that cannot print itself, where such texts come from, and HA1.

Pure. Never reads a file and never runs a command: `passwords` does.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sipdeploy.diagnostics import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Secret:
    """A text that does not print itself; `reveal()` gives it. Not to be pickled or copied out."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the text itself, for the one place that needs it."""
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
        raise TypeError("a secret is not to be pickled")

    def __deepcopy__(self, memo: Any) -> Secret:
        return self

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Take text or a Secret; show it as `[hidden]` in every dump."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Secret) else Secret(value),
            serialization=core_schema.to_string_ser_schema(),
            json_schema_input_schema=core_schema.str_schema(),
        )


class PasswordSource(BaseModel):
    """Where one password comes from: exactly one of the three."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    env: str | None = Field(
        default=None, min_length=1, description="name of an environment variable"
    )
    file: str | None = Field(
        default=None, min_length=1, description="a file; its first line is taken"
    )
    command: str | None = Field(default=None, min_length=1, description="a command that prints it")

    @model_validator(mode="after")
    def _exactly_one(self) -> PasswordSource:
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError("one_source", "exactly one source")
        return self


class SecretsCommand(BaseModel):
    """A command that prints what would stand in the secrets file, and one that takes it back."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    command: str = Field(min_length=1, description="such as `sops -d secrets.enc.yaml`")
    store: str | None = Field(
        default=None,
        min_length=1,
        description="stores what it gets on standard input, for commands that change passwords",
    )


def ha1(number: str, domain: str, password: str) -> str:
    """Give HA1 of RFC 7616 section 3.4.2 for MD5: the lower-case hex of `number:domain:password`.

    The text is encoded in UTF-8, as RFC 7616 section 4 has it for `charset=UTF-8`.
    """
    text = f"{number}:{domain}:{password}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def credentials(domain: str, passwords: Mapping[str, Secret]) -> dict[str, str]:
    """Give number to HA1, which is all that rendering ever sees."""
    return {number: ha1(number, domain, secret.reveal()) for number, secret in passwords.items()}


def hider(secrets: Iterable[str]) -> Callable[[str], str]:
    """Give what puts `[hidden]` in the place of these texts; of two, of the longer.

    Takes time linear in the text that it is given, however many secrets there are.
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
            found = next((each for each in choices if text.startswith(each, place)), "")
            if found:
                parts += [text[done:place], HIDDEN]
                done = place + len(found)
            place += len(found) or 1
        return "".join([*parts, text[done:]])

    return hidden
