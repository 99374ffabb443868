"""What the host found when it verified its services, told as diagnostics. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from sipdeploy.diagnostics import Diagnostic


def where_to_look(name: str) -> str:
    """The command that shows what the daemons said."""
    return f"on `{name}`: `journalctl -b -u asterisk -u kamailio` tells more"


def problems(name: str, found: Mapping[str, str], seconds: int) -> list[Diagnostic]:
    """One for each thing that did not hold, and the last words of the units with the first one."""
    left = [line.split("\t") for line in found.get("left", "").splitlines() if line.strip()]
    return list(_told(name, left, _last_words(found), seconds))


def _last_words(found: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{name.removeprefix('journal ')}: {line}"
        for name, text in found.items()
        if name.startswith("journal ")
        for line in text.splitlines()[-6:]
    )


def _told(
    name: str, left: Sequence[Sequence[str]], notes: tuple[str, ...], seconds: int
) -> Iterator[Diagnostic]:
    silent = {row[3] for row in left if row[0] == "port"}
    for row in left:
        if row[0] == "wss" and row[2] in silent:
            continue  # follows from the port
        yield Diagnostic(
            "SD524",
            f"{_what(row)} on `{name}` within {seconds} s",
            notes=notes,
            help=where_to_look(name),
        )
        notes = ()


def _what(row: Sequence[str]) -> str:
    if row[0] == "unit":
        return f"`{row[1]}` does not stay up"
    if row[0] == "registrations":
        return f"none of {row[1]} registered phones came back"
    if row[0] == "port":
        return f"{row[4]} does not listen on {row[1]} port {row[3]}"
    return f"wss://{row[1]}:{row[2]} {row[5]}"
