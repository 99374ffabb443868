"""The number of examples of Hypothesis: a tenth of it in `make check`."""

import os


def examples(number: int) -> int:
    """Return the number, or a tenth of it with SIPDEPLOY_TESTS=quick."""
    return number // 10 if "quick" in os.environ.get("SIPDEPLOY_TESTS", "") else number
