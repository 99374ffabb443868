"""Becomes root with sudo, with or without a password.

The password goes to sudo on standard input, and everything else around sudo: it never gets a
second line that it could take for another try, and it logs no input of a command.
"""

import secrets
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import NO_SUCH_PROGRAM, Input, Result, chunks, host_failed
from sipdeploy.host.incoming import OnError
from sipdeploy.host.sudo.password import SudoPassword

# The first line of the input is the password. sudo gets it alone, and root's shell opens the rest
# by its path, which only a pipe has: hence the `cat`. Nothing here is in the argv or environment
# of a process but the names of files. A shell without a `printf` of its own would start a program,
# whose argv everybody sees, and a here-document is a file on the disk in some: so that is refused.
_PIPE = 'cat | exec sh -c "$0" "$@"'
_NO_PRINTF = "sh on this host has no printf of its own, and would show the password to all users"
_CHECK = f"case $(command -v printf) in printf) ;; *) echo '{_NO_PRINTF}' >&2; exit 1 ;; esac; "
_FEED = _CHECK + "unset p; IFS= read -r p; exec 3<&0 </dev/null; printf '%s\\n' \"$p\" | "
_REST = "/proc/$$/fd/3"
# `script` gives sudo a terminal, which `Defaults requiretty` wants; the streams stay pipes.
_SCRIPT = 'SHELL=/bin/sh exec script -qec "$line" /dev/null >/dev/null 2>&1'


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One command: its words, its input, and who listens to its standard error.

    With sudo, the login shell prints `mark` on standard output before it starts sudo, and root's
    shell prints it on standard error before it starts the command. The mark that is missing tells
    who refused, in any language. The prompt of sudo tells that it asked for the password.
    """

    argv: Sequence[str]
    input: Input
    mark: str = ""
    on_error: OnError | None = None

    @property
    def line(self) -> str:
        """The command line for a login shell, whichever it is."""
        words = shlex.join(self.argv)
        return f"echo {self.mark}; {words}" if self.mark else words


Exchange = Callable[[Call], tuple[Result, bool]]  # the bool: the reader ended the command


class Sudo:
    """How a login of one host becomes root. Remembers whether sudo wants a terminal."""

    def __init__(self, host_name: str, login: str, password: SudoPassword | None = None) -> None:
        self._host_name = host_name
        self._login = login
        self._password = password
        self._needs_terminal = False

    def run(
        self,
        argv: Sequence[str],
        data: Input,
        exchange: Exchange,
        *,
        has_shell: bool,
    ) -> Result:
        """The result of a command; HostFailed (SD505, SD550) if sudo refuses.

        Sudo that refuses without asking for a password may want a terminal: then the command gets
        one, at the price of one more exchange for each connection.
        """
        try:
            return self._try(argv, data, exchange, has_shell=has_shell)
        except _UnaskedError as refused:
            is_again = isinstance(data, bytes) and not self._needs_terminal
            if refused.status == NO_SUCH_PROGRAM or not is_again:
                raise refused.failure from None
            self._needs_terminal = True
            try:
                return self._try(argv, data, exchange, has_shell=has_shell)
            except _UnaskedError as again:  # without output, the host has no `script`
                self._needs_terminal = False
                raise (again if again.has_output else refused).failure from None

    def _try(
        self, argv: Sequence[str], data: Input, exchange: Exchange, *, has_shell: bool
    ) -> Result:
        if self._password is None:
            call = self.call(argv, data)
            result, is_ended = exchange(call)
            return result if is_ended else self._checked(call, result, has_shell=has_shell)
        with self._password.tried(self._host_name) as attempt:
            call = self.call(argv, data, attempt.secret.reveal())
            attempt.listen(call.mark)
            result, is_ended = exchange(replace(call, on_error=attempt.heard))
            return result if is_ended else self._checked(call, result, has_shell=has_shell)

    def call(self, argv: Sequence[str], data: Input, password: str | None = None) -> Call:
        """A command as root, with a mark of its own."""
        mark = secrets.token_hex(8)
        words = self._words(argv, mark, has_password=password is not None)
        if password is not None:
            first = f"{password}\n".encode()
            data = first + data if isinstance(data, bytes) else chain((first,), chunks(data))
        return Call(argv=words, input=data, mark=mark)

    def quiet_call(self, argv: Sequence[str]) -> Call:
        """A command without input, beside another one that sudo has let through."""
        secret = self._password.known if self._password else None
        return self.call(argv, b"", secret.reveal() if secret else None)

    def _words(self, argv: Sequence[str], mark: str, *, has_password: bool) -> list[str]:
        begin = f'echo {mark} >&2; exec "$@"'
        if not has_password:
            words = ["sudo", "-n", "--", "sh", "-c", begin, "sipdeploy-sudo", *argv]
            if not self._needs_terminal:
                return words
            line = f"exec {shlex.join(words)} <&3 >&4 2>&5"
            feed = f"exec 3<&0 4>&1 5>&2 </dev/null; line=$1; {_SCRIPT}"
            return ["sh", "-c", feed, "sipdeploy-sudo", line]
        begin = f'echo {mark} >&2; exec <"$1"; shift; exec "$@"'
        sudo = ["sudo", "-S", "-p", f"{mark}?", "--", "sh", "-c", begin, "sipdeploy-sudo"]
        if not self._needs_terminal:
            feed = f'{_FEED}{shlex.join(sudo)} "{_REST}" "$@"'
            return ["sh", "-c", _PIPE, feed, "sipdeploy-sudo", *argv]
        line = f'exec {shlex.join(sudo)} "$rest" {shlex.join(argv)} <&6 >&4 2>&5'
        feed = (
            f"exec 4>&1 5>&2; {_FEED}"
            f'{{ exec 6<&0 </dev/null; export rest="{_REST}"; line=$1; {_SCRIPT}; }}'
        )
        return ["sh", "-c", _PIPE, feed, "sipdeploy-sudo", line]

    def _checked(self, call: Call, result: Result, *, has_shell: bool) -> Result:
        """The result of the command itself.

        Without the mark of the login shell (`has_shell`), the result stays as it is: neither sudo
        nor the command ran.
        """
        mark = f"{call.mark}\n".encode()
        if has_shell:
            _, began, stdout = result.stdout.partition(mark)
            if not began:
                return result
            result = replace(result, stdout=stdout)
        warnings, has_root, errors = result.stderr.partition(mark)
        asked = warnings.count(prompt := f"{call.mark}?".encode())
        warnings = warnings.replace(prompt, b"")
        if has_root:
            return replace(result, stderr=warnings + errors)
        result = replace(result, stderr=warnings)
        if not asked:
            raise _UnaskedError(result, self._refused(result))
        if self._password:
            self._password.refuse(self._host_name)
        raise self._wrong(result) if asked > 1 else self._refused(result)

    def _wrong(self, result: Result) -> HostFailed:
        name, login = self._host_name, self._login
        return host_failed(
            "SD550",
            f"sudo on `{name}` does not accept this password of `{login}`",
            notes=(*_last_lines(result), "sipdeploy does not try it again, nor elsewhere"),
            help_=f"`ssh -t {login}@{name} sudo -k true` shows whether it is right, and "
            "`sipdeploy --ask-sudo-password ...` asks for another one",
        )

    def _refused(self, result: Result) -> HostFailed:
        name, login = self._host_name, self._login
        notes = _last_lines(result)
        if result.status == NO_SUCH_PROGRAM:
            return host_failed(
                "SD505",
                f"`{name}` has no sudo, and the login `{login}` is not root",
                notes=notes,
                help_=f"install sudo on `{name}`, or set `user: root` for this host",
            )
        rule = f"echo '{login} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/sipdeploy"
        notes = notes or (f"sudo ended with status {result.status}",)
        if self._password is None:
            return host_failed(
                "SD505",
                f"sudo on `{name}` does not let `{login}` run commands without a password",
                notes=notes,
                help_=f"on `{name}` as root: `{rule}`; `sudo -n true` must succeed as `{login}`. "
                "With a password: `--ask-sudo-password`, or "
                f"`hosts.{name}.sudo_password: {{command: ...}}`",
            )
        return host_failed(
            "SD505",
            f"sudo on `{name}` does not let `{login}` run commands as root",
            notes=notes,
            help_=f"on `{name}` as root: `sudo -l -U {login}` must list `(ALL) ALL`",
        )


class _UnaskedError(Exception):
    """Sudo refused without asking for a password."""

    def __init__(self, result: Result, failure: HostFailed) -> None:
        super().__init__()
        self.status = result.status
        self.has_output = bool(result.output)
        self.failure = failure


def _last_lines(result: Result) -> tuple[str, ...]:
    return tuple(line for line in result.output.splitlines() if line.strip())[-3:]
