"""The messages of a proof as a ladder diagram in text. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import printable

if TYPE_CHECKING:
    from sipdeploy.proof.outside.step import Proof, StepResult
    from sipdeploy.sip.wire import Traced

COLUMN = 32
MOST_LABEL = COLUMN - 8


def as_text(proof: Proof) -> str:
    """A diagram for each step that sent or received messages; the times are in seconds."""
    parts = ["\n".join(rows) for each in proof.results if (rows := list(_rows(proof, each)))]
    return "\n\n".join(parts)


def _rows(proof: Proof, result: StepResult) -> Iterator[str]:
    """The title, the names of the columns, and a row for each message in the time of a step."""
    end = result.began + result.seconds
    said = sorted(
        (
            (traced.at, title, traced)
            for title, trace in proof.traces
            for traced in trace
            if result.began <= traced.at <= end and traced.text.strip()
        ),
        key=lambda row: row[0],
    )
    if not said:
        return
    titles = sorted({title for _, title, _ in said})
    left, right = titles[:1], titles[1:]
    yield f"{result.name}: {result.status}"
    yield (
        f"{'':9}"
        + "".join(name.center(COLUMN + 1) for name in (*left, proof.host, *right)).rstrip()
    )
    for at, title, traced in said:
        position = titles.index(title)
        yield f"{at - result.began:8.3f} {_row(position, len(titles), traced)}"


def _row(position: int, phones: int, traced: Traced) -> str:
    """One message between a phone and the host, whose column is the second."""
    pad = " " * (COLUMN // 2)
    cells = [" " * COLUMN for _ in range(phones)]
    spans_from = 0 if position == 0 else 1
    is_rightward = (traced.direction == "sent") == (position == 0)
    label = _label(traced.text)
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
