"""The result of a proof stays on the host, and never spoils the proof."""

import json

from fakes import FakeHost

from sipdeploy.host import Result
from sipdeploy.host.local import LocalHost
from sipdeploy.proof import record
from sipdeploy.proof.outside.step import Proof, StepResult

PROOF = Proof(
    host="sip1",
    level="quick",
    results=(
        StepResult(name="TLS", status="ok"),
        StepResult(name="call", status="failed"),
        StepResult(name="hang up", status="skipped"),
    ),
    began=1795694000.25,
)


def test_a_proof_is_kept_for_root_alone(tmp_path):
    record.keep(LocalHost("here"), PROOF, str(tmp_path))
    assert json.loads((tmp_path / "proof").read_text()) == {
        "began": 1795694000.25,
        "level": "quick",
        "steps": 2,
        "failed": ["call"],
    }
    assert [path.name for path in tmp_path.iterdir()] == ["proof"]
    assert (tmp_path / "proof").stat().st_mode & 0o777 == 0o600


def test_a_host_without_a_release_keeps_no_proof(tmp_path):
    record.keep(LocalHost("here"), PROOF, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_proof_that_cannot_be_kept_is_still_one():
    host = FakeHost(answers={"proof": Result(status=1, stderr=b"No space left")})
    record.keep(host, PROOF)
    assert [asked[0] for asked in host.asked] == ["proof"]
    assert json.loads(host.inputs[0])["failed"] == ["call"]
