"""The dashboard and the alert rules use metrics that exist; promtool checks them where it is."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from status_states import status_of

from sipdeploy.operation.status import metrics
from sipdeploy.proof.outside.step import Proof, StepResult
from sipdeploy.proof.reports.formats import as_prometheus

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs/dashboards"
BOARD = json.loads((FOLDER / "sipdeploy.json").read_text("utf-8"))
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
TARGETS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
PROOF = Proof(host="sip1", level="quick", results=(StepResult(name="TLS", status="ok"),))
PRINTED = {
    line.split()[2]
    for text in (metrics.as_prometheus([status_of("fine")], 1.0), as_prometheus([PROOF]))
    for line in text.splitlines()
    if line.startswith("# TYPE")
}
promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool")


def run(*words, text=""):
    return subprocess.run(words, input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("query", [*TARGETS, *(rule["expr"] for rule in RULES)])
def test_a_query_uses_metrics_that_are_printed(query):
    names = set(re.findall(r"\bsipdeploy_\w+", query))
    assert names
    assert names <= PRINTED


def test_the_dashboard_shows_what_matters():
    shown = " ".join(TARGETS)
    for name in ("phones", "connections", "calls", "last_hour_calls", "shared_memory_used_bytes"):
        assert f"sipdeploy_{name}" in shown
    for name in ("certificate_expiry_timestamp_seconds", "verify_success", "value_verdict"):
        assert f"sipdeploy_{name}" in shown
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_the_page_has_every_alert():
    text = (ROOT / "docs/status.md").read_text("utf-8")
    rows = re.findall(r"^\| `(Sipdeploy\w+)` \| (\w+) \|", text, re.MULTILINE)
    assert rows == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]


@promtool
def test_promtool_accepts_the_rules():
    done = run("promtool", "check", "rules", str(FOLDER / "alerts.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_each_alert_is_raised_and_a_fine_host_raises_none():
    done = run("promtool", "test", "rules", str(ROOT / "tests/status/alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_promtool_has_no_complaint_about_the_metrics():
    text = metrics.as_prometheus([status_of("fine"), status_of("gone")], 1.0)
    done = run("promtool", "check", "metrics", text=f"{text}\n")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
