"""Runs tests in temporary copies of the tree, so that the checkout never changes.

This module removes the copies and ends their pytest processes, however the run ends.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.mutations.rows import ROOT, Mutation

# Not copied; links let the tests find the tools in the checkout.
LEFT_OUT = (".git", ".*_cache", ".hypothesis", ".bench-venv", "*.egg-info", "build", "dist")
LINKED = (".venv", "lab/phones/node_modules")
# An interrupted test gets this time to shut down the hosts of the lab.
GRACE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PytestResult:
    """The result of a pytest run: the number of passed tests, and the failed ones."""

    passed: int = 0
    failed: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()  # outside the body of a test, or no result in time
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of a mutation: `noticed`, `survived` or `broken`, with the reason."""

    mutation: Mutation
    word: str
    reason: str = ""
    seconds: float = 0.0


@contextlib.contextmanager
def copy_of(root: Path = ROOT) -> Iterator[Path]:
    """Make a copy of the tree that exists until the end of the `with` block."""
    with tempfile.TemporaryDirectory(prefix="sipdeploy-mutation-") as folder:
        copy = Path(folder) / "tree"
        linked = [Path(name).name for name in LINKED]
        ignored = shutil.ignore_patterns(*LEFT_OUT, *linked)
        shutil.copytree(root, copy, symlinks=True, ignore=ignored)
        for name in LINKED:
            if (root / name).exists():
                (copy / name).symlink_to(root / name)
        yield copy


def run_tests(
    copy: Path, tests: Iterable[str], *, suite: str = "", seconds: float
) -> PytestResult:
    """Run tests by their node IDs in a copy of the tree, so that they import its package."""
    report = copy.parent / "report.xml"
    report.unlink(missing_ok=True)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", f"--rootdir={copy}"]
    argv = [sys.executable, "-m", "pytest", *options, f"--junit-xml={report}", *tests]
    began = time.monotonic()
    printed, ended = _run(argv, copy, environment(copy, suite), seconds)
    took = time.monotonic() - began
    if not ended:
        return PytestResult(errors=(f"no answer in {seconds:.0f} s",), seconds=took)
    if not report.is_file():
        return PytestResult(errors=(printed.strip()[-500:],), seconds=took)
    return _read(report, took)


def environment(copy: Path, suite: str) -> dict[str, str]:
    """Return the environment, in which Python finds the modules of the copy first."""
    own = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return own | ({"LAB_SUITE": suite} if suite else {})


def _run(
    argv: list[str], folder: Path, environment: dict[str, str], seconds: float
) -> tuple[str, bool]:
    """Run a process; return its output, and whether it ended in time. SIGINT before SIGKILL."""
    with subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # receive Ctrl-C here, and forward it once
    ) as process:
        try:
            return process.communicate(timeout=seconds)[0], True
        except subprocess.TimeoutExpired:
            return "", False
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(report: Path, seconds: float) -> PytestResult:
    passed, failed, errors = 0, [], []
    for case in ET.parse(report).iter("testcase"):
        name = case.get("name", "")
        if (error := case.find("error")) is not None:
            errors.append(f"{name}: {_last_line(error.text or '')}")
        elif case.find("failure") is not None:
            failed.append(name)
        elif case.find("skipped") is None:
            passed += 1
    return PytestResult(passed=passed, failed=tuple(failed), errors=tuple(errors), seconds=seconds)


def _last_line(traceback: str) -> str:
    """Return the line of the exception, which pytest marks with E, or else the last line."""
    lines = traceback.strip().splitlines() or [""]
    marked = [line for line in lines if line.startswith("E ")] or lines
    return marked[-1].removeprefix("E ").strip()[:200]


def unfit(mutations: Iterable[Mutation], seconds: float) -> dict[tuple[str, str], str]:
    """Return the reasons, by (test, suite), of tests that do not pass on the unchanged tree.

    The tests of one file run together, because the tests of the lab share a host.
    """
    files: dict[tuple[str, str], set[str]] = {}
    for one in mutations:
        files.setdefault((one.test_file, one.suite), set()).add(one.test)
    found = {}
    for (_, suite), tests in files.items():
        with copy_of() as copy:
            whole = run_tests(copy, sorted(tests), suite=suite, seconds=seconds)
            if whole.passed and not whole.failed + whole.errors and len(tests) == 1:
                continue
            for test in sorted(tests):
                if reason := _unfit(copy, test, suite, whole, seconds):
                    found[test, suite] = reason
    return found


def _unfit(copy: Path, test: str, suite: str, whole: PytestResult, seconds: float) -> str:
    """Judge a test by the run of its file, or by a separate run if that is not conclusive."""
    bare = test.partition("::")[2]
    function = bare.partition("[")[0]
    bad = [one for one in (*whole.failed, *whole.errors) if one.startswith(function)]
    if whole.passed and not bad:
        return ""
    alone = run_tests(copy, [test], suite=suite, seconds=seconds)
    if alone.errors or alone.failed:
        return f"fails unchanged: {', '.join((*alone.failed, *alone.errors))}"
    return "" if alone.passed else "does not run here (skipped)"


def judge(mutation: Mutation, seconds: float) -> Verdict:
    """Make the mutation in a copy, and run its test there."""
    if (count := mutation.occurrences()) != 1:
        reason = f"the text occurs {count} times in {mutation.file}"
        return Verdict(mutation=mutation, word="broken", reason=reason)
    with copy_of() as copy:
        mutation.make(copy)
        done = run_tests(copy, [mutation.test], suite=mutation.suite, seconds=seconds)
    if done.failed:
        word, reason = "noticed", ""
    elif done.errors:
        word, reason = "broken", done.errors[0]
    elif done.passed:
        word, reason = "survived", f"{mutation.test} passes"
    else:
        word, reason = "broken", f"{mutation.test} is skipped"
    return Verdict(mutation=mutation, word=word, reason=reason, seconds=done.seconds)
