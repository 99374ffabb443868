"""The catalogue of Asterisk's options and applications, from the sources of each version.

Facts only: names, types, values, defaults, and the versions that have them. The documentation XML
has the names, the enumerations and the version that brought an option; the registration in the C
source has the type, and the handler the values that the documentation leaves out.

    git clone --bare https://github.com/asterisk/asterisk
    python -m lab catalogue-asterisk asterisk.git
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

OUTPUT = Path(__file__).parent.parent / "sipdeploy/lint/stack/asterisk/catalogue.json"
VERSIONS = range(16, 24)
_FOLDERS = ("res", "apps", "funcs", "main", "pbx", "channels", "addons")
_MODULES = re.compile(r"(?:^|/)res_pjsip")
_DOCUMENTATION = re.compile(r"/\*{3} DOCUMENTATION\b[^\n]*\n(.*?)\*{3}/", re.DOTALL)
_REGISTER = re.compile(
    r"ast_sorcery_object_field_register\w*\(\s*\w+,\s*"
    r'(?:"([\w-]+)"|\w+),\s*"([^"]+)",\s*(?:"([^"]*)"|\w+),\s*(\w+),([^;]*)'
)
_FUNCTION = re.compile(
    r"^(?:\w[\w \t*]*?)\b(\w+)\([^;{}]*\)\s*\n\{\n(.*?)^\}", re.MULTILINE | re.DOTALL
)
_COMPARED = re.compile(r'str(?:n?case)?cmp\((?:[^";()]+,\s*)?"([^"]+)"')
_CALLED = re.compile(r"\b(\w+)\(")
_TYPES = {
    "OPT_BOOL_T": "bool",
    "OPT_BOOLFLAG_T": "bool",
    "OPT_YESNO_T": "bool",
    "OPT_UINT_T": "unsigned",
    "OPT_INT_T": "integer",
    "OPT_DOUBLE_T": "number",
    "OPT_CODEC_T": "codecs",
}
_LISTS = re.compile(r"algorithms|identify_by")  # values with commas
_SHARED = {"ast_rtp_dtls_cfg_parse", "dtls_handler", "call_offer_pref_handler"}


def write(repository: Path, output: Path = OUTPUT) -> None:
    """Write the catalogue from a clone of Asterisk's repository."""
    tables = {version: _version(repository, version) for version in VERSIONS}
    merged = {
        "applications": _merge({v: t["applications"] for v, t in tables.items()}),
        "codecs": sorted(set().union(*(t["codecs"] for t in tables.values()))),
        "pjsip": {
            kind: _merge({v: t["pjsip"].get(kind, {}) for v, t in tables.items()})
            for kind in sorted(set().union(*(t["pjsip"] for t in tables.values())))
        },
    }
    lines = json.dumps(merged, indent=1, sort_keys=True)
    # a line for each option, so that a new version is a readable difference
    lines = re.sub(r"\n {3,}(?! *\"[^\"]+\": \{)", " ", lines)
    output.write_text(re.sub(r"\n +\}", " }", lines) + "\n", "utf-8")


