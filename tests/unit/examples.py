"""How many examples Hypothesis tries: a tenth while somebody waits for `make check`."""

import os


def examples(number: int) -> int:
    """The number itself, or a tenth of it with SIPDEPLOY_TESTS=quick."""
    return number // 10 if "quick" in os.environ.get("SIPDEPLOY_TESTS", "") else number
