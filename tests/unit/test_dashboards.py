"""The dashboard and the alert rules use metrics that exist; test_status asks a real promtool."""

import json
import re
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
