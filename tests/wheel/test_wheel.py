"""The installed wheel works outside the checkout, with its templates."""

import os
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


def test_a_wheel_renders_outside_of_the_checkout(tmp_path):
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "wheels")
    run(*pip, str(ROOT), cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    sipdeploy = (sys.executable, "-m", "sipdeploy")
    where = {"PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    place = "import sipdeploy; print(sipdeploy.__file__)"
    assert str(tmp_path) in run(sys.executable, "-c", place, cwd=tmp_path, **where)
    run(*sipdeploy, "init", "pbx", cwd=tmp_path, **where)
    run(*sipdeploy, "lint", cwd=tmp_path / "pbx", **where)
    listing = run(*sipdeploy, "render", cwd=tmp_path / "pbx", **where)
    assert "etc/kamailio/kamailio.cfg" in listing
    package = tmp_path / "site" / "sipdeploy"
    assert (package / "lint" / "stack" / "kamailio" / "catalogue.json").exists()
    assert (tmp_path / "site/sipdeploy/lint/stack/asterisk/catalogue.json").exists()
    scripts = (tmp_path / "site" / "sipdeploy" / "host" / "scripts").glob("*.sh")
    assert {path.name for path in scripts} == {
        path.name for path in (ROOT / "sipdeploy" / "host" / "scripts").glob("*.sh")
    }
