"""SARIF: the shape that its schema (2.1.0) requires, for problems of all kinds.

The tables are the part of the schema that a report of sipdeploy uses: of each object the required
properties and the others, which are all that the schema allows and the report may have.
"""

import json
import re
from pathlib import Path

import pytest

from sipdeploy import lint
from sipdeploy.__main__ import main
from sipdeploy.diagnostics import Diagnostic, Related, Span
from sipdeploy.diagnostics.formats import Context, sarif

BAD = Path(__file__).parent.parent / "diagnostics"
# object: (required, optional), by the property that holds it; a list holds several
OBJECTS = {
    "log": ({"version", "runs"}, {"$schema"}),
    "runs": ({"tool"}, {"columnKind", "results"}),
    "tool": ({"driver"}, set()),
    "driver": ({"name"}, {"version", "rules"}),
    "rules": ({"id"}, {"defaultConfiguration", "shortDescription", "fullDescription", "help"}),
    "defaultConfiguration": (set(), {"level"}),
    "shortDescription": ({"text"}, {"markdown"}),
    "fullDescription": ({"text"}, {"markdown"}),
    "help": ({"text"}, {"markdown"}),
    # code scanning also requires `locations` and `ruleId`
    "results": ({"message", "locations", "ruleId"}, {"ruleIndex", "level", "relatedLocations"}),
    "message": ({"text"}, {"markdown"}),
    "locations": ({"physicalLocation"}, set()),
    "relatedLocations": ({"physicalLocation"}, {"message"}),
    "physicalLocation": ({"artifactLocation"}, {"region"}),
    "artifactLocation": ({"uri"}, set()),
    "region": ({"startLine"}, {"startColumn", "endColumn"}),
}
LISTS = {"runs", "rules", "results", "locations", "relatedLocations"}
VALUES = {
    "$schema": r"https://json\.schemastore\.org/sarif-2\.1\.0\.json",
    "version": r"[0-9.]+",
    "level": r"none|note|warning|error",
    "columnKind": r"utf16CodeUnits|unicodeCodePoints",
    "uri": r"[A-Za-z0-9._~/%-]+",  # a URI reference
    "text": r"(?s).+",
    "markdown": r"(?s).+",
    "id": r"SD\d{3}",
    "ruleId": r"SD\d{3}",
    "name": r"sipdeploy",
}
LEAST = {"startLine": 1, "startColumn": 1, "endColumn": 1, "ruleIndex": 0}


def check(name, value):
    """Compare a value with the tables."""
    if name in OBJECTS:
        required, optional = OBJECTS[name]
        assert isinstance(value, dict), name
        assert required <= value.keys() <= required | optional, name
        for key, inner in value.items():
            if key in LISTS:
                assert isinstance(inner, list)
                for each in inner:
                    check(key, each)
            else:
                check(key, inner)
    elif name in LEAST:
        assert isinstance(value, int)
        assert value >= LEAST[name]
    else:
        assert re.fullmatch(VALUES[name], value), (name, value)


def checked(text):
    log = json.loads(text)
    check("log", log)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    ids = [rule["id"] for rule in rules]
    assert len(ids) == len(set(ids))
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
    return run["results"]


@pytest.mark.parametrize("path", sorted(BAD.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_report_of_a_bad_inventory_has_the_shape_of_the_schema(path, capsys):
    main(["lint", str(path), "--format", "sarif"])
    assert checked(capsys.readouterr().out)


def test_places_of_all_kinds():
    here = Span(path="ä b/a:b#c%.cfg", line=1, column=2, end_column=3)
    broken = Span(path="\udcff.conf", line=3, column=1)
    problems = [
        Diagnostic("SD801", "no {0}", span=here, label="here", help="do", notes=("a",)),
        Diagnostic("SD890", "there is nothing"),
        Diagnostic("SD880", "ports", related=(Related(span=broken, text="this"),), span=broken),
    ]
    found = checked(sarif(problems, None, Context(manuals=lint.explanations())))
    assert len(found) == 3


def test_no_problem_is_a_report_too():
    assert checked(sarif([])) == []
