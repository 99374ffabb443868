import errno
import re
import socket
import subprocess
import sys

import paramiko
import pytest

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import keys, ssh, ssh_problems, ssh_words
from sipdeploy.host.known_hosts import Verdict, judge, parse
from sipdeploy.host.ssh_settings import Dialling, Hints, SshSettings, parse_jump, resolve


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


def test_an_include_leaks_no_block_into_the_lines_after_it(resolved, tmp_path):
    """The last Host block of an included file once held every word after the Include."""
    (tmp_path / "a.conf").write_text("Host elsewhere\n Port 22\n")
    target = resolved(
        f"Include {tmp_path}/a.conf\nUser admin\nProxyJump none\nPort 2222\n"
        "UserKnownHostsFile /kh\nIdentityFile /key\n"
    )
    assert (target.user, target.port, target.jumps) == ("admin", 2222, ())
    assert target.known_hosts[0] == "/kh"
    assert target.identity_files == ("/key",)


def test_a_match_sees_what_the_inventory_sets(resolved):
    text = "Match user ops\n Port 2222\n"
    assert resolved(text, user="ops").port == 2222
    assert resolved(text).port == 22


def test_how_a_connection_is_dialled_is_followed(resolved):
    target = resolved("AddressFamily inet6\nBindAddress ::1\nConnectTimeout 3\n")
    dialling = target.dialling
    assert dialling == Dialling(family=socket.AF_INET6, bind_address="::1", seconds=3)
    assert resolved("").dialling == Dialling()


def test_algorithms_are_followed(resolved):
    target = resolved("Ciphers aes256-ctr\nPubkeyAcceptedAlgorithms rsa-sha2-512\n")
    assert target.algorithms.ciphers == ("aes256-ctr",)
    assert target.algorithms.keys == ("rsa-sha2-512",)


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("BindInterface lo", "BindAddress"),
        ("KnownHostsCommand /usr/bin/keys %H", "UserKnownHostsFile"),
        ("ProxyUseFdpass yes", "ProxyJump"),
        ("PubkeyAuthentication no", "logs in only with a key"),
    ],
)
def test_a_word_that_cannot_be_followed_is_named_with_its_line(resolved, tmp_path, line, fix):
    resolved("")
    (tmp_path / "a.conf").write_text(f"Host sip1\n  {line}\n")
    (tmp_path / ".ssh/config").write_text(f"# mine\nInclude {tmp_path}/a.conf\n")
    with pytest.raises(HostFailed) as failed:
        ssh.target_of("sip1", SshSettings(alias="sip1"))
    (problem,) = failed.value.diagnostics
    assert problem.code == "SD508"
    assert f"`{line.lower().split()[0]} " in problem.message
    assert problem.notes == (f"{tmp_path}/a.conf:2: {line}",)
    assert fix in problem.help


def test_every_word_that_ssh_prints_is_followed_or_named(resolved):
    """Those of this machine's OpenSSH; a newer one may print more, which are named if set."""
    assert resolved("").hints == Hints()
    defaults = {"host": ["sip1"], "quantumsafe": ["no"]}
    values = {"host": ["sip1"], "quantumsafe": ["yes"]}
    assert ssh_words.unknown(values, lambda: values) == ()
    (note,) = ssh_words.unknown(values, lambda: defaults)
    assert "`quantumsafe yes`" in note


def test_words_that_only_ssh_follows_are_named_where_they_may_explain_a_failure(resolved):
    target = resolved(
        "PKCS11Provider /card.so\nControlPath ~/cm\nHostbasedAuthentication yes\n"
        "StrictHostKeyChecking accept-new\nVerifyHostKeyDNS yes\n"
    )
    notes = ssh_problems.refused("sip1", target, []).diagnostics[0].notes
    assert any("`ssh-add -s /card.so`" in note for note in notes)
    assert sum(note.startswith("ssh_config has") for note in notes) == 3
    verdict = Verdict(state="unknown")
    problem = ssh_problems.bad_key("sip1", target, verdict, ("ssh-rsa", b"k")).diagnostics[0]
    assert sum("ssh_config has" in note for note in problem.notes) == 2
    assert problem.help.endswith("`ssh-keyscan sip1 >> ~/.ssh/known_hosts`")
    assert "once" not in problem.help, "ssh would not ask, and record nothing"


