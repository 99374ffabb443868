import base64
import hmac

import pytest

from sipdeploy.host.known_hosts import entries_for, entry_name, fingerprint, judge, parse, read

KEY = base64.b64encode(b"the key").decode()
OTHER = base64.b64encode(b"another").decode()


def hashed(name):
    salt = b"0123456789abcdefghij"
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("names", "name", "is_named"),
    [
        ("sip1", "sip1", True),
        ("a,10.0.0.1", "10.0.0.1", True),
        ("SIP1", "sip1", True),
        ("sip1", "sip10", False),
        ("[sip1]:2222", "[sip1]:2222", True),
        ("sip1", "[sip1]:2222", False),
        ("*.example.com", "a.example.com", True),
        ("*,!bad", "bad", False),
        ("sip?", "sip2", True),
        (hashed("sip1"), "sip1", True),
        (hashed("sip1"), "sip2", False),
        (hashed("[sip1]:2222"), "[sip1]:2222", True),
        ("|1|broken", "sip1", False),
    ],
)
def test_names_match_as_openssh_matches_them(names, name, is_named):
    entries = parse(f"{names} ssh-ed25519 {KEY}", "f")
    assert bool(entries_for(entries, name)) is is_named


@pytest.mark.parametrize(
    ("lines", "state", "line"),
    [
        (f"h ssh-ed25519 {KEY}", "known", 1),
        ("", "unknown", None),
        (f"# c\nh ssh-ed25519 {OTHER}", "changed", 2),
        (f"h ssh-rsa {OTHER}\nh ssh-ed25519 {OTHER}", "changed", 2),
        (f"h ssh-rsa {OTHER}", "changed", 1),
        (f"h ssh-ed25519 {OTHER}\nh ssh-ed25519 {KEY}", "known", 2),
        (f"@revoked h ssh-ed25519 {KEY}\nh ssh-ed25519 {KEY}", "revoked", 1),
        (f"@cert-authority h ssh-ed25519 {OTHER}", "unknown", 1),
        (f"@cert-authority h ssh-ed25519 {KEY}", "unknown", 1),
        ("h ssh-ed25519 no*base64\nh ssh-ed25519", "unknown", None),
    ],
)
def test_a_key_is_judged_by_all_entries(lines, state, line):
    verdict = judge(entries_for(parse(lines, "f"), "h"), "ssh-ed25519", b"the key")
    assert verdict.state == state
    assert (verdict.entry.line if verdict.entry else None) == line


def test_the_port_is_part_of_the_name():
    assert entry_name("SIP1", 22) == "sip1"
    assert entry_name("sip1", 2222) == "[sip1]:2222"


def test_files_that_are_not_there_have_no_entries(tmp_path):
    (tmp_path / "a").write_text(f"h ssh-ed25519 {KEY}\n")
    found = read([str(tmp_path / "no"), str(tmp_path / "a")])
    assert [entry.place for entry in found] == [f"{tmp_path / 'a'}:1"]


def test_the_fingerprint_is_ssh_keygens():
    assert fingerprint(b"") == "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
