"""The result of the verification on a host, as diagnostics. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.services import coturn, nginx

DAEMONS = ("asterisk", "kamailio")
SCHEMES = {"wss": "wss", "tls": "turns", "https": "https"}  # by the kind of a check


def where_to_look(name: str, units: Sequence[str] = DAEMONS) -> str:
    """The command that shows the log of the daemons."""
    return f"on `{name}`: `journalctl -b {' '.join(f'-u {unit}' for unit in units)}` shows why"


def problems(name: str, sections: Mapping[str, str], seconds: int) -> list[Diagnostic]:
    """A diagnostic (SD524) for each failed check; the first has the last log lines as notes.

    `seconds` is the time that the host waited for the checks to succeed.
    """
    left = [line.split("\t") for line in sections.get("left", "").splitlines() if line.strip()]
    return list(_diagnostics(name, left, _last_lines(sections), seconds))


def _last_lines(sections: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{name.removeprefix('journal ')}: {line}"
        for name, text in sections.items()
        if name.startswith("journal ")
        for line in text.splitlines()[-6:]
    )


def _diagnostics(
    name: str, left: Sequence[Sequence[str]], notes: tuple[str, ...], seconds: int
) -> Iterator[Diagnostic]:
    silent = {row[3] for row in left if row[0] == "port"}
    for row in left:
        if row[0] in SCHEMES and row[2] in silent:
            continue  # a consequence of the port
        yield Diagnostic(
            "SD524",
            f"{_message(row)} on `{name}` within {seconds} s",
            notes=notes,
            help=where_to_look(name, _units(row)),
        )
        notes = ()


def _units(row: Sequence[str]) -> Sequence[str]:
    """The units whose logs can say why a check failed."""
    if row[0] == "tls" or {coturn.UNIT, coturn.ACCOUNT} & {*row}:
        return ("coturn",)
    if row[0] == "https" or {nginx.UNIT, nginx.PROGRAM} & {*row}:
        return (nginx.UNIT.removesuffix(".service"),)
    return DAEMONS


def _message(row: Sequence[str]) -> str:
    if row[0] == "unit":
        return f"`{row[1]}` does not keep running"
    if row[0] == "registrations":
        return f"none of {row[1]} registered phones returned"
    if row[0] == "port":
        return f"{row[4]} does not listen on {row[1]} port {row[3]}"
    return f"{SCHEMES[row[0]]}://{row[1]}:{row[2]} {row[5]}"
