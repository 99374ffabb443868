"""Options, markers and figures of all tests."""

import os
import signal

import pytest
from hypothesis import settings

from sipdeploy.__main__ import main

# No deadline, because machines are slow at times. In CI the examples are the same each time.
settings.register_profile("sipdeploy", deadline=None, derandomize=bool(os.environ.get("CI")))
# `make check` runs few examples and no slow tests; `make test` runs all.
settings.register_profile("quick", deadline=None, max_examples=20)
QUICK = "quick" in os.environ.get("SIPDEPLOY_TESTS", "")
settings.load_profile("quick" if QUICK else "sipdeploy")

# A shell without job control starts `pytest &` with SIGINT ignored, and children inherit that. The
# tests of Ctrl-C need the default action.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A hook of git, and `git rebase --exec`, set GIT_DIR and others: `git` in a test would use that
# repository.
for name in [name for name in os.environ if name.startswith("GIT_")]:
    del os.environ[name]


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the rendered files to tests/golden; review the difference",
    )
    parser.addoption(
        "--source", action="store_true", help="also run the tests that build Asterisk"
    )


# Files that take minutes, from five on
LONGEST = {
    "test_transaction",
    "test_calls",
    "test_apply_errors",
    "test_certificates_ways",
    "test_size",
    "test_doctor",
}


def pytest_collection_modifyitems(config, items):
    """Skip the marked tests that take too long for this run; pytest counts them.

    The longest files come first: a worker that began one last would work on alone.
    """
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    if QUICK:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes seconds: `make test` runs it"))
    if not config.getoption("source"):
        for item in items:
            if item.get_closest_marker("source"):
                item.add_marker(pytest.mark.skip(reason="`make test-source` runs it"))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in an empty directory; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "SIPDEPLOY_INVENTORY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def start(*words):
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return start


def pytest_terminal_summary(terminalreporter):
    """Print the measurements of the tests (`record_property("figure", ...)`)."""
    reports = terminalreporter.stats.get("passed", [])
    figures = [
        text for report in reports for name, text in report.user_properties if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(figures))
