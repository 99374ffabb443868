import errno
import io
import os
import sys
import time

import pytest

from sipdeploy.cli.output import Output, Progress, escape_unprintable, has_colour
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.transaction.runner import Event

FOUND = [Diagnostic("SD305", "m", severity="note")]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_results_and_the_rest_go_apart(capsys):
    output = Output(verbose=True)
    output.result("result")
    output.result("")
    output.progress("progress")
    output.detail("detail")
    output.problems(FOUND)
    output.problems([])
    out, err = capsys.readouterr()
    assert out == "result\n"
    assert err == "progress\ndetail\nnote[SD305]: m\n\n1 note\n"


def test_quiet_and_not_verbose(capsys):
    output = Output(quiet=True)
    output.progress("progress")
    output.detail("detail")
    output.problems(FOUND)
    assert capsys.readouterr().err == "note[SD305]: m\n\n1 note\n"


@pytest.mark.parametrize(
    ("form", "actions", "start"),
    [
        (None, "", "note[SD305]: m"),
        (None, "true", "::notice "),
        ("concise", "true", "note[SD305] m"),
        ("json", "", "["),
        ("sarif", "", "{"),
    ],
)
def test_the_format_that_fits(capsys, monkeypatch, form, actions, start):
    monkeypatch.setenv("GITHUB_ACTIONS", actions)
    Output().findings(FOUND, {}, form)
    assert capsys.readouterr().out.startswith(start)


@pytest.mark.parametrize(
    ("stream", "variables", "colour"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (Terminal(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colour(monkeypatch, stream, variables, colour):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert has_colour(stream) is colour


class Broken(io.TextIOWrapper):
    """A stream whose reader is gone, or whose disk is full."""

    def __init__(self, number):
        super().__init__(io.BytesIO(), "utf-8")
        self.number = number

    def write(self, text):
        del text
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_a_broken_stderr_ends_no_work(monkeypatch, number):
    monkeypatch.setattr(sys, "stderr", Broken(number))
    output = Output(verbose=True)
    output.progress("progress")
    output.detail("detail")
    output.problems(FOUND)
    with output.steps() as say:
        say(Event(host="sip1", title="t", state="ok"))


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_ends_no_work(monkeypatch, name):
    monkeypatch.setattr(sys, name, None)  # as Python does for `2>&-`
    output = Output()
    output.result("result")
    output.progress("progress")
    output.problems(FOUND)
    with output.steps() as say:
        say(Event(host="sip1", title="t", state="ok"))


def test_a_result_that_is_lost_is_a_failure_unless_nobody_wants_it(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    Output().result("result")
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    with pytest.raises(InvalidFiles, match="no space left on device"):
        Output().result("result")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_what_an_encoding_lacks_is_escaped(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    escape_unprintable()
    Output().result("\u0141\udcff")
    assert stream.buffer.getvalue()


def test_a_long_step_without_a_terminal_says_what_it_waits_for(monkeypatch):
    monkeypatch.setattr("sipdeploy.cli.output.TICK_SECONDS", 0.01)
    monkeypatch.setattr("sipdeploy.cli.output.SILENT_SECONDS", 0.1)
    stream = io.StringIO()
    with Progress(stream, is_live=False) as say:
        say(Event(host="sip1", title="connect", state="start"))
        say(Event(host="sip1", title="connect", state="line", text="waiting for 10.0.0.1"))
        time.sleep(0.3)
        say(Event(host="sip1", title="connect", state="failed", seconds=0.8))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("sip1  connect ...")
    assert lines[0].endswith(" 0s  waiting for 10.0.0.1")
    assert "failed" in lines[-1]
    assert len(lines) < 6, "each further line takes four times as long"


def test_a_command_says_what_it_waits_for(monkeypatch, capsys):
    monkeypatch.setattr("sipdeploy.cli.output.SILENT_SECONDS", 0.05)
    with Output().waiting("sip1 (10.0.0.1)"):
        time.sleep(0.3)
    with Output().waiting("sip2 (10.0.0.2)"):
        pass
    time.sleep(0.1)
    assert capsys.readouterr().err == "waiting for sip1 (10.0.0.1)\n"
