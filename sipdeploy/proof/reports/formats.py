"""Proofs as text, JSON, JUnit and Prometheus metrics. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

from sipdeploy.diagnostics import count, printable

if TYPE_CHECKING:
    from sipdeploy.proof.outside.step import Proof, StepResult

Format = Literal["text", "json", "junit", "prometheus"]
WIDTH = 24


def as_text(proofs: Sequence[Proof]) -> str:
    """A line for each step, and one for each host."""
    return "\n".join(line for proof in proofs for line in (*_lines(proof), summary(proof)))


def _lines(proof: Proof) -> Iterator[str]:
    for each in proof.results:
        dots = f"{each.name} ".ljust(WIDTH, ".")
        message = printable(each.message)
        yield f"{proof.host}  {dots} {each.status:<7} {each.seconds:5.2f}s  {message}".rstrip()


def summary(proof: Proof) -> str:
    """`sip1  works: 12 steps of level quick, 1.4 s`."""
    tried = sum(each.status != "skipped" for each in proof.results)
    skipped = len(proof.results) - tried
    verdict = "works" if not proof.failed else f"does not work: {_names(proof)}"
    text = f"{proof.host}  {verdict}; {count(tried, 'step')} of level {proof.level}"
    return f"{text}{f', {skipped} skipped' if skipped else ''}, {proof.seconds:.1f} s"


def _names(proof: Proof) -> str:
    return ", ".join(f"{each.name} failed" for each in proof.failed)


def as_json(proofs: Sequence[Proof]) -> str:
    """The proofs as JSON; times are in seconds, `began` is Unix time."""
    hosts = [
        {
            "host": proof.host,
            "level": proof.level,
            "works": not proof.failed,
            "began": round(proof.began, 3),
            "seconds": round(proof.seconds, 3),
            "steps": [_step_data(each) for each in proof.results],
        }
        for proof in proofs
    ]
    return json.dumps({"hosts": hosts}, indent=2)


def _step_data(result: StepResult) -> Mapping[str, object]:
    return {
        "name": result.name,
        "status": result.status,
        "seconds": round(result.seconds, 3),
        "message": result.message,
        "problems": [asdict(problem) for problem in result.diagnostics],
    }


def as_junit(proofs: Sequence[Proof]) -> str:
    """The proofs as JUnit XML: a suite for each host, a case for each step."""
    suites = ET.Element("testsuites", name="sipdeploy verify")
    for proof in proofs:
        suite = ET.SubElement(
            suites,
            "testsuite",
            name=proof.host,
            tests=str(len(proof.results)),
            failures=str(len(proof.failed)),
            errors="0",
            skipped=str(sum(each.status == "skipped" for each in proof.results)),
            time=f"{proof.seconds:.3f}",
        )
        for each in proof.results:
            _case(suite, proof, each)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True)


def _case(suite: ET.Element, proof: Proof, result: StepResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=f"{proof.host}.{proof.level}",
        name=result.name,
        time=f"{result.seconds:.3f}",
    )
    message = printable(result.message)
    if result.status == "failed":
        failure = ET.SubElement(case, "failure", message=message)
        texts = (
            t for p in result.diagnostics for t in (f"{p.code}: {p.message}", *p.notes, p.help)
        )
        failure.text = "\n".join(printable(text) for text in texts if text)
    elif result.status == "skipped":
        ET.SubElement(case, "skipped", message=message)


# Name -> help, value of a proof.
_OF_HOST: Mapping[str, tuple[str, Callable[[Proof], float]]] = {
    "sipdeploy_verify_success": (
        "Whether every step of the last proof succeeded.",
        lambda proof: int(not proof.failed),
    ),
    "sipdeploy_verify_duration_seconds": (
        "Duration of the last proof.",
        lambda proof: round(proof.seconds, 3),
    ),
    "sipdeploy_verify_timestamp_seconds": (
        "Unix time of the last proof.",
        lambda proof: round(proof.began, 3),
    ),
}
_OF_STEP: Mapping[str, tuple[str, Callable[[StepResult], float]]] = {
    "sipdeploy_verify_step_success": (
        "Whether a step of the last proof succeeded; skipped steps are absent.",
        lambda result: int(result.status == "ok"),
    ),
    "sipdeploy_verify_step_duration_seconds": (
        "Duration of a step of the last proof.",
        lambda result: round(result.seconds, 3),
    ),
}


def as_prometheus(proofs: Sequence[Proof]) -> str:
    """The proofs in the text format of Prometheus, for the textfile collector of node_exporter."""
    lines: list[str] = []
    for name, (text, value) in _OF_HOST.items():
        lines += (f"# HELP {name} {text}", f"# TYPE {name} gauge")
        lines += (f"{name}{_labels(proof)} {value(proof)}" for proof in proofs)
    for name, (text, of_step) in _OF_STEP.items():
        lines += (f"# HELP {name} {text}", f"# TYPE {name} gauge")
        lines += (
            f"{name}{_labels(proof, result.name)} {of_step(result)}"
            for proof in proofs
            for result in proof.results
            if result.status != "skipped"
        )
    return "\n".join(lines)


def _labels(proof: Proof, step: str = "") -> str:
    pairs = {"host": proof.host, "level": proof.level, **({"step": step} if step else {})}
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in pairs.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


FORMATS: Mapping[Format, Callable[[Sequence[Proof]], str]] = {
    "text": as_text,
    "json": as_json,
    "junit": as_junit,
    "prometheus": as_prometheus,
}
