"""Proofs as one page in HTML that needs nothing else: no script, no font, no request. Pure.

The page is a tree of elements, whose serializer escapes every value. It forbids by its own
Content-Security-Policy whatever is not this style sheet.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from sipdeploy import __version__
from sipdeploy.diagnostics import count, ordered, printable
from sipdeploy.proof.reports import diagram, drawing
from sipdeploy.services import certificates
from sipdeploy.sip.media import sound

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.proof.outside.step import Proof, Sound, StepResult

STYLE = Path(__file__).with_name("page.css")


def as_html(proofs: Sequence[Proof]) -> str:
    """The page of all proofs."""
    style = STYLE.read_text("utf-8")
    html = ET.Element("html", lang="en")
    _head(html, ", ".join(f"{proof.host} {_verdict(proof)}" for proof in proofs), style)
    main = ET.SubElement(ET.SubElement(html, "body"), "main")
    if len(proofs) > 1:
        _contents(main, proofs)
    for proof in proofs:
        _host(main, proof)
    _add(main, "footer", f"sipdeploy {__version__}, sipdeploy verify; times are in UTC")
    return "<!doctype html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


def policy(style: str) -> str:
    """The Content-Security-Policy: this style sheet, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _head(html: ET.Element, title: str, style: str) -> None:
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    names = {"http-equiv": "Content-Security-Policy", "content": policy(style)}
    ET.SubElement(head, "meta", names)
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    ET.SubElement(head, "meta", name="referrer", content="no-referrer")
    _add(head, "title", f"sipdeploy verify: {title}")
    ET.SubElement(head, "style").text = style


def _add(parent: ET.Element, tag: str, text: str = "", kind: str = "") -> ET.Element:
    """Add an element; of the text, what stands between `backticks` becomes code."""
    element = ET.SubElement(parent, tag, {"class": kind} if kind else {})
    plain, *rest = re.split(r"`([^`]*)`", printable(text)) if tag != "title" else [printable(text)]
    element.text = plain
    for code, after in zip(rest[::2], rest[1::2], strict=True):
        child = ET.SubElement(element, "code")
        child.text, child.tail = code, after
    return element


def _verdict(proof: Proof) -> str:
    return "does not work" if proof.failed else "works"


def _contents(main: ET.Element, proofs: Sequence[Proof]) -> None:
    rows = ET.SubElement(_add(main, "nav", kind="card"), "ul")
    for proof in proofs:
        item = ET.SubElement(rows, "li")
        ET.SubElement(item, "a", href=f"#{_id(proof)}").text = proof.host
        kind = "failed" if proof.failed else "ok"
        _add(item, "span", f" {_verdict(proof)}", f"verdict {kind}")


