"""Real hosts for the tests; they are skipped, and say so, where no lab can run."""

import pytest

from lab import Lab, why_not


@pytest.fixture(scope="session")
def lab():
    if reason := why_not():
        pytest.skip(reason)
    with Lab() as running:
        yield running
