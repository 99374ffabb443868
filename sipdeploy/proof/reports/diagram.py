"""The messages of a proof, and their ladder diagram in text. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import printable

if TYPE_CHECKING:
    from sipdeploy.proof.outside.step import Proof, StepResult

COLUMN = 32
MOST_LABEL = COLUMN - 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message between a phone and the host; `at` is in seconds since the step began."""

    at: float
    phone: int  # in the order of the titles
    is_sent: bool  # by the phone
    label: str


def messages(proof: Proof, result: StepResult) -> tuple[tuple[str, ...], tuple[Message, ...]]:
    """The titles of the phones of a step, and its messages in the order of their times."""
    said = [
        (title, traced)
        for title, trace in proof.traces
        for traced in trace
        if proof.during(result, traced.at) and traced.text.strip()
    ]
    titles = tuple(sorted({title for title, _ in said}))
    rows = (
        Message(
            at=traced.at - result.began,
            phone=titles.index(title),
            is_sent=traced.direction == "sent",
            label=_label(traced.text),
        )
        for title, traced in said
    )
    return titles, tuple(sorted(rows, key=lambda row: row.at))


def as_text(proof: Proof) -> str:
    """A diagram for each step that sent or received messages; the times are in seconds."""
    parts = ["\n".join(rows) for each in proof.results if (rows := list(_rows(proof, each)))]
    return "\n\n".join(parts)


def _rows(proof: Proof, result: StepResult) -> Iterator[str]:
    """The title, the names of the columns, and a row for each message in the time of a step."""
    titles, said = messages(proof, result)
    if not said:
        return
    left, right = titles[:1], titles[1:]
    yield f"{result.name}: {result.status}"
    yield (
        f"{'':9}"
        + "".join(name.center(COLUMN + 1) for name in (*left, proof.host, *right)).rstrip()
    )
    for each in said:
        yield f"{each.at:8.3f} {_row(each, len(titles))}"


def _row(message: Message, phones: int) -> str:
    """One message between a phone and the host, whose column is the second."""
    position, label = message.phone, message.label
    pad = " " * (COLUMN // 2)
    cells = [" " * COLUMN for _ in range(phones)]
    spans_from = 0 if position == 0 else 1
    is_rightward = message.is_sent == (position == 0)
    if position == 0:
        cells[0] = _arrow(label, COLUMN, is_rightward=is_rightward)
        return f"{pad}|" + "|".join(cells) + "|"
    width = COLUMN * (position - spans_from + 1) + (position - spans_from)
    arrow = _arrow(label, width, is_rightward=is_rightward)
    rest = [" " * COLUMN for _ in range(phones - position - 1)]
    return f"{pad}|{' ' * COLUMN}|" + "|".join([arrow, *rest]) + "|"


def _arrow(label: str, width: int, *, is_rightward: bool) -> str:
    line = f" {label} ".center(width - 2, "-")
    return f"-{line}>" if is_rightward else f"<{line}-"


def _label(text: str) -> str:
    """The method, or the status and the method it answers."""
    first, _, rest = text.partition("\r\n")
    words = first.split(" ")
    if first.startswith("SIP/2.0 "):
        cseq = next((r for r in rest.split("\r\n") if r.lower().startswith("cseq:")), "")
        words = [words[1], *cseq.split()[-1:]]
        return printable(" ".join(words))[:MOST_LABEL]
    return printable(words[0])[:MOST_LABEL]
