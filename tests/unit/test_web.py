"""The web phone: its types, its own tests, and its build."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest

from lab.phones.build import WEB
from sipdeploy.services.phone import page

INVENTORY = """\
domain: sip.example.com
email: ops@example.com
hosts: {sip1: {address: 203.0.113.10}}
users: {1001: {name: Alice}}
"""

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


def test_the_command_serves_the_page_until_ctrl_c(built, tmp_path):
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    secrets = tmp_path / "secrets.yaml"
    secrets.touch(mode=0o600)
    secrets.write_text("users: {1001: first-Secret-8293}\n")
    argv = [sys.executable, "-m", "sipdeploy", "phone", "--open", "1001"]
    kept = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    with subprocess.Popen(
        argv, cwd=tmp_path, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        address = running.stdout.readline().strip()
        with urllib.request.urlopen(f"{address}phone.js", timeout=10) as answer:
            assert answer.read() == (built / "phone.js").read_bytes()
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=10) == 0
        told = running.stderr.read()
    assert "Traceback" not in told
    assert "phone.js" not in told  # no log of requests, which have the random path


def test_the_licences_of_the_libraries_are_in_the_page(built):
    text = (built / "licenses.txt").read_text()
    assert "jssip: MIT" in text
    assert "Permission is hereby granted" in text
