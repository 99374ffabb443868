"""Probe accounts: numbers that no user has, secrets on standard input, and what the host says."""

import hashlib

import pytest
from fakes import FakeHost

from sipdeploy.cli.live import _contacts
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Result
from sipdeploy.inventory.fields import Invalid, user_number
from sipdeploy.proof.outside.probes import Probes
from sipdeploy.proof.probe_numbers import is_probe, new_number

DOMAIN = "sip.example.com"


def probes(answer):
    host = FakeHost(answers={"probes": Result(status=0, stdout=answer)})
    return host, Probes(name="sip1", domain=DOMAIN, connect=lambda: host)


def test_no_user_can_have_the_number_of_a_probe():
    number = new_number()
    assert is_probe(number)
    with pytest.raises(Invalid):
        user_number(number)
    for other in ("1001", "1" * 15, "0" + number[1:], number + "1", number[:-1] + "\u0661"):
        assert not is_probe(other)


def test_numbers_and_passwords_are_new_each_time():
    seen = set()
    for _ in range(50):
        _, some = probes(b"")
        for account in some.accounts:
            seen |= {account.number, account.password}
            assert account.password not in repr(some)
    assert len(seen) == 200


def test_the_secrets_travel_on_standard_input_alone():
    host, some = probes(b"\x1ecertificate\n\x1eset\n")
    some.set()
    some.remove()
    (set_argv, remove_argv), (accounts, numbers) = host.asked, host.inputs
    for account in some.accounts:
        ha1 = hashlib.md5(f"{account.number}:{DOMAIN}:{account.password}".encode()).hexdigest()
        assert f"{account.number} {ha1}\n".encode() in accounts
        for argv in (set_argv, remove_argv):
            assert not any(ha1 in word or account.password in word for word in argv)
        assert account.password.encode() not in accounts
        assert ha1.encode() not in numbers
    assert remove_argv == ("probes", "remove", "-", DOMAIN)


@pytest.mark.parametrize(
    ("answer", "message", "fix"),
    [
        (
            b"\x1efailed\nkamailio\nerror: 500 - No such htable\n\x1eset\n",
            "older sipdeploy",
            "sipdeploy apply sip1",
        ),
        (
            b"\x1efailed\nkamailio\nERROR: connect_unix_sock: No such file\n\x1eset\n",
            "Kamailio on `sip1` does not take",
            "journalctl -b -u kamailio",
        ),
        (b"\x1efailed\nasterisk\nAsterisk does not answer\n\x1eset\n", "Asterisk", "-u asterisk"),
        (b"", "cannot be set", ""),
    ],
)
def test_a_host_that_does_not_take_them(answer, message, fix):
    _, some = probes(answer)
    with pytest.raises(HostFailed) as failed:
        some.set()
    (problem,) = failed.value.diagnostics
    assert problem.code == "SD909"
    assert message in problem.message
    assert fix in problem.help


def test_what_was_never_set_is_not_removed():
    host, some = probes(b"")
    some.remove()
    assert host.asked == []


def test_users_does_not_show_the_phones_of_a_proof():
    rows = [f"{number}@{DOMAIN}\t192.0.2.1:5\t1\tphone" for number in ("1001", new_number())]
    found = list(_contacts("sip1", DOMAIN, "\n".join(rows)))
    assert [number for number, _ in found] == ["1001"]
