"""The corpus of the differential fuzzer: known attacks as bytes, repeatable mutants."""

import pytest

from lab.differential.corpus import Corpus, Names
from lab.differential.probe import Reading

MESSAGE = (
    "INVITE sip:6001@d SIP/2.0\r\nVia: SIP/2.0/WSS a;branch=z9\r\nFrom: <sip:1001@d>;tag=a\r\n"
    "To: <sip:6001@d>\r\nCSeq: 1 INVITE\r\nContact: <sip:a@b>\r\nContent-Type: a/b\r\n\r\nbody"
)
NAMES = Names("1002", "d")
ALIKE = {
    "method": "INVITE",
    "caller": "1001",
    "callee": "6001",
    "kamailio_call_id": "a",
    "kamailio_name": '"Eve; \\"the\\" <third>"',
    "number": "1001",
    "asserted": "1001",
    "name": 'Eve; "the" <third>',
    "exten": "6001",
    "call_id": "a",
    "reason": "service",
}


def mutants(count, seed=1):
    return list(Corpus().mutants(count, seed, {"invite": 1}))


def test_the_same_seed_makes_the_same_bytes():
    first, again = ([m.apply(MESSAGE, NAMES) for m in mutants(300)] for _ in range(2))
    assert first == again
    assert first != [m.apply(MESSAGE, NAMES) for m in mutants(300, seed=2)]


def test_known_attacks_come_first_and_change_the_message():
    known = mutants(len(Corpus().known))
    assert all(m.title.startswith("known: ") for m in known)
    assert all(m.apply(MESSAGE, NAMES) != MESSAGE.encode() for m in known)


@pytest.mark.parametrize(
    ("title", "bytes_"),
    [
        ("bare CR", b"z9\r\nX-A: b\rP-Asserted-Identity: <sip:1002@d>\r\nFrom"),
        ("ampersand behind Contact", b"<sip:a@b>&P-Asserted-Identity: <sip:1002@d>\r\n"),
        ("From and To behind an ampersand", b"From: sip:1002@d&z: <sip:1001@d>;tag=a\r\n"),
    ],
)
def test_a_known_attack_as_it_goes_over_the_wire(title, bytes_):
    (mutant,) = [m for m in mutants(100) if m.title == f"known: {title}"]
    assert bytes_ in mutant.apply(MESSAGE, NAMES)


def test_a_reading_is_compared_word_by_word():
    assert Reading(**ALIKE).differences == []
    for word in ("number", "asserted", "name", "exten", "call_id", "reason"):
        assert len(Reading(**{**ALIKE, word: "other"}).differences) == 1
    assert Reading(**{**ALIKE, "caller": ""}).differences
