import errno
import socket
import subprocess
import sys

import paramiko
import pytest

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import keys, ssh, ssh_problems
from sipdeploy.host.known_hosts import Verdict, parse
from sipdeploy.host.ssh_settings import SshSettings, parse_jump, resolve


@pytest.fixture
def resolved(tmp_path, monkeypatch):
    """Resolve the settings of a host with this text as ~/.ssh/config."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()

    def resolve_text(text, **settings):
        (tmp_path / ".ssh/config").write_text(text)
        return resolve(SshSettings(**{"alias": "sip1", **settings}))

    return resolve_text


def test_without_a_configuration_it_is_root_on_22(resolved):
    target = resolved("")
    assert (target.login, target.ssh_command) == ("root@sip1", "ssh root@sip1")
    assert target.known_hosts[0] == "~/.ssh/known_hosts"


def test_the_configuration_is_honoured(resolved):
    target = resolved(
        "Host sip1\n HostName 10.0.0.1\n User ops\n Port 2222\n IdentityFile ~/.ssh/one\n"
        " IdentitiesOnly yes\n HostKeyAlias h\n UserKnownHostsFile /a /b\n"
        " GlobalKnownHostsFile none\nHost *\n IdentityFile /two\n User late\n"
    )
    assert target.login == "ops@10.0.0.1:2222"
    assert target.ssh_command == "ssh -p 2222 ops@sip1"
    assert [file.rpartition("/")[2] for file in target.identity_files] == ["one", "two"]
    assert target.identities_only
    assert (target.host_key_alias, target.known_hosts) == ("h", ("/a", "/b"))


def test_the_inventory_wins(resolved):
    text = "Host sip1\n User ops\n Port 2222\n IdentityFile /one\n"
    target = resolved(text, user="root", port=22, identity_file="/mine")
    assert (target.login, target.identity_files) == ("root@sip1", ("/mine", "/one"))


def test_includes_are_followed(resolved, tmp_path):
    """The last Host block of an included file ends with that file."""
    (tmp_path / "a.conf").write_text("Host sip1\n User inner\nHost other\n User elsewhere\n")
    target = resolved(f"Include {tmp_path}/*.conf\nPort 2222\nHost *\n User outer\n")
    assert (target.user, target.port) == ("inner", 2222)


def test_what_is_not_of_the_format_is_told(resolved):
    with pytest.raises(ValueError, match="line 2: Bad configuration option: bogus"):
        resolved("Host sip1\n Bogus yes\n")


def test_a_proxy_command_has_its_tokens_filled_in(resolved):
    target = resolved("Host sip1\n HostName 10.0.0.1\n ProxyCommand nc %h %p %r %n %%\n", user="x")
    assert target.proxy_command == "nc 10.0.0.1 22 x sip1 %"


def test_a_match_is_read_as_ssh_reads_it(resolved):
    assert resolved('Match exec "true"\n User late\n').user == "late"
    assert resolved('Match exec "false"\n User late\n').user == "root"


def test_without_ssh_it_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostFailed) as failed:
        ssh.target_of("sip1", SshSettings(alias="sip1"))
    assert "apt-get install openssh-client" in failed.value.diagnostics[0].help


def test_jumps_are_resolved_one_by_one(resolved):
    target = resolved(
        "Host sip1\n ProxyJump edge,ops@middle:2222\n"
        "Host edge\n HostName 192.0.2.1\n ProxyJump first\n"
        "Host middle\n User nobody\n ProxyJump edge\n"
    )
    assert [jump.login for jump in target.jumps] == [
        "root@first",
        "root@192.0.2.1",
        "ops@middle:2222",
    ]


def test_jumps_in_a_circle_are_told(resolved):
    resolved("Host sip1\n ProxyJump none\n")
    with pytest.raises(RecursionError):
        resolved("Host a\n ProxyJump b\nHost b\n ProxyJump a\n", alias="a")
    with pytest.raises(HostFailed, match="its ProxyJump is a loop"):
        ssh.target_of("sip1", SshSettings(alias="a"))


def test_a_configuration_that_cannot_be_read_is_told(resolved):
    with pytest.raises(ValueError, match="nonsense"):
        resolved("Match nonsense\n")
    with pytest.raises(HostFailed) as failed:
        ssh.target_of("sip1", SshSettings(alias="sip1"))
    assert failed.value.diagnostics[0].code == "SD508"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("h", SshSettings(alias="h")),
        (" ops@h:22 ", SshSettings(alias="h", user="ops", port=22)),
        ("ssh://ops@h", SshSettings(alias="h", user="ops")),
        ("[2001:db8::1]:2222", SshSettings(alias="2001:db8::1", port=2222)),
    ],
)
def test_a_jump_has_many_spellings(text, settings):
    assert parse_jump(text) == settings


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (socket.gaierror(-2, "x"), "does not resolve"),
        (ConnectionRefusedError(), "refuses the connection"),
        (TimeoutError(), "does not answer"),
        (OSError(errno.EHOSTUNREACH, "x"), "no route"),
        (OSError(errno.EACCES, "odd"), "odd"),
    ],
)
def test_each_way_not_to_connect_has_its_words(resolved, failure, words):
    problem = ssh_problems.unreachable("sip1", resolved(""), failure).diagnostics[0]
    assert problem.code == "SD501"
    assert words in problem.message
    assert problem.help


def test_a_changed_key_tells_file_and_line(resolved):
    entry = parse("# x\n[sip1]:2222 ssh-ed25519 AAAA", "/kh")[0]
    target = resolved("Host sip1\n Port 2222\n")
    verdict = Verdict(state="changed", entry=entry)
    problem = ssh_problems.bad_key("sip1", target, verdict, ("ssh-rsa", b"k")).diagnostics[0]
    assert (problem.code, problem.notes[1]) == ("SD503", "the recorded key is at /kh:2")
    assert "ssh-keygen -R '[sip1]:2222' -f /kh" in problem.help


def test_an_unknown_key_tells_what_to_type(resolved):
    target = resolved("Host sip1\n Port 2222\n HostName 10.0.0.1\n")
    verdict = Verdict(state="unknown")
    problem = ssh_problems.bad_key("sip1", target, verdict, ("ssh-rsa", b"k")).diagnostics[0]
    assert problem.code == "SD502"
    assert "`ssh -p 2222 root@sip1` once" in problem.help
    assert "ssh-keyscan -p 2222 10.0.0.1 >> ~/.ssh/known_hosts" in problem.help


def test_a_named_key_that_is_missing_is_told(resolved, tmp_path):
    target = resolved("", identity_file=str(tmp_path / "no"))
    with pytest.raises(HostFailed, match="which does not exist"):
        list(keys.offers("sip1", target, []))


def test_keys_that_cannot_be_used_are_listed(resolved, tmp_path, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    good, locked, junk = (tmp_path / name for name in ("good", "locked", "junk"))
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(good))
    key.write_private_key_file(str(locked), password="secret")
    junk.write_text("no key")
    files = "".join(f" IdentityFile {file}\n" for file in (junk, locked, good, good))
    target = resolved(f"Host sip1\n IdentitiesOnly yes\n{files}")
    tried = []
    assert [label for label, _ in keys.offers("sip1", target, tried)] == [str(good)]
    assert tried[0].startswith(f"{junk} (is not a usable key")
    assert tried[1] == f"{locked} (needs its passphrase)"
    problem = ssh_problems.refused("sip1", target, tried).diagnostics[0]
    assert f"ssh-add {locked}" in problem.help


def test_paramiko_is_imported_without_what_is_not_needed():
    """In a separate process, in which no other code has imported it."""
    program = "import sys, sipdeploy.host.ssh; assert 'asyncio' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
