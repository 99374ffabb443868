"""The drawings of the report as SVG: the ladder of a call, a spectrum, a bar of time. Pure.

Colours are in page.css, because the page forbids styles inside of elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from sipdeploy.diagnostics import printable

if TYPE_CHECKING:
    from sipdeploy.proof.reports.diagram import Message

TIME, LANE, ROW, HEAD = 64, 200, 26, 30  # pixels
MOST_ROWS = 60
WIDTH, HEIGHT, MARGIN, RIGHT = 320, 150, 28, 20
BAR = 120
FLOOR_DBFS = -100
TOP_HZ = 4000
REFUSAL = "4", "5", "6"


def text(parent: ET.Element, x: float, y: float, words: str, **attributes: str) -> None:
    """Add a text to a drawing."""
    place = {"x": f"{x:g}", "y": f"{y:g}"}
    ET.SubElement(parent, "text", {**place, **attributes}).text = printable(words)


Point = tuple[float, float]


def _line(parent: ET.Element, start: Point, end: Point, kind: str) -> None:
    numbers = (f"{number:g}" for number in (*start, *end))
    points = dict(zip(("x1", "y1", "x2", "y2"), numbers, strict=True))
    ET.SubElement(parent, "line", {**points, "class": kind})


def _canvas(width: int, height: int, title: str, *, is_fixed: bool) -> ET.Element:
    size = {"width": str(width), "height": str(height)} if is_fixed else {}
    box = {"viewBox": f"0 0 {width} {height}", "role": "img"}
    canvas = ET.Element("svg", {**size, **box})
    ET.SubElement(canvas, "title").text = printable(title)
    return canvas


def ladder(host: str, titles: Sequence[str], messages: Sequence[Message]) -> ET.Element:
    """The messages between phones and a host; the host is the second lane."""
    names = [*titles[:1], host, *titles[1:]]
    lanes = [TIME + LANE * (number + 0.5) for number in range(len(names))]
    shown = messages[:MOST_ROWS]
    height = HEAD + ROW * (len(shown) + 1)
    title = f"{len(messages)} messages between {', '.join(titles)} and {host}"
    canvas = _canvas(TIME + LANE * len(names), height, title, is_fixed=True)
    for x, name in zip(lanes, names, strict=True):
        _line(canvas, (x, HEAD - 6), (x, height), "lane")
        text(canvas, x, 16, name, **{"text-anchor": "middle"})
    for number, message in enumerate(shown):
        _arrow(canvas, lanes, message, HEAD + ROW * (number + 0.9))
    if len(shown) < len(messages):
        text(canvas, TIME, height - 4, f"and {len(messages) - len(shown)} more messages")
    return canvas


def _arrow(canvas: ET.Element, lanes: Sequence[float], message: Message, y: float) -> None:
    phone, host = lanes[message.phone + (message.phone > 0)], lanes[1]
    start, end = (phone, host) if message.is_sent else (host, phone)
    kind = "refusal" if message.label.startswith(REFUSAL) else "message"
    group = ET.SubElement(canvas, "g", {"class": kind})
    text(group, TIME - 8, y + 4, f"{message.at:.3f}", **{"text-anchor": "end", "class": "quiet"})
    back = -8 if end > start else 8
    _line(group, (start, y), (end + back, y), "arrow")
    points = f"{end:g},{y:g} {end + back:g},{y - 4:g} {end + back:g},{y + 4:g}"
    ET.SubElement(group, "polygon", {"points": points, "class": "head"})
    # beside the lanes that a long arrow crosses
    middle = (phone + (host if message.phone < 2 else phone - LANE)) / 2  # noqa: PLR2004
    text(group, middle, y - 5, message.label, **{"text-anchor": "middle"})


def spectrum(levels: Mapping[int, float], hz: int, title: str) -> ET.Element:
    """Levels in dBFS by frequency, and the tone that was expected (0: none)."""
    canvas = _canvas(WIDTH, HEIGHT, title, is_fixed=False)
    left, bottom = MARGIN + 4, HEIGHT - MARGIN

    def x_of(frequency: float) -> float:
        return left + (WIDTH - left - RIGHT) * frequency / TOP_HZ

    def y_of(level: float) -> float:
        return 8 + (bottom - 8) * max(FLOOR_DBFS, min(0, level)) / FLOOR_DBFS

    for level in (0, -50, FLOOR_DBFS):
        _line(canvas, (left, y_of(level)), (WIDTH - RIGHT, y_of(level)), "axis")
        text(canvas, left - 4, y_of(level) + 4, str(level), **_SMALL)
    for frequency in range(0, TOP_HZ + 1, 1000):
        middle = {"text-anchor": "middle", "class": "quiet"}
        text(canvas, x_of(frequency), bottom + 16, f"{frequency // 1000} kHz", **middle)
    if hz:
        _line(canvas, (x_of(hz), 8), (x_of(hz), bottom), "expected")
        text(canvas, x_of(hz) + 4, 18, f"{hz} Hz")
    points = " ".join(f"{x_of(f):.1f},{y_of(level):.1f}" for f, level in sorted(levels.items()))
    if points:
        ET.SubElement(canvas, "polyline", {"points": points, "class": "levels"})
    return canvas


_SMALL = {"text-anchor": "end", "class": "quiet"}


def bar(begins: float, ends: float, *, has_failed: bool) -> ET.Element:
    """When a step ran: fractions of the whole proof."""
    canvas = ET.Element("svg", {"width": str(BAR), "height": "12", "aria-hidden": "true"})
    track = {"x": "0", "y": "5", "width": str(BAR), "height": "2", "class": "track"}
    ET.SubElement(canvas, "rect", track)
    left = max(0.0, min(1.0, begins)) * BAR
    width = max(2.0, min(1.0, ends) * BAR - left)
    box = {"x": f"{min(left, BAR - 2):.1f}", "y": "1", "width": f"{width:.1f}", "height": "10"}
    kind = "bar failed" if has_failed else "bar"
    ET.SubElement(canvas, "rect", {**box, "rx": "2", "class": kind})
    return canvas
