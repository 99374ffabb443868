"""The sheet to hand out: a page for each person, to print. Pure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from sipdeploy.services.phone.settings import Fields, Settings, browser_phone
from sipdeploy.services.render import Quoted, render


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """What the template prints for one person."""

    settings: Settings
    browser_phone: Fields
    drawing: Quoted


def sheet(every: Sequence[Settings]) -> bytes:
    """The sheet as HTML that loads nothing else."""
    pages = [
        _Page(
            settings=each,
            browser_phone=browser_phone(each),
            drawing=_drawing(each.link) if each.link else Quoted(""),
        )
        for each in every
    ]
    return render("phone/sheet.html.j2", {"pages": pages})


def _drawing(link: str) -> Quoted:
    """The QR code as SVG, which has only numbers and no text of the link."""
    import segno  # noqa: PLC0415 - only for this option

    drawing = io.BytesIO()
    segno.make_qr(link).save(drawing, kind="svg", xmldecl=False, omitsize=True, border=2)
    return Quoted(drawing.getvalue().decode())
