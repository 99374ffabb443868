"""A host over SSH: runs commands, with sudo if the login is not root.

Only this package uses Paramiko, and only this module quotes an argv for a remote shell.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from sipdeploy.host import lazily

lazily.load("invoke")  # before Paramiko, which would import it

import paramiko  # noqa: E402

from sipdeploy.diagnostics.errors import HostFailed  # noqa: E402
from sipdeploy.host import (  # noqa: E402
    CHUNK_BYTES,
    Input,
    Result,
    chunks,
    host_failed,
    sent_too_much,
    ssh_problems,
    title_of,
)
from sipdeploy.host.incoming import MOST_BYTES, After, Intake, OnLine, Sink  # noqa: E402
from sipdeploy.host.ssh_settings import SshSettings, Target, UnusableError, resolve  # noqa: E402
from sipdeploy.host.sudo import Call, Sudo  # noqa: E402
from sipdeploy.host.sudo.password import SudoPassword  # noqa: E402
from sipdeploy.host.transport import open_transport  # noqa: E402

# A diagnostic reports every failure; without a handler, Paramiko would log a traceback to stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def target_of(name: str, settings: SshSettings) -> Target:
    """The SSH target of a host. Raises HostFailed (SD508) if ~/.ssh/config is not usable."""
    try:
        return resolve(settings)
    except FileNotFoundError:
        raise host_failed(
            "SD508",
            "this machine has no `ssh`, which reads ~/.ssh/config",
            help_="install it: `apt-get install openssh-client`, or your system's package",
        ) from None
    except RecursionError:
        problem = UnusableError("its ProxyJump is a loop")
    except UnusableError as refused:
        problem = refused
    except ValueError as wrong:
        problem = UnusableError(str(wrong))
    raise host_failed(
        "SD508",
        f"the SSH configuration for `{name}` is not usable: {problem}",
        notes=problem.notes,
        help_=f"{problem.fix}`ssh -G {settings.alias}` shows how SSH reads ~/.ssh/config",
    )


class SSHHost:
    """A host over SSH. The next `run` reopens a dead or closed connection."""

    def __init__(self, name: str, target: Target, password: SudoPassword | None = None) -> None:
        self.name = name
        self.target = target
        self.login = target.user
        self._sudo = Sudo(name, self.login, password) if self.login != "root" else None
        self._lock = threading.Lock()  # of the list below, which `close` empties at any time
        self._transports: list[paramiko.Transport] = []
        self._connect()

    def run(
        self,
        argv: Sequence[str],
        *,
        input: Input = b"",  # noqa: A002 - as in subprocess.run
        on_line: OnLine | None = None,
        sink: Sink | None = None,
        timeout_seconds: float = 60,
        most_bytes: int = MOST_BYTES,
    ) -> Result:
        """As Host.run, in its own channel.

        A host that sends too much may ignore the window of the channel, so `run` closes the whole
        connection.
        """

        def exchange(call: Call) -> tuple[Result, bool]:
            """Run one command line; whether the sink ended it."""
            after = call.mark and on_line and After(on_line, call.mark)
            intake = Intake(after or on_line, most_bytes, sink, on_error=call.on_error)
            result = self._exchange(argv, call, intake, timeout_seconds)
            return result, intake.is_ended

        if self._sudo is not None:
            return self._sudo.run(argv, input, exchange, has_shell=True)
        return exchange(Call(argv=argv, input=input))[0]

    def _exchange(
        self, argv: Sequence[str], call: Call, intake: Intake, timeout_seconds: float
    ) -> Result:
        deadline = time.monotonic() + timeout_seconds
        try:
            transport = self._live() or self._connect()
            channel = transport.open_session(timeout=timeout_seconds)
            with channel:
                channel.exec_command(call.line)
                intake.stop = channel.close
                result = _exchange(channel, call.input, intake, deadline)
        except TimeoutError:
            raise self._late(argv, timeout_seconds) from None
        except (paramiko.SSHException, OSError, EOFError) as lost:
            raise self._lost(argv, ssh_problems.said(lost)) from lost
        if intake.is_over or intake.is_ended:
            self.close()
        if intake.is_over:
            raise sent_too_much(self.name, argv, intake.most_bytes)
        if not intake.is_ended and result.status < 0 and not transport.is_active():
            raise self._lost(argv, "the connection was closed")
        return result

    def close(self) -> None:
        """Close the connection and its jump connections, the last first."""
        with self._lock:
            transports, self._transports = self._transports, []
        for transport in reversed(transports):
            transport.close()

    def _live(self) -> paramiko.Transport | None:
        """The open connection, if there is one."""
        with self._lock:
            transport = self._transports[-1] if self._transports else None
        return transport if transport and transport.is_active() else None

    def _connect(self) -> paramiko.Transport:
        self.close()
        transports: list[paramiko.Transport] = []
        try:
            for target in (*self.target.jumps, self.target):
                via = transports[-1] if transports else None
                transports.append(_opened(self.name, target, via))
        except BaseException:
            for transport in reversed(transports):
                transport.close()
            raise
        with self._lock:
            self._transports = transports
        return transports[-1]

    def _late(self, argv: Sequence[str], seconds: float) -> HostFailed:
        return host_failed(
            "SD506", f"`{title_of(argv)}` did not end on `{self.name}` within {seconds:g} s"
        )

    def _lost(self, argv: Sequence[str], why: str) -> HostFailed:
        return host_failed(
            "SD506",
            f"the connection to `{self.name}` was lost during `{title_of(argv)}`",
            notes=(why,) if why else (),
            help_=f"check with `{self.target.ssh_command}` that the host is up, then apply again",
        )


def _opened(name: str, target: Target, via: paramiko.Transport | None) -> paramiko.Transport:
    """As open_transport; a failure also names the words of ssh_config that are not known."""
    try:
        return open_transport(name, target, via)
    except HostFailed as failure:
        if not target.hints.unknown:
            raise
        (problem,) = failure.diagnostics
        notes = (*problem.notes, *target.hints.unknown)
        raise HostFailed([replace(problem, notes=notes)]) from failure


def _exchange(channel: paramiko.Channel, data: Input, intake: Intake, deadline: float) -> Result:
    """Write and read at the same time: both outputs share one window, so an unread one blocks."""
    helpers = [
        threading.Thread(target=_write_all, args=(channel, data), daemon=True),
        threading.Thread(target=_read_errors, args=(channel, intake), daemon=True),
    ]
    for helper in helpers:
        helper.start()
    while chunk := _before(deadline, channel, channel.recv):
        if not intake.take(chunk):
            break
    if intake.is_over or intake.is_ended:
        return Result(status=-1)
    if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
        raise TimeoutError
    for helper in helpers:
        helper.join(timeout=max(0.0, deadline - time.monotonic()))
    status = channel.recv_exit_status()
    stdout, stderr = intake.end()
    return Result(status=status, stdout=stdout, stderr=stderr)


def _before(deadline: float, channel: paramiko.Channel, receive: Callable[[int], bytes]) -> bytes:
    channel.settimeout(max(0.001, deadline - time.monotonic()))
    return receive(CHUNK_BYTES)


def _write_all(channel: paramiko.Channel, data: Input) -> None:
    with contextlib.suppress(OSError, EOFError):  # a command need not read its input
        for chunk in chunks(data):
            channel.sendall(chunk)
        channel.shutdown_write()


def _read_errors(channel: paramiko.Channel, intake: Intake) -> None:
    with contextlib.suppress(OSError, EOFError):  # the reader of stdout reports a lost channel
        while chunk := channel.recv_stderr(CHUNK_BYTES):
            if not intake.take_error(chunk):
                return
