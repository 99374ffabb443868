"""A fake host, and a host that loses its connection at a given call."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from sipdeploy.host import Host, Input, Result, chunks, host_failed
from sipdeploy.host.incoming import MOST_BYTES, OnLine, Sink, decoded


class FakeHost:
    """Answers scripts by name from a table, others with success, and records all calls."""

    def __init__(self, name: str = "sip1", answers: dict[str, Result] | None = None) -> None:
        self.name = name
        self.login = "root"
        self.answers = answers or {}
        self.asked: list[tuple[str, ...]] = []
        self.inputs: list[bytes] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        input: Input = b"",  # noqa: A002 - as in Host
        on_line: OnLine | None = None,
        sink: Sink | None = None,
        timeout_seconds: float = 60,
        most_bytes: int = MOST_BYTES,
    ) -> Result:
        del timeout_seconds, most_bytes
        input = b"".join(chunks(input))  # noqa: A001 - as in Host
        is_script = argv[:2] == ["sh", "-c"] and len(argv) > 4
        words = (argv[3].removeprefix("sipdeploy-"), *argv[5:]) if is_script else tuple(argv)
        self.asked.append(words)
        self.inputs.append(input[int(argv[4]) :] if is_script else input)
        result = self.answers.get(words[0], Result(status=0, stdout=b"\x1edone\n"))
        token = re.match(rb"unset token; token=(\w+)\n", input)
        if token:  # mark the output as the script would
            mark = b"\x1e" + token[1] + b" "
            marked = result.stdout if sink else result.stdout.replace(b"\x1e", mark)
            result = replace(result, stdout=mark + b"begin\n" + marked)
        if sink and not sink(result.stdout):
            return Result(status=-1)
        if on_line:
            for line in decoded(result.stdout).splitlines():
                on_line(line)
        return result

    def close(self) -> None:
        self.asked.append(("close",))


class BreakingHost:
    """Wraps a host, and loses the connection at the n-th call: before it, or after its work."""

    def __init__(self, host: Host, *, at: int, is_done: bool, stays_away: bool = False) -> None:
        self.name = host.name
        self.login = host.login
        self.calls = 0
        self._host = host
        self._at = at
        self._is_done = is_done
        self._stays_away = stays_away

    def run(
        self,
        argv: Sequence[str],
        *,
        input: Input = b"",  # noqa: A002 - as in Host
        on_line: OnLine | None = None,
        sink: Sink | None = None,
        timeout_seconds: float = 60,
        most_bytes: int = MOST_BYTES,
    ) -> Result:
        self.calls += 1
        is_lost = self.calls == self._at or (self._stays_away and self.calls > self._at)
        if is_lost and not (self._is_done and self.calls == self._at):
            raise host_failed("SD506", "lost")
        result = self._host.run(
            argv,
            input=input,
            on_line=on_line,
            sink=sink,
            timeout_seconds=timeout_seconds,
            most_bytes=most_bytes,
        )
        if is_lost:
            raise host_failed("SD506", "lost")
        return result

    def close(self) -> None:
        self._host.close()


Make = Callable[[], Host]
