"""Links between the pages: relative links lead to files, anchors to headings."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LINK = re.compile(r"\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
ADDITION = re.compile(r"`\[\w+\]\(\+\)`")  # a section of Asterisk, in code


def prose(page):
    return FENCE.sub("", page.read_text("utf-8"))


def anchors(page):
    """Return the anchors of the headings of a page, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        base = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        name, count = base, 0
        while name in found:
            count += 1
            name = f"{base}-{count}"
        found.add(name)
    return found


def broken(page):
    for link in LINK.findall(ADDITION.sub("", prose(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{link}: no such file"
        elif anchor and anchor not in anchors(target):
            yield f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert not list(broken(page))


def test_the_readme_links_every_page():
    linked = set(LINK.findall((ROOT / "README.md").read_text("utf-8")))
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= linked


def test_pages_that_the_code_names_exist():
    for folder in ("sipdeploy", "templates"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                for name in re.findall(r"\bdocs/[a-z-]+\.md\b", path.read_text("utf-8")):
                    assert (ROOT / name).exists(), f"{path}: {name}"


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One, two\n[a](#one-two) [b](#three) [c](none.md) [d](https://example.com)\n"
    )
    assert list(broken(page)) == ["#three: no such heading", "none.md: no such file"]


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_contributing_has_every_package():
    packages = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "sipdeploy").iterdir()
        if path.name != "__pycache__" and (path.is_file() or list(path.glob("*.py")))
    }
    table = CONTRIBUTING.split("| package |")[1].split("\n\n")[0]
    written = re.findall(r"`([^`]+)`", "".join(row.split(" | ")[0] for row in table.splitlines()))
    assert sorted(written) == sorted(packages)


@pytest.mark.parametrize("command", re.findall(r"^\$ (grep .*)$", CONTRIBUTING, re.MULTILINE))
def test_a_grep_of_contributing_finds_something(command):
    found = subprocess.run(
        [*shlex.split(command), "--include=*.*", "--exclude=*.pyc"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.strip(), found.stderr
