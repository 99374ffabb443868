"""Pyinfra as it is, but with TCP_NODELAY on its connections, which Paramiko leaves off."""

import socket
import sys

import paramiko.transport
from pyinfra_cli.main import main

original = paramiko.transport.Transport.__init__


def with_nodelay(self, sock, *words, **named):
    original(self, sock, *words, **named)
    self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


paramiko.transport.Transport.__init__ = with_nodelay
sys.exit(main())
