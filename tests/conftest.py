"""Options and settings of all tests."""

import os
import signal

import pytest
from hypothesis import settings

# Machines are slow at times: a deadline would test them. CI meets the same examples each time.
settings.register_profile("sipdeploy", deadline=None, derandomize=bool(os.environ.get("CI")))
# `make check`: few examples, and no test that takes seconds; `make test` runs all of them.
settings.register_profile("quick", deadline=None, max_examples=20)
QUICK = "quick" in os.environ.get("SIPDEPLOY_TESTS", "")
settings.load_profile("quick" if QUICK else "sipdeploy")

# A shell without job control starts `pytest &` with SIGINT ignored, and children inherit that. The
# tests of Ctrl-C need the default action.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what is rendered now to tests/golden; look at the difference, then keep it",
    )
    parser.addoption(
        "--source", action="store_true", help="build Asterisk too, for a quarter of an hour"
    )


def pytest_collection_modifyitems(config, items):
    """Tests that take too long for every run are marked; pytest counts the skipped ones."""
    if QUICK:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes seconds: `make test` runs it"))
    if not config.getoption("source"):
        for item in items:
            if item.get_closest_marker("source"):
                item.add_marker(pytest.mark.skip(reason="`make test-source` runs it"))


def pytest_terminal_summary(terminalreporter):
    """Show the figures that tests measured (`record_property("figure", ...)`)."""
    reports = terminalreporter.stats.get("passed", [])
    figures = [
        text for report in reports for name, text in report.user_properties if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(figures))
