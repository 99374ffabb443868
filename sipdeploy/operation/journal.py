"""Lines of the journal, as `journalctl -o json` prints them, and the times that users write."""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.host.incoming import MOST_COLUMNS as LINE_COLUMNS

CALLS = "sipdeploy-calls"  # names in the journal under which Kamailio writes
TRACE = "sipdeploy-trace"
KAMAILIO = "kamailio.service"
UNITS = ("kamailio.service", "asterisk.service", "certbot.service")
# systemd knows which unit has sent a line, so no other program can write one of Kamailio's.
OF_CALLS = (f"_SYSTEMD_UNIT={KAMAILIO}", f"SYSLOG_IDENTIFIER={CALLS}")
# A row of all terms must match, or one of the rows.
OF_LOGS = (
    *(f"_SYSTEMD_UNIT={UNITS[0]}", "+", f"_SYSTEMD_UNIT={UNITS[1]}", "+"),
    *(f"_SYSTEMD_UNIT={UNITS[2]}", "+", "_UID=0", "SYSLOG_IDENTIFIER=sipdeploy"),
    *(word for unit in UNITS for word in ("+", "_PID=1", f"UNIT={unit}")),
)
MOST_COLUMNS = 2000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Asterisk writes some on its console
_MICROSECONDS = 1_000_000
_TIME = re.compile(r"[0-9]{1,16}", re.ASCII)  # until the year 2286
_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")
_CLOCKS = ("%H:%M:%S", "%H:%M")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line: when (seconds since 1970), of which unit and program, its text, printable."""

    when: float
    unit: str
    program: str
    text: str
    cursor: str = ""


def entries(lines: Sequence[str]) -> Iterator[Entry]:
    """The entries, in their order; a line that is none is left out."""
    for line in lines:
        entry = parse(line)
        if entry is not None:
            yield entry


def parse(line: str) -> Entry | None:
    """An entry, or None."""
    row = mapping(line) or (_cut(line) if len(line) == LINE_COLUMNS else {})
    when = _text(row.get("__REALTIME_TIMESTAMP"))
    if not _TIME.fullmatch(when):
        return None
    return Entry(
        when=int(when) / _MICROSECONDS,
        unit=_text(row.get("_SYSTEMD_UNIT")),
        program=_text(row.get("SYSLOG_IDENTIFIER")),
        text=_text(row.get("MESSAGE")),
        cursor=_text(row.get("__CURSOR")),
    )


def _cut(line: str) -> Mapping[str, Any]:
    """The fields of a line that was cut off in its text, or in an escape of it."""
    cuts = (mapping(f'{line[: len(line) - end]}"}}') for end in range(len("\\u0000")))
    return next((row for row in cuts if row), {})


def mapping(text: str) -> Mapping[str, Any]:
    """A JSON object; empty if the text is none."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _text(value: object) -> str:
    """A field as printable text: journalctl prints an array of bytes if it is not UTF-8."""
    if isinstance(value, list):
        numbers = [each for each in value if isinstance(each, int) and 0 <= each < 256]  # noqa: PLR2004
        value = bytes(numbers).decode(errors="replace")
    if not isinstance(value, str):
        return ""
    return shown_line(_COLOUR.sub("", value[:MOST_COLUMNS]))


def instant(text: str, now: dt.datetime) -> float | None:
    """When `2h`, `10:14`, `2026-11-27` or `2026-11-27 10:14` was, in the zone of `now`.

    A time of the day is the last one before `now`. None if the text is no time.
    """
    text = text.strip()
    if ago := _AGO.fullmatch(text):
        return max(0.0, now.timestamp() - int(ago[1]) * _UNITS[ago[2]])
    for form in _CLOCKS:
        if (time := _strptime(text, form)) is not None:
            then = now.replace(
                hour=time.hour, minute=time.minute, second=time.second, microsecond=0
            )
            return (then if then <= now else then - dt.timedelta(days=1)).timestamp()
    for form in _FORMS:
        if (time := _strptime(text, form)) is not None:
            return max(0.0, time.replace(tzinfo=now.tzinfo).timestamp())
    return None


def _strptime(text: str, form: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(text, form)  # noqa: DTZ007 - the caller sets the zone
    except ValueError:
        return None


def clock(when: float, zone: dt.tzinfo | None = None, *, is_exact: bool = False) -> str:
    """`2026-11-27 10:14:03`, in a zone, or in that of this machine."""
    time = dt.datetime.fromtimestamp(when, zone)
    return time.strftime("%Y-%m-%d %H:%M:%S") + (
        f".{time.microsecond // 1000:03}" if is_exact else ""
    )
