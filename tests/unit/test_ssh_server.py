"""The transport against an impostor and against a hostile server."""

import contextlib
import resource
import time

import paramiko
import pytest
from ssh_server import Door, Server, announce

from sipdeploy.diagnostics.errors import HostFailed
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
