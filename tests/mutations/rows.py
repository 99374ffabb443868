"""The mutations as data: the change, and the test that must fail after it.

This module reads the TOML files of its directory; it runs no tests.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
UNIT = "tests/unit/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """The removal of a guard: replace `text` in `file` by `replacement`; then `test` must fail.

    `suite` is the Debian release of a lab test, if it is not the default. `make test` runs the
    `quick` ones.
    """

    name: str
    file: str
    text: str
    replacement: str
    test: str
    why: str = ""
    suite: str = ""
    quick: bool = False

    @property
    def is_unit(self) -> bool:
        """Whether the test runs without the lab."""
        return self.test.startswith(UNIT)

    @property
    def test_file(self) -> str:
        """The file of the test."""
        return self.test.partition("::")[0]

    @property
    def test_function(self) -> str:
        """The name of the test function, without its parameters."""
        return self.test.partition("::")[2].partition("[")[0]

    def occurrences(self, root: Path = ROOT) -> int:
        """Count the occurrences of the text in the file; a valid mutation has exactly one."""
        path = root / self.file
        return path.read_text("utf-8").count(self.text) if path.is_file() else 0

    def make(self, root: Path) -> None:
        """Change the file in a copy of the tree, and delete its compiled form."""
        path = root / self.file
        path.write_text(path.read_text("utf-8").replace(self.text, self.replacement), "utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()


def load(folder: Path = Path(__file__).parent) -> list[Mutation]:
    """All mutations, by file and in the order of their rows; TypeError for an unknown key."""
    return [
        Mutation(**row)
        for file in sorted(folder.glob("*.toml"))
        for row in tomllib.loads(file.read_text("utf-8"))["mutation"]
    ]
