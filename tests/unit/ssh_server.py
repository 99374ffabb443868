"""An SSH server in a thread that lies, floods and counts logins, unlike a real one."""

import contextlib
import socket
import struct
import threading
import time

import paramiko


class Door(paramiko.ServerInterface):
    """Accepts every login, or the one with the key `only`, and records it."""

    def __init__(self, only=None):
        self.only = only
        self.logins = []
        self.commands = []

    def get_allowed_auths(self, username):
        del username
        return "publickey"

    def check_auth_publickey(self, username, key):
        if self.only is not None and key.asbytes() != self.only:
            return paramiko.AUTH_FAILED
        self.logins.append(username)
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind, chanid):
        del chanid
        return paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED

    def check_channel_exec_request(self, channel, command):
        self.commands.append(command)
        reply_first = threading.Timer(0.05, self.serve, args=(channel,))
        reply_first.daemon = True
        reply_first.start()
        return True

    def serve(self, channel):
        """Execute a command; the client may have closed the connection."""
        with contextlib.suppress(OSError, EOFError):
            channel.sendall(b"hello\n")
            channel.send_exit_status(0)
            channel.close()


class Server:
    """Listens on a port of loopback; `door` accepts the logins."""

    def __init__(self, door):
        self.door = door
        self.key = paramiko.ECDSAKey.generate()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._transports = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def known_line(self):
        return f"[127.0.0.1]:{self.port} {self.key.get_name()} {self.key.get_base64()}\n"

    @property
    def agreed(self):
        """Cipher and MAC of the last connection, from the host's side."""
        transport = self._transports[-1]
        return transport.local_cipher, transport.local_mac

    def is_left(self, seconds=10):
        """Wait some seconds for the end of all connections; return whether they ended."""
        end = time.monotonic() + seconds
        while any(transport.is_active() for transport in self._transports):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def close(self):
        self._listener.close()
        for transport in self._transports:
            transport.close()

    def _accept(self):
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while True:
                connection, _ = self._listener.accept()
                transport = paramiko.Transport(connection)
                transport.add_server_key(self.key)
                self._transports.append(transport)
                transport.start_server(event=threading.Event(), server=self.door)


def announce(size):
    """A listener that sends the line of an SSH server, and then announces a packet of `size`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"SSH-2.0-x\x1b]0;owned\x07\r\n" + struct.pack(">I", size))
            while True:
                connection.sendall(b"\0" * 65536)

    threading.Thread(target=serve, daemon=True).start()
    return listener
