"""The transport against an impostor and against a hostile server."""

import base64
import contextlib
import os
import resource
import socket
import subprocess
import threading
import time

import paramiko
import pytest
from ssh_server import Door, Server, announce

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import keys
from sipdeploy.host.ssh import SSHHost, target_of
from sipdeploy.host.ssh_settings import SshSettings


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory with a key and without known hosts."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / ".ssh/id_ecdsa"))
    (tmp_path / ".ssh/config").write_text("Host *\n  GlobalKnownHostsFile none\n")
    return tmp_path


@pytest.fixture
def serve():
    """Start servers that stop after the test."""
    servers = []

    def start(door):
        servers.append(Server(door))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def known(home, text):
    (home / ".ssh/known_hosts").write_text(text)


def connect(server):
    return SSHHost(
        "sip1", target_of("sip1", SshSettings(alias="127.0.0.1", user="root", port=server.port))
    )


def test_a_host_that_is_known_runs_commands(home, serve):
    server = serve(Door())
    known(home, server.known_line)
    host = connect(server)
    try:
        assert host.run(["say", "it's"]).text == "hello\n"
    finally:
        host.close()
    assert server.door.commands == [b"say 'it'\"'\"'s'"]


def test_an_unknown_host_key_ends_it_before_any_login(home, serve):
    server = serve(Door())
    with pytest.raises(HostFailed) as failed:
        connect(server)
    assert failed.value.diagnostics[0].code == "SD502"
    assert server.door.logins == []
    known(home, server.known_line)
    connect(server).close()
    assert server.door.logins == ["root"]


def test_another_host_key_ends_it_before_any_login(home, serve):
    server, other = serve(Door()), serve(Door())
    known(home, server.known_line.rpartition(" ")[0] + f" {other.key.get_base64()}\n")
    with pytest.raises(HostFailed) as failed:
        connect(server)
    assert failed.value.diagnostics[0].code == "SD503"
    assert server.door.logins == []


@pytest.fixture
def agent(tmp_path):
    """An agent of OpenSSH at a socket of its own, with one key and its certificate."""
    folder = tmp_path / "agent"
    folder.mkdir()
    for argv in (
        ["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", "ca"],
        ["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", "key"],
        ["ssh-keygen", "-qs", "ca", "-I", "me", "-n", "root", "key.pub"],
    ):
        subprocess.run(argv, cwd=folder, check=True)
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", "socket"], cwd=folder, stdout=subprocess.DEVNULL
    )
    try:
        while not (folder / "socket").exists():
            time.sleep(0.01)
        environment = {**os.environ, "SSH_AUTH_SOCK": "socket"}
        subprocess.run(["ssh-add", "-q", "key"], cwd=folder, check=True, env=environment)
        (folder / "key").unlink()
        yield folder
    finally:
        process.terminate()
        process.wait()


def public(folder):
    return base64.b64decode((folder / "key.pub").read_text().split()[1])


def offered(home, text):
    (home / ".ssh/config").write_text(text)
    tried = []
    target = target_of("sip1", SshSettings(alias="sip1"))
    return [label for label, _ in keys.offers("sip1", target, tried)], tried


@pytest.mark.parametrize("file", ["key", "key.pub"])
def test_an_agent_of_ssh_config_signs_for_a_file_that_is_only_public(home, serve, agent, file):
    server = serve(Door(only=public(agent)))
    known(home, server.known_line)
    (home / ".ssh/config").write_text(
        f"IdentityAgent {agent}/socket\nIdentityFile {agent}/{file}\nIdentitiesOnly yes\n"
    )
    connect(server).close()
    assert server.door.logins == ["root"]