def _merge(tables: dict[int, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Merge the versions: the newest entry of a name, the values of all; `in` if some lack it."""
    merged: dict[str, dict[str, Any]] = {}
    for version, table in tables.items():
        for name, entry in table.items():
            old = merged.get(name, {})
            new = {**old, **entry, "in": [*old.get("in", []), version]}
            if "values" in old and "values" in entry:
                new["values"] = sorted({*old["values"], *entry["values"]})
            merged[name] = new
    for entry in merged.values():
        if entry["in"] == list(VERSIONS):
            del entry["in"]
    return merged


def _version(repository: Path, version: int) -> dict[str, Any]:
    files = dict(_sources(repository, str(version)))
    trees = [tree for path, text in files.items() for tree in _documentation(path, text)]
    pjsip = _documented(trees)
    code = "\n".join(text for path, text in files.items() if path.endswith(".c"))
    modules = {p: t for p, t in files.items() if _MODULES.search(p) and p.endswith(".c")}
    functions = dict(_FUNCTION.findall(code))
    for text in modules.values():
        for match in _REGISTER.finditer(text):
            kind = match[1] or ""
            if kind in pjsip and match[2] != "type":
                _add(pjsip[kind].setdefault(match[2], {}), match, functions)
    for options in pjsip.values():
        for name, option in options.items():
            _settle(name, option)
    return {
        "applications": {name: {} for tree in trees for name in _applications(tree)},
        "codecs": re.findall(r'\.name = "(\w+)"', files["main/codec_builtin.c"]),
        "pjsip": {kind.lower(): options for kind, options in pjsip.items()},
    }


def _sources(repository: Path, branch: str) -> Iterator[tuple[str, str]]:
    command = ["git", "--git-dir", str(repository), "archive", branch, *_FOLDERS]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith((".c", ".xml")) else None
            if file:
                yield member.name, file.read().decode("utf-8", "replace")


def _documentation(path: str, text: str) -> Iterator[ET.Element]:
    parts = [text] if path.endswith(".xml") else _DOCUMENTATION.findall(text)
    for part in parts:
        body = re.sub(r"<\?.*?\?>|<!DOCTYPE.*?>", "", part, flags=re.DOTALL)
        body = re.sub(r"</?docs[^>]*>", "", body).replace("xi:include", "include")
        try:
            yield ET.fromstring(f"<docs>{body}</docs>")  # noqa: S314  # our own clone
        except ET.ParseError:
            continue


def _applications(tree: ET.Element) -> Iterator[str]:
    yield from (each.get("name", "") for each in tree.iter("application"))


def _documented(trees: list[ET.Element]) -> dict[str, dict[str, dict[str, Any]]]:
    files = [f for tree in trees for f in tree.iter("configFile") if f.get("name") == "pjsip.conf"]
    objects = [each for file in files for each in file.iter("configObject")]
    return {
        each.get("name", ""): {
            option.get("name", ""): _described(option)
            for option in each.iter("configOption")
            if option.get("name") != "type"
        }
        for each in objects
    }


def _described(option: ET.Element) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if since := [each.text or "" for each in option.findall("since/version")]:
        entry["since"] = since
    if default := option.get("default"):
        entry["default"] = default
    if values := [each.get("name", "") for each in option.iter("enum")]:
        entry["values"] = values
    return entry


def _add(entry: dict[str, Any], match: re.Match[str], functions: dict[str, str]) -> None:
    """Add what the registration of an option says, and the values that its handler compares."""
    _, _, default, kind, rest = match.groups()
    if default:
        entry["default"] = default
    if kind in _TYPES:
        entry["type"] = _TYPES[kind]
        if bounds := re.search(r"PARSE_IN_RANGE[^;]*,\s*(\d+),\s*(\d+)\)", rest):
            entry["range"] = [int(bounds[1]), int(bounds[2])]
    elif kind in functions.keys() - _SHARED and "values" in entry:
        bodies = [functions[kind]]
        called = functions.keys() & set(_CALLED.findall(bodies[0])) - _SHARED
        bodies += [functions[name] for name in sorted(called)]
        entry["values"] += [word for body in bodies for word in _COMPARED.findall(body)]
        if any("ast_true(" in body or "ast_false(" in body for body in bodies):
            entry["values"] += ["yes", "no"]


def _settle(name: str, entry: dict[str, Any]) -> None:
    """Keep enumerations that are complete; a value such as `<digest>` stands for a free text."""
    values = [value.lower() for value in entry.pop("values", ())]
    if values and all(re.fullmatch(r"[\w.+-]+", value) for value in values):
        entry["values"] = sorted(set(values))
        entry.setdefault("type", "list" if _LISTS.search(name) else "enum")
    entry.setdefault("type", "text")
