"""The installed wheel works outside the checkout, with its templates."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def run(*argv: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, checkout: Path = ROOT, **environment: str) -> Path:
    """Build a wheel in `folder`, and unpack it there."""
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "wheels")
    run(*pip, str(checkout), cwd=folder, **environment)
    (wheel,) = (folder / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site" / "sipdeploy"


def test_without_node_a_wheel_has_no_page(tmp_path):
    """`git archive`, because this checkout may have a page already."""
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    checkout.mkdir()
    tools.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", checkout], input=archive.stdout, check=True)
    package = build(tmp_path, checkout, PATH=str(tools))
    assert (package / "templates").is_dir()
    assert not (package / "page").exists()


def test_a_wheel_renders_outside_of_the_checkout(tmp_path):
    package = build(tmp_path)
    page = {path.name for path in (package / "page").glob("*")}
    assert page >= {"index.html", "phone.js", "worker.js"} or shutil.which("npm") is None
    sipdeploy = (sys.executable, "-m", "sipdeploy")
    where = {"PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    place = "import sipdeploy; print(sipdeploy.__file__)"
    assert str(tmp_path) in run(sys.executable, "-c", place, cwd=tmp_path, **where)
    run(*sipdeploy, "init", "pbx", cwd=tmp_path, **where)
    run(*sipdeploy, "lint", cwd=tmp_path / "pbx", **where)
    listing = run(*sipdeploy, "render", cwd=tmp_path / "pbx", **where)
    assert "etc/kamailio/kamailio.cfg" in listing
    assert (package / "lint" / "stack" / "kamailio" / "catalogue.json").exists()
    assert (package / "lint" / "stack" / "asterisk" / "catalogue.json").exists()
    scripts = (package / "host" / "scripts").glob("*.sh")
    assert {path.name for path in scripts} == {
        path.name for path in (ROOT / "sipdeploy" / "host" / "scripts").glob("*.sh")
    }
