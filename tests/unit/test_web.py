"""The web phone: its types, its own tests, and its build."""

import shutil

import pytest

from lab.phones.build import WEB
from sipdeploy.services.phone import page

pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js and npm"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def built():
    return WEB.build().parent


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("script", ["check", "test"])
def test_the_sources_pass(script):
    """TypeScript reads the types in the comments; the tests of the pure modules run in Node.js."""
    WEB.npm("run", "--silent", script)


def test_the_page_is_found_and_has_a_type_for_each_file(built):
    assert page.folder() == built
    names = {each.name for each in built.iterdir()}
    assert {
        "index.html",
        "two.html",
        "phone.js",
        "worker.js",
        "style.css",
        "licenses.txt",
    } <= names
    assert all(each.suffix in page.TYPES for each in built.iterdir())


def test_the_licences_of_the_libraries_are_in_the_page(built):
    text = (built / "licenses.txt").read_text()
    assert "jssip: MIT" in text
    assert "Permission is hereby granted" in text
