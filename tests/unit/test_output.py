import io

import pytest

from sipdeploy.cli.output import Output, has_colour
from sipdeploy.diagnostics import Diagnostic

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
