import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipdeploy.inventory import fields
from sipdeploy.inventory.fields import Invalid, PortRange

CHECKS = [
    fields.line, fields.name, fields.boolean, fields.whole(1, 9), fields.port, fields.port_range,
    fields.choice("a", "b"), fields.version("Kamailio", fields.KAMAILIO_VERSIONS),
    fields.user_number, fields.service_number, fields.domain, fields.email, fields.address,
    fields.media_address, fields.host_name, fields.login, fields.origin, fields.url,
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "text", "value"),
    [
        (fields.name, "", ""),
        (fields.name, "Ana\u3000María 李", "Ana\u3000María 李"),
        (fields.boolean, "Yes", True),
        (fields.boolean, "off", False),
        (fields.port, "5060", 5060),
        (fields.port, 5060, 5060),
        (fields.port_range, "10000-20000", PortRange(10000, 20000)),
        (fields.user_number, "0101", "0101"),
        (fields.service_number, "*97", "*97"),
        (fields.domain, "SIP.Example.COM", "sip.example.com"),
        (fields.domain, "xn--bcher-kva.example", "xn--bcher-kva.example"),
        (fields.email, "o.p+s@example.com", "o.p+s@example.com"),
        (fields.address, "local", "local"),
        (fields.address, "2001:DB8::0:1", "2001:db8::1"),
        (fields.address, "my_alias", "my_alias"),
        (fields.media_address, "192.168.1.1", "192.168.1.1"),
        (fields.origin, "HTTPS://Phone.example.com:443", "https://phone.example.com"),
        (fields.origin, "http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        (fields.origin, "http://localhost:3000", "http://localhost:3000"),
        (fields.url, "https://acme.example.com/dir", "https://acme.example.com/dir"),
    ],
)  # fmt: skip
def test_takes(check, text, value):
    assert check(text) == value


@pytest.mark.parametrize(
    ("check", "text", "code"),
    [
        (fields.line, None, "SD204"),
        (fields.line, ["a"], "SD203"),
        (fields.line, {"a": "b"}, "SD203"),
        (fields.line, "a\nb", "SD220"),
        (fields.name, "a\u202eb", "SD220"),
        (fields.name, "a\x85b", "SD220"),
        (fields.boolean, "1", "SD206"),
        (fields.port, "0", "SD205"),
        (fields.port, "٥٠٦٠", "SD205"),
        (fields.port, " 5060", "SD205"),
        (fields.port, "5060.0", "SD205"),
        (fields.port_range, "10000", "SD215"),
        (fields.port_range, "80-90", "SD215"),
        (fields.port_range, "10000-10000", "SD215"),
        (fields.port_range, "10000-65536", "SD215"),
        (fields.user_number, "1\n", "SD208"),
        (fields.user_number, "12\n", "SD208"),
        (fields.user_number, "*97", "SD208"),
        (fields.user_number, "١٢", "SD208"),
        (fields.domain, "sip.example.com.", "SD209"),
        (fields.domain, "sip..example.com", "SD209"),
        (fields.domain, "-sip.example.com", "SD209"),
        (fields.domain, "sip_1.example.com", "SD209"),
        (fields.domain, "*.example.com", "SD209"),
        (fields.domain, "sip.example.com\n", "SD209"),
        (fields.domain, "1.2.3", "SD209"),
        (fields.domain, "2001:db8::1", "SD209"),
        (fields.domain, "a." * 127 + "com", "SD209"),
        (fields.domain, "x" * 64 + ".com", "SD209"),
        (fields.email, "ops", "SD210"),
        (fields.email, "a b@example.com", "SD210"),
        (fields.email, "x" * 65 + "@example.com", "SD210"),
        (fields.address, "1.2.3", "SD211"),
        (fields.address, "-x", "SD211"),
        (fields.address, "a b", "SD211"),
        (fields.address, "root@host", "SD211"),
        (fields.media_address, "host", "SD211"),
        (fields.media_address, "::1", "SD212"),
        (fields.media_address, "224.0.0.1", "SD212"),
        (fields.media_address, "169.254.1.1", "SD212"),
        (fields.media_address, "255.255.255.255", "SD212"),
        (fields.host_name, "..", "SD223"),
        (fields.host_name, "a/b", "SD223"),
        (fields.login, "root;id", "SD223"),
        (fields.origin, "https://a.b:x", "SD219"),
        (fields.origin, "https://user@a.b", "SD219"),
        (fields.origin, "https://*.a.b", "SD219"),
        (fields.origin, "https://a.b?x", "SD219"),
        (fields.origin, "null", "SD219"),
        (fields.url, "https://", "SD225"),
    ],
)
def test_refuses(check, text, code):
    with pytest.raises(Invalid) as found:
        check(text)
    assert found.value.code == code


@pytest.mark.parametrize("check", CHECKS)
@given(
    value=st.none()
    | st.text(max_size=40)
    | st.lists(st.text())
    | st.dictionaries(st.text(), st.none())
)
def test_whatever_comes_is_taken_or_judged(check, value):
    with contextlib.suppress(Invalid):
        taken = check(value)
        assert not (isinstance(taken, str) and "\n" in taken)


@given(st.text(alphabet="abcXYZ019.-_:/@[]%é", min_size=1, max_size=30))
def test_what_is_taken_is_taken_again_unchanged(text):
    for check in (fields.domain, fields.address, fields.origin, fields.email):
        try:
            value = check(text)
        except Invalid:
            continue
        assert check(value) == value


def test_a_close_version_is_offered():
    with pytest.raises(Invalid) as found:
        fields.version("Kamailio", fields.KAMAILIO_VERSIONS)("6.0.3")
    assert found.value.advice == "write `6.0`"
