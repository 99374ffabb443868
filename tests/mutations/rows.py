"""The mutations as data: what to change, and the test that must fail when it is changed.

Owns the format of the TOML files beside it. Never changes or runs anything.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
UNIT = "tests/unit/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One guard taken away: `text` of `file` becomes `replacement`, and `test` must fail.

    `suite` is the Debian release of a lab test where it is not the usual one. `quick` ones run in
    every `make test`.
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
        """Whether the test needs no lab."""
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
        """How often the text occurs in the file; a mutation needs exactly one."""
        path = root / self.file
        return path.read_text("utf-8").count(self.text) if path.is_file() else 0

    def make(self, root: Path) -> None:
        """Change the file in a copy of the tree, and let no compiled form of it be used."""
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