def _id(proof: Proof, result: StepResult | None = None) -> str:
    """The anchor of a host, or of the messages of a step."""
    words = f"{proof.host} {result.name}" if result else proof.host
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _host(main: ET.Element, proof: Proof) -> None:
    section = ET.SubElement(main, "section", id=_id(proof))
    title = _add(section, "h1", f"{proof.host} ")
    _add(title, "span", _verdict(proof), f"verdict {'failed' if proof.failed else 'ok'}")
    tried = sum(each.status != "skipped" for each in proof.results)
    skipped = len(proof.results) - tried
    began = dt.datetime.fromtimestamp(proof.began, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    facts = [f"level {proof.level}", count(tried, "step"), f"{proof.seconds:.1f} s", began]
    facts[2:2] = [f"{skipped} skipped"] if skipped else []
    _add(section, "p", " \N{MIDDLE DOT} ".join(facts), "about")
    if proof.diagnostics:
        _add(section, "h2", "Problems")
        for problem in ordered(proof.diagnostics):
            _problem(section, problem)
    _steps(section, proof)
    _messages(section, proof)
    _certificates(section, proof)
    _sounds(section, proof)


def _problem(section: ET.Element, problem: Diagnostic) -> None:
    card = _add(section, "div", kind=f"card problem {problem.severity}")
    _add(card, "h3", f"{problem.severity} {problem.code}")
    _add(card, "p", problem.message)
    if problem.notes:
        notes = ET.SubElement(card, "ul")
        for note in problem.notes:
            _add(notes, "li", note)
    if problem.help:
        _add(card, "p", f"Fix: {problem.help}")


def _steps(section: ET.Element, proof: Proof) -> None:
    _add(section, "h2", "Steps")
    table = _add(section, "table", kind="steps")
    head = ET.SubElement(ET.SubElement(table, "thead"), "tr")
    for name in ("step", "result", "time", "when", "what was seen"):
        _add(head, "th", name).set("scope", "col")
    body = ET.SubElement(table, "tbody")
    start = min((each.began for each in proof.results if each.began), default=0.0)
    whole = max((each.began + each.seconds - start for each in proof.results), default=0.0) or 1.0
    for each in proof.results:
        row = ET.SubElement(body, "tr")
        cell = ET.SubElement(row, "th", scope="row")
        if diagram.messages(proof, each)[1]:
            cell = ET.SubElement(cell, "a", href=f"#{_id(proof, each)}")
        cell.text = printable(each.name)
        _add(row, "td", each.status, f"status {each.status}")
        is_tried = each.status != "skipped"
        _add(row, "td", f"{each.seconds:.2f} s" if is_tried else "", "number")
        when = _add(row, "td", kind="when")
        if is_tried:
            begins = (each.began - start) / whole
            ends = (each.began + each.seconds - start) / whole
            when.append(drawing.bar(begins, ends, has_failed=each.status == "failed"))
        _add(row, "td", each.message, "message")


def _messages(section: ET.Element, proof: Proof) -> None:
    steps = [(each, *diagram.messages(proof, each)) for each in proof.results]
    shown = [row for row in steps if row[2]]
    if not shown:
        return
    _add(section, "h2", "Messages")
    for result, titles, said in shown:
        names = {"id": _id(proof, result)}
        details = ET.SubElement(section, "details", names)
        if result.status == "failed":
            details.set("open", "open")
        summary = _add(details, "summary", f"{result.name} ")
        _add(summary, "span", f"{result.status}, {count(len(said), 'message')}", "quiet")
        scroll = ET.SubElement(details, "div", {"class": "scroll", "tabindex": "0"})
        scroll.append(drawing.ladder(proof.host, titles, said))


def _certificates(section: ET.Element, proof: Proof) -> None:
    chain = [found for pem in proof.chain if (found := certificates.parse(pem, b""))]
    if not chain:
        return
    _add(section, "h2", "Certificate")
    moment = dt.datetime.fromtimestamp(proof.began, dt.UTC)
    for found in chain:
        rows = ET.SubElement(_add(section, "div", kind="card"), "dl")
        for name, value in _facts(found, moment):
            _add(rows, "dt", name)
            _add(rows, "dd", value)


def _facts(found: certificates.Certificate, moment: dt.datetime) -> Iterator[tuple[str, str]]:
    yield "subject", found.subject
    if found.names:
        yield "names", ", ".join(found.names)
    yield "issuer", "itself" if found.is_self_signed else found.issuer
    days = (found.not_after - moment).days
    yield "valid", f"{found.not_before:%Y-%m-%d} to {found.not_after:%Y-%m-%d}, {days} more days"
    yield "SHA-256", found.pairs


def _sounds(section: ET.Element, proof: Proof) -> None:
    if not proof.sounds:
        return
    _add(section, "h2", "Sound")
    _add(section, "p", "Spectra of half a second that a phone heard; levels are in dBFS.", "quiet")
    grid = _add(section, "div", kind="sounds")
    for heard in proof.sounds:
        step = next((r.name for r in proof.results if proof.during(r, heard.at)), "")
        _sound(grid, heard, step)


def _sound(grid: ET.Element, heard: Sound, step: str) -> None:
    figure = _add(grid, "figure", kind="card")
    expected = f"{heard.hz} Hz" if heard.hz else "speech"
    title = ", ".join(filter(None, (step, heard.who, f"{expected} expected")))
    _add(figure, "figcaption", title)
    figure.append(drawing.spectrum(sound.spectrum(heard.samples), heard.hz, title))
    if heard.state:
        _add(figure, "p", heard.state, "quiet")