def test_files_have_their_tokens_filled_in(resolved, tmp_path, monkeypatch):
    monkeypatch.setenv("KEYS", "/keys")
    target = resolved(
        "HostName 10.0.0.1\nIdentityFile %d/%n-%h-%r\nIdentityFile ${KEYS}/a%%b\n"
        "CertificateFile ~/c-cert.pub\nUserKnownHostsFile /a /with space\n",
    )
    assert target.identity_files == (f"{tmp_path}/sip1-10.0.0.1-root", "/keys/a%b")
    assert target.certificate_files == ("~/c-cert.pub",)
    assert target.known_hosts[:2] == ("/a", "/with space")


@pytest.mark.parametrize("line", ["IdentityFile /%C", "IdentityFile /${NO_SUCH_VARIABLE}"])
def test_a_token_that_is_not_known_is_told(resolved, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        resolved(f"{line}\n")


def test_the_agent_is_the_one_of_ssh(resolved, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", "/usual")
    monkeypatch.setenv("OTHER", "/other")
    assert resolved("").agent == "/usual"
    assert resolved("IdentityAgent SSH_AUTH_SOCK\n").agent == "/usual"
    assert resolved("IdentityAgent $OTHER\n").agent == "/other"
    assert resolved("IdentityAgent /named\n").agent == "/named"
    assert resolved("IdentityAgent none\n").agent is None


def test_an_agent_that_does_not_answer_is_named(resolved, tmp_path):
    tried = []
    target = resolved(f"IdentityAgent {tmp_path}/none\nIdentityFile /no\n")
    assert list(keys.offers("sip1", target, tried)) == []
    assert tried == [f"the agent at {tmp_path}/none (does not answer: no such file or directory)"]


def test_the_command_that_is_printed_has_what_the_inventory_sets(resolved, tmp_path):
    text = "Host sip1\n Port 2222\n"
    assert resolved(text, port=22).ssh_command == "ssh -p 22 root@sip1"
    target = resolved("", identity_file="~/keys/one", user="ops")
    assert target.ssh_command == "ssh -i ~/keys/one ops@sip1"
    spaced = resolved("", identity_file="~/my key").ssh_command
    assert spaced == f"ssh -i '{tmp_path}/my key' root@sip1"


@pytest.mark.parametrize(
    ("text", "scan"),
    [
        ("HostName h\nPort 2222\n", "ssh-keyscan -p 2222 h >> ~/.ssh/known_hosts"),
        (
            "UserKnownHostsFile /dev/null\nGlobalKnownHostsFile /dev/null\n",
            "ssh-keyscan sip1 >> ~/.ssh/known_hosts",
        ),
        ("HostKeyAlias web\n", "ssh-keyscan sip1 | sed 's/^[^ ]*/web/' >> ~/.ssh/known_hosts"),
        (
            "Host sip1\n HostName h\n ProxyJump ops@edge:2222\n",
            "ssh -p 2222 ops@edge ssh-keyscan h >> ~/.ssh/known_hosts",
        ),
    ],
)
def test_the_command_that_records_a_key_works(resolved, text, scan):
    verdict = Verdict(state="unknown")
    target = resolved(text)
    problem = ssh_problems.bad_key("sip1", target, verdict, ("ssh-rsa", b"k")).diagnostics[0]
    assert f"`{scan}`" in problem.help


def test_a_pattern_in_known_hosts_is_removed_by_its_line(resolved):
    entry = parse("*.example ssh-ed25519 AAAA", "/kh")[0]
    verdict = Verdict(state="changed", entry=entry)
    problem = ssh_problems.bad_key("sip1", resolved(""), verdict, ("ssh-rsa", b"k"))
    assert problem.diagnostics[0].help.endswith("`sed -i 1d /kh`")


def test_a_certificate_authority_is_named(resolved):
    entry = parse("@cert-authority * ssh-ed25519 AAAA", "/kh")[0]
    verdict = judge([entry], "ssh-rsa", b"k")
    problem = ssh_problems.bad_key("sip1", resolved(""), verdict, ("ssh-rsa", b"k"))
    assert "the certificate authority at /kh:1" in problem.diagnostics[0].notes[-1]
    assert "once" not in problem.diagnostics[0].help


def test_no_common_algorithm_is_not_said_to_fail_with_ssh(resolved):
    failure = paramiko.ssh_exception.IncompatiblePeer("no acceptable ciphers")
    problem = ssh_problems.no_ssh("sip1", resolved(""), failure, []).diagnostics[0]
    assert "no common algorithm" in problem.message
    assert "shows the error too" not in problem.help


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