def test_a_certificate_is_offered_before_its_key(home, agent):
    (agent / "key-cert.pub").rename(home / "c.pub")
    lines = f"IdentityAgent {agent}/socket\nIdentityFile {agent}/key.pub\n"
    name = f"{agent}/key.pub"
    labels, tried = offered(home, f"{lines}CertificateFile {home}/c.pub\nIdentitiesOnly yes\n")
    assert (labels, tried) == ([f"{name} with its certificate", name], [])
    labels, _ = offered(home, lines)
    assert labels == [f"{name} with its certificate", name], "the agent has the certificate too"
    _, tried = offered(home, f"{lines}CertificateFile {home}/none\n")
    assert tried == [f"{home}/none (CertificateFile, is not a readable certificate)"]


def test_a_public_key_without_its_private_one_is_told(home, agent):
    labels, tried = offered(home, f"IdentityAgent none\nIdentityFile {agent}/key.pub\n")
    assert labels == []
    assert tried == [f"{agent}/key.pub (is a public key; the agent has no private key for it)"]


def test_a_key_that_ssh_config_does_not_allow_is_not_offered(home, agent):
    lines = f"IdentityAgent {agent}/socket\nIdentityFile {agent}/key.pub\n"
    labels, tried = offered(home, f"{lines}PubkeyAcceptedAlgorithms rsa-sha2-512\n")
    assert labels == []
    assert "does not allow ssh-ed25519" in tried[0]


def test_algorithms_of_ssh_config_limit_the_handshake(home, serve):
    server = serve(Door())
    known(home, server.known_line)
    (home / ".ssh/config").write_text("Ciphers aes256-ctr\nMACs hmac-sha2-512\n")
    connect(server).close()
    assert server.agreed == ("aes256-ctr", "hmac-sha2-512")
    (home / ".ssh/config").write_text("Ciphers chacha20-poly1305@openssh.com\n")
    with pytest.raises(HostFailed) as failed:
        connect(server)
    (problem,) = failed.value.diagnostics
    assert (problem.code, "`Ciphers`" in problem.message) == ("SD508", True)
    assert server.door.logins == ["root"]


@pytest.mark.parametrize("is_krl", [False, True])
def test_a_revoked_host_key_ends_it_before_any_login(home, serve, is_krl):
    server = serve(Door())
    known(home, server.known_line)
    key, krl = home / "revoked", home / "krl"
    key.write_text(server.known_line.partition(" ")[2])
    if is_krl:
        subprocess.run(["ssh-keygen", "-qkf", krl, key], check=True)
        krl.rename(key)
    (home / ".ssh/config").write_text(f"RevokedHostKeys {home}/revoked\n")
    with pytest.raises(HostFailed) as failed:
        connect(server)
    assert failed.value.diagnostics[0].code == "SD503"
    assert server.door.logins == []
    key.unlink()
    with pytest.raises(HostFailed):  # as with OpenSSH, a file that is not there
        connect(server)
    key.write_text("# none\n")
    connect(server).close()


def test_the_key_of_the_address_is_checked_too_where_ssh_does(home, serve):
    server, other = serve(Door()), serve(Door())
    lines = server.known_line.replace("127.0.0.1", "localhost")
    wrong = server.known_line.rpartition(" ")[0] + f" {other.key.get_base64()}\n"
    known(home, lines + wrong)
    place = SshSettings(alias="localhost", user="root", port=server.port)
    config = "AddressFamily inet\n"
    for checks in ("no", "yes"):
        (home / ".ssh/config").write_text(f"{config}CheckHostIP {checks}\n")
        with contextlib.ExitStack() as stack:
            if checks == "yes":
                failed = stack.enter_context(pytest.raises(HostFailed))
            SSHHost("sip1", target_of("sip1", place)).close()
    assert failed.value.diagnostics[0].code == "SD503"


