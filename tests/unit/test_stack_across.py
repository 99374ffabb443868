"""What Kamailio's side offers to the rules across files."""

import pytest
from stack_asterisk import reported

from sipdeploy.lint.stack import kamailio
from sipdeploy.lint.stack.files import StackFile


def config(text):
    return kamailio.parse(StackFile(path="k", place="/etc/kamailio/kamailio.cfg", text=text), {})


@pytest.mark.parametrize(
    ("line", "listeners", "are_all"),
    [
        ("listen=udp:127.0.0.1:5062", [("udp", "127.0.0.1", 5062)], True),
        ("listen=(udp:127.0.0.1:5062)", [("udp", "127.0.0.1", 5062)], True),
        ("listen=127.0.0.1", [("udp", "127.0.0.1", 5060), ("tcp", "127.0.0.1", 5060)], True),
        ("listen=tls:0.0.0.0", [("tls", "", 5061)], True),
        ("listen=udp:[::1]:5062 name 'a'", [("udp", "::1", 5062)], True),
        ("listen=udp:lo:5062", [("udp", "127.0.0.1", 5062)], True),
        ("port=5080\nlisten=udp:127.0.0.1", [("udp", "127.0.0.1", 5080)], True),
        (
            "#!define PORT 5062\nlisten=udp:127.0.0.1:PORT advertise 192.0.2.1:5070",
            [("udp", "127.0.0.1", 5062)],
            True,
        ),
        ("listen=udp:eth0:5062", [], False),
        ("listen=SOCKET", [], False),
        ("listen=udp:127.0.0.1:5062 127.0.0.2:5062", [("udp", "127.0.0.1", 5062)], False),
        (
            'include_file "more.cfg"\nlisten=udp:127.0.0.1:5062',
            [("udp", "127.0.0.1", 5062)],
            False,
        ),
        (
            "socket={\nbind=udp:127.0.0.1:5064;\n}\nlisten=udp:127.0.0.1:5062",
            [("udp", "127.0.0.1", 5062)],
            False,
        ),
        ("", [], False),
    ],
)
def test_the_listeners_of_kamailio(line, listeners, are_all):
    read = config(f"{line}\nrequest_route {{ exit; }}\n")
    assert [each[:3] for each in read.listeners] == listeners
    assert read.knows_listeners == are_all


def test_a_destination_is_a_literal_with_its_defines():
    text = """\
#!substdef "!BACKEND!127.0.0.1:5070!g"
request_route {
    if (is_method("INVITE")) { $du = "sip:BACKEND"; }
    $du = "sip:" + $var(there);
    $ru = "sip:127.0.0.1";
    $du = $null;
}
"""
    (found,) = config(text).destinations
    assert found.uri == "sip:127.0.0.1:5070"
    assert text[found.start : found.end] == '"sip:BACKEND"'


def ports(listen, contact="sip:127.0.0.1:5062", destination="sip:127.0.0.1:5060"):
    """The codes for a Kamailio and an Asterisk."""
    route = f'request_route {{ $du = "{destination}"; }}'
    found = reported(
        {
            "/etc/kamailio/kamailio.cfg": f"{listen}\n{route}\n",
            "/etc/asterisk/pjsip.conf": "[t]\ntype=transport\nbind=127.0.0.1:5060\n"
            f"[trunk]\ntype=aor\ncontact={contact}\n",
        },
        codes=["SD880", "SD881"],
    )
    return [code for code, *_ in found]


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({}, []),
        ({"destination": "sip:127.0.0.1:5070"}, ["SD880"]),
        ({"destination": "sip:127.0.0.1:5060;transport=tcp"}, ["SD880"]),
        ({"destination": "sip:127.0.0.1:5062"}, []),  # itself
        ({"contact": "sip:127.0.0.1:5080"}, ["SD881"]),
        ({"contact": "sip:127.0.0.1:5080", "listen": "listen=ADDRESS"}, []),
        ({"destination": "sip:127.0.0.1:5070", "listen": "listen=ADDRESS"}, []),
        ({"contact": "sip:192.0.2.1:5080"}, []),
    ],
)
def test_ports_of_both_daemons_are_compared(options, codes):
    assert ports(**{"listen": "listen=udp:127.0.0.1:5062"} | options) == codes
