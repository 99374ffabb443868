"""The numbers of probe accounts: longer than a user's can be, and not guessable."""

import re
import secrets

DIGITS = 30  # a user's number has at most 15 (E.164)
_NUMBER = re.compile(rf"[1-9]\d{{{DIGITS - 1}}}", re.ASCII)


def new_number() -> str:
    """A number that nobody can guess."""
    least = 10 ** (DIGITS - 1)
    return str(least + secrets.randbelow(9 * least))


def is_probe(number: str) -> bool:
    """Whether a number is that of a probe account; no user can have such a number."""
    return _NUMBER.fullmatch(number) is not None