def test_a_host_with_several_addresses_is_reached_at_one_that_answers(home, serve, monkeypatch):
    server = serve(Door())
    known(home, server.known_line.replace("127.0.0.1", "sip.example"))
    lookup = socket.getaddrinfo
    row = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    both = [(*row, (address, server.port)) for address in ("127.0.0.2", "127.0.0.1")]

    def resolve(name, *more):
        return both if name == "sip.example" else lookup(name, *more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    place = SshSettings(alias="sip.example", user="root", port=server.port)
    SSHHost("sip1", target_of("sip1", place)).close()
    assert server.door.logins == ["root"]


def test_a_close_at_any_moment_is_a_lost_connection_and_no_bug(home, serve):
    """Ctrl-C closes the connection from another thread, also between two words of `run`."""
    server = serve(Door())
    known(home, server.known_line)
    host = connect(server)
    ends = threading.Event()

    def close():
        while not ends.is_set():
            host.close()
            time.sleep(0.001)

    closing = threading.Thread(target=close)
    closing.start()
    try:
        for _ in range(8):
            with contextlib.suppress(HostFailed):
                host.run(["say"])
    finally:
        ends.set()
        closing.join()
    assert host.run(["say"]).text == "hello\n"
    host.close()


def test_a_close_between_the_look_and_the_use_is_no_bug(home, serve, monkeypatch):
    server = serve(Door())
    known(home, server.known_line)
    host = connect(server)
    is_active = paramiko.Transport.is_active

    def closing(self):
        answer = is_active(self)
        monkeypatch.undo()
        host.close()
        return answer

    monkeypatch.setattr(paramiko.Transport, "is_active", closing)
    with pytest.raises(HostFailed) as failed:
        host.run(["say"])
    assert failed.value.diagnostics[0].code == "SD506"


class Flood(Door):
    """Sends endlessly on one output, and ignores the window."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def serve(self, channel):
        channel.out_window_size = 1 << 60
        send = channel.sendall if self.where == "stdout" else channel.sendall_stderr
        with contextlib.suppress(OSError, EOFError):
            while True:
                send(b"x" * 32768)


@pytest.mark.parametrize("where", ["stdout", "stderr"])
def test_output_without_end_loses_the_connection(home, serve, where):
    server = serve(Flood(where))
    known(home, server.known_line)
    host = connect(server)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with pytest.raises(HostFailed) as failed:
            host.run(["say"], timeout_seconds=60)
        assert server.is_left()
    finally:
        host.close()
    (problem,) = failed.value.diagnostics
    assert problem.code == "SD531"
    assert "`say` on `sip1` sent more than 8 MiB" in problem.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_packet_that_would_fill_the_memory_is_refused_before_the_login(home):
    del home
    listener = announce(0xFFFFFFF0 - 4)
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    place = SshSettings(alias="127.0.0.1", user="root", port=listener.getsockname()[1])
    with listener, pytest.raises(HostFailed) as failed:
        SSHHost("sip1", target_of("sip1", place))
    (problem,) = failed.value.diagnostics
    assert problem.code == "SD501"
    assert not set("\x1b\x07") & set("".join((problem.message, *problem.notes)))
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


class Echo(Door):
    """Sends back what it gets, so that both directions are busy at once."""

    def serve(self, channel):
        with contextlib.suppress(OSError, EOFError):
            while chunk := channel.recv(65536):
                channel.sendall(chunk)
            channel.send_exit_status(0)
            channel.close()


def test_a_stream_passes_through_ssh_in_pieces(home, serve):
    server = serve(Echo())
    known(home, server.known_line)
    host = connect(server)
    seen = []
    try:
        data = (bytes([number]) * 65536 for number in range(200))
        result = host.run(["cat"], input=data, sink=lambda chunk: bool(seen.append(chunk)) or True)
    finally:
        host.close()
    assert b"".join(seen) == b"".join(bytes([number]) * 65536 for number in range(200))
    assert len(result.stdout) == 65536, "only the beginning is kept"


def test_a_sink_ends_a_command_over_ssh(home, serve):
    server = serve(Echo())
    known(home, server.known_line)
    host = connect(server)
    try:
        endless = (b"x" * 65536 for _ in iter(int, 1))
        assert host.run(["cat"], input=endless, sink=lambda _: False).status < 0
    finally:
        host.close()
    assert server.is_left()
