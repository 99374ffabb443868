"""What every test may be told."""


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what is rendered now to tests/golden; look at the difference, then keep it",
    )


def pytest_terminal_summary(terminalreporter):
    """Show the figures that tests measured (`record_property("figure", ...)`)."""
    reports = terminalreporter.stats.get("passed", [])
    figures = [
        text for report in reports for name, text in report.user_properties if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(figures))
