"""The configuration that the design judges, as files: each defect by its code, file and line."""

import pytest
from test_stack_asterisk_rules import GUIDE as ASTERISK
from test_stack_kamailio import GUIDE as KAMAILIO

from sipdeploy.lint.stack.judging import lint_stack

# The names are those of the table of defects; the text is on the line of the report.
DEFECTS = [
    ("no enable_tls", "SD808", "kamailio.cfg", "listen=tls:"),
    ("no tcp_accept_no_cl", "SD809", "kamailio.cfg", '"websocket.so"'),
    ("save before authentication", "SD810", "kamailio.cfg", 'save("location", "0x04")'),
    ("no authentication of INVITE", "SD811", "kamailio.cfg", "if (lookup("),
    ("trust in 127.0.0.1", "SD813", "kamailio.cfg", '$si == "127.0.0.1"'),
    ("no in-dialog routing", "SD807", "kamailio.cfg", "record_route();"),
    ("trunk matched by From", "SD836", "pjsip.conf", "[kamailio]"),
    ("trunk without webrtc=yes", "SD839", "pjsip.conf", "[kamailio]"),
    ("dead sockets kept", "SD815", "kamailio.cfg", '"usrloc.so"'),
    ("limits as shipped", "SD821", "kamailio.cfg", "listen=tls:"),
    ("1024 for one address", "SD822", "kamailio.cfg", "listen=tls:"),
    ("kamcmd without ctl", "SD817", "kamailio.cfg", '"tm.so"'),
    ("no TURN", "SD869", "rtp.conf", "stunaddr="),
    ("no flood control", "SD818", "kamailio.cfg", "request_route {"),
    ("1234", "SD841", "pjsip.conf", "password=1234"),
    ("Origin not checked", "SD827", "kamailio.cfg", "ws_handle_handshake"),
    ("Asterisk on all addresses", "SD886", "pjsip.conf", "bind=0.0.0.0"),
]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guide")
    files = {**ASTERISK, "/etc/kamailio/kamailio.cfg": KAMAILIO}
    for place, text in files.items():
        path = folder / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    judged = lint_stack([folder])
    return {
        (each.code, each.span.path.rpartition("/")[2]): judged.sources[each.span.path].lines[
            each.span.line - 1
        ]
        for each in reversed(judged.problems)
    }


@pytest.mark.parametrize(
    ("code", "name", "text"), [row[1:] for row in DEFECTS], ids=[row[0] for row in DEFECTS]
)
def test_each_defect_of_the_table_has_its_line(reports, code, name, text):
    assert text in reports[code, name]


def test_contacts_in_memory_are_named_where_dead_ones_stay(tmp_path):
    before = 'loadmodule "usrloc.so"\n'
    line = KAMAILIO[: KAMAILIO.index(before)].count("\n") + 2
    text = KAMAILIO.replace(before, f'{before}modparam("usrloc", "db_mode", 0)\n')
    (tmp_path / "kamailio.cfg").write_text(text)
    (found,) = (each for each in lint_stack([tmp_path]).problems if each.code == "SD815")
    (other,) = found.related
    assert (other.span.line, "a restart forgets" in other.text) == (line, True)
