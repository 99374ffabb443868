"""The report of a proof is a page that shows every value as text and needs nothing else."""

import base64
import hashlib
import re
from array import array
from html.parser import HTMLParser

from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.proof.outside.step import Proof, Sound, StepResult
from sipdeploy.proof.reports import drawing, page
from sipdeploy.sip.media.sound import tone
from sipdeploy.sip.wire import Traced

VOID = {"meta", "link", "br", "img", "input"}
NASTY = "</style><script>alert(1)</script><img src=//evil.invalid/x onerror=alert(1)>\"'&`"
TEXT = st.one_of(st.text(max_size=30), st.just(NASTY))


class Page(HTMLParser):
    """The elements and texts of a page; elements must be closed in their order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


def proof_with(text, *, status="failed", name="call", host="sip1", label="INVITE x"):
    problem = Diagnostic("SD907", f"on `{text}`", notes=(text,), help=text)
    result = StepResult(
        name=name, status=status, began=10, seconds=1, message=text,
        diagnostics=(problem,) if status == "failed" else (),
    )  # fmt: skip
    sent = Traced(direction="sent", text=f"{label}\r\nCSeq: 1 INVITE\r\n\r\n", at=10.5)
    return Proof(
        host=host,
        level="full",
        results=(result,),
        seconds=1.5,
        began=1e9,
        traces=((text, (sent,)), ("2nd phone", (sent,))),
        sounds=(Sound(at=10.2, who=text, hz=440, samples=tone(440)[:320], state=text),),
    )


ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "section", "nav", "footer"),
    *("h1", "h2", "h3", "p", "span", "div", "ul", "li", "a", "code", "details", "summary"),
    *("table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "figure", "figcaption"),
    *("svg", "g", "text", "line", "rect", "polygon", "polyline"),
}


@given(st.lists(st.builds(proof_with, TEXT, name=TEXT, host=TEXT, label=TEXT), max_size=3))
@settings(max_examples=examples(50), deadline=None)
def test_no_value_becomes_an_element_or_an_address(proofs):
    found = Page(page.as_html(proofs))
    assert {tag for tag, _ in found.elements} <= ALLOWED
    for _, attributes in found.elements:
        assert not {"style", "src", "srcset"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert re.fullmatch(r"#[a-z0-9-]*", attributes.get("href", "#"))


def test_each_value_is_shown_as_text():
    found = Page(page.as_html([proof_with(NASTY)]))
    assert {tag for tag, _ in found.elements} <= ALLOWED
    shown = found.text
    parts = [part for part in NASTY.split("`") if part]
    assert all(shown.count(part) >= 6 for part in parts), shown


def test_the_page_allows_its_own_style_and_nothing_else():
    text = page.as_html([proof_with("x")])
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [a["content"] for _, a in Page(text).elements if "http-equiv" in a]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert "unsafe" not in policy
    assert "url(" not in style
    assert "@import" not in style


def test_a_proof_of_a_good_host_has_no_problems():
    good = Page(page.as_html([proof_with("fine", status="ok")])).text
    assert "Problems" not in good
    assert "sip1 works" in good
    assert "Problems" in Page(page.as_html([proof_with("broken")])).text


def test_a_link_leads_to_the_messages_of_its_step():
    found = Page(page.as_html([proof_with("x"), proof_with("x", host="sip2")]))
    names = [a["id"] for _, a in found.elements if "id" in a]
    assert len(names) == len(set(names))
    links = [a["href"].removeprefix("#") for _, a in found.elements if "href" in a]
    assert set(links) == {"sip1", "sip2", "sip1-call", "sip2-call"} <= set(names)


def test_a_ladder_stays_readable():
    sent = Traced(direction="sent", text="OPTIONS sip:x SIP/2.0\r\n\r\n", at=10.1)
    whole = proof_with("x")
    many = Proof(host="sip1", level="quick", results=whole.results, traces=(("a", (sent,) * 200),))
    text = page.as_html([many])
    assert text.count("OPTIONS") == drawing.MOST_ROWS
    assert "and 140 more messages" in text


def test_a_spectrum_has_its_peak_at_the_tone():
    from sipdeploy.sip.media.sound import spectrum  # noqa: PLC0415

    levels = spectrum(tone(800)[:4000])
    points = drawing.spectrum(levels, 800, "x").find("polyline").get("points")
    highest = min(points.split(), key=lambda point: float(point.split(",")[1]))
    expected = drawing.spectrum(levels, 800, "x").findall("line")[-1].get("x1")
    assert abs(float(highest.split(",")[0]) - float(expected)) < 3
    assert drawing.spectrum(spectrum(array("h")), 0, "silence").find("polyline") is None
