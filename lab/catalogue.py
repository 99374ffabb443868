"""What each module of Kamailio offers, by version: the data of the linter's rules.

Two sources, joined, because a name that is reported as unknown must be unknown to both: the tables
that a module exports to Kamailio (`exports` in its shared object), and the contents of the
documentation in Debian's packages, which also lists what Debian does not compile.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from lab import images
from lab.machine import KEYRING, LabError, run

TARGET = Path(__file__).parent.parent / "sipdeploy/lint/stack/kamailio/catalogue.json"

Names = dict[str, dict[str, set[str]]]  # module, then "functions" or "parameters"


def write() -> None:
    """Read the packages of all suites and write the data file."""
    found: dict[str, Names] = {}
    for suite in reversed(images.SUITES):
        with TemporaryDirectory() as directory:
            version, names = _suite(suite, Path(directory))
        found[version] = names
    TARGET.write_text(_text(found), "utf-8")


def _text(found: dict[str, Names]) -> str:
    """The names of a module that the same versions have are one line, for readable diffs."""
    modules = sorted({module for names in found.values() for module in names})
    result = {}
    for module in modules:
        entry: dict[str, object] = {"versions": " ".join(v for v in found if module in found[v])}
        for kind in ("functions", "parameters"):
            by_versions = defaultdict(list)
            offers = {v: names.get(module, {}).get(kind, set()) for v, names in found.items()}
            for name in sorted(set().union(*offers.values())):
                by_versions[" ".join(v for v in found if name in offers[v])].append(name)
            entry[kind] = {versions: " ".join(names) for versions, names in by_versions.items()}
        result[module] = entry
    return (
        json.dumps({"versions": list(found), "modules": result}, indent=1, sort_keys=True) + "\n"
    )


def _suite(suite: str, directory: Path) -> tuple[str, Names]:
    """Return the version of Kamailio in a suite, such as 5.6, and what its modules offer."""
    packages = _download(suite, directory)
    (base,) = (package for package in packages if package.name.startswith("kamailio_"))
    version = ".".join(re.split(r"[_.~+-]", base.name)[1:3])
    files = directory / "files"
    for package in packages:
        run("dpkg-deb", "--extract", str(package), str(files))
    names: Names = defaultdict(lambda: {"functions": set(), "parameters": set()})
    for path in files.glob("usr/lib/*/kamailio/modules/*.so"):
        for kind, exported in _exported(path.read_bytes()):
            names[path.stem][kind] |= exported
    for path in files.glob("usr/share/doc/*/modules/README.*"):
        module = path.name.removeprefix("README.").removesuffix(".gz")
        for kind, documented in _documented(path):
            names[module][kind] |= documented
    return version, names


def _download(suite: str, directory: Path) -> list[Path]:
    """Download all packages of Kamailio, verified by apt, without a change of this machine."""
    for name in (
        "etc/apt",
        "var/lib/apt/lists/partial",
        "var/lib/dpkg",
        "archives/partial",
        "deb",
    ):
        (directory / name).mkdir(parents=True)
    status = directory / "var/lib/dpkg/status"
    status.touch()
    (directory / "etc/apt/sources.list").write_text(
        f"deb [signed-by={KEYRING}] {images.mirror()} {suite} main\n", "utf-8"
    )
    options = [
        f"Dir={directory}",
        f"Dir::State::status={status}",
        f"Dir::Cache::archives={directory}/archives",
        "Acquire::Check-Valid-Until=false",
        "Acquire::Languages=none",
        "APT::Architecture=amd64",
        "APT::Sandbox::User=root",
    ]
    argv = [word for option in options for word in ("-o", option)]
    run("apt-get", *argv, "update")
    listing = run("apt-cache", *argv, "search", "--names-only", "^kamailio(-.*-modules)?$")
    names = [line.split()[0] for line in listing.splitlines()]
    here = Path.cwd()
    os.chdir(directory / "deb")  # apt-get downloads to the working directory
    try:
        run("apt-get", *argv, "download", *names)
    finally:
        os.chdir(here)
    return sorted((directory / "deb").glob("*.deb"))


# --- documentation -------------------------------------------------------------------------------

_HEADING = re.compile(r"^ +(\d+)\. ([A-Z].*)$")
_ENTRY = re.compile(r"^ +\d+(?:\.\d+)+\. (\w+) ?\(")


def _documented(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Read the contents of a README: the entries of its chapters of parameters and functions."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as file:
        contents = file.read().partition("List of Examples")[0]
    kind = ""
    for line in contents.splitlines():
        if heading := _HEADING.match(line):
            title = heading[2].lower()
            kind = "functions" if "function" in title else ""
            kind = "parameters" if "parameter" in title else kind
        elif kind and (entry := _ENTRY.match(line)):
            yield kind, {entry[1]}


# --- shared objects ------------------------------------------------------------------------------

_LOAD, _DYNAMIC = 1, 2  # program headers
_STRTAB, _SYMTAB, _RELA, _RELASZ = 5, 6, 7, 8  # entries of the dynamic section
_SYMBOLIC, _RELATIVE = (1, 6), 8  # relocations of x86-64
# struct module_exports, cmd_export_t and param_export_t (src/core/sr_module.h, 5.4 to 6.1)
_TABLES = {"functions": (16, 48), "parameters": (24, 24)}


class _SharedObject:
    """The relocated pointers of an ELF file, by address."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        (headers,) = struct.unpack_from("<Q", data, 32)
        size, number = struct.unpack_from("<HH", data, 54)
        parts = [struct.unpack_from("<IIQQQQ", data, headers + size * i) for i in range(number)]
        self._loads = [
            (va, va + filled, at) for kind, _, at, va, _, filled in parts if kind == _LOAD
        ]
        (dynamic,) = ((at, filled) for kind, _, at, _, _, filled in parts if kind == _DYNAMIC)
        tags: dict[int, int] = {}
        for at in range(dynamic[0], sum(dynamic), 16):
            tag, value = struct.unpack_from("<qQ", data, at)
            tags.setdefault(tag, value)
        self._symbols, self._strings = self._offset(tags[_SYMTAB]), self._offset(tags[_STRTAB])
        self.pointers = dict(self._relocations(self._offset(tags[_RELA]), tags[_RELASZ]))

    def _offset(self, address: int) -> int:
        for low, high, at in self._loads:
            if low <= address < high:
                return int(address - low + at)
        raise LabError(f"no data at {address:#x}")

    def _relocations(self, start: int, size: int) -> Iterator[tuple[int, int]]:
        for at in range(start, start + size, 24):
            address, info, addend = struct.unpack_from("<QQq", self._data, at)
            if info & 0xFFFFFFFF == _RELATIVE:
                yield address, addend
            elif info & 0xFFFFFFFF in _SYMBOLIC:
                place = self._symbols + 24 * (info >> 32)
                (value,) = struct.unpack_from("<Q", self._data, place + 8)
                yield address, value + addend if value else 0

    def symbol(self, name: str) -> int | None:
        """Return the address of a symbol. The string table follows the symbol table."""
        for at in range(self._symbols, self._strings, 24):
            entry, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", self._data, at)
            if value and self._read(self._strings + entry) == name:
                return int(value)
        return None

    def text(self, address: int) -> str:
        """Return the text that begins at an address."""
        return self._read(self._offset(address))

    def _read(self, at: int) -> str:
        return self._data[at : self._data.index(b"\0", at)].decode("ascii", "replace")


def _exported(data: bytes) -> Iterator[tuple[str, set[str]]]:
    """Read the tables of functions and parameters that a module exports."""
    shared = _SharedObject(data)
    exports = shared.symbol("exports")
    if exports is None:
        return  # the modules of scripting languages; their documentation remains
    for kind, (offset, stride) in _TABLES.items():
        at = shared.pointers.get(exports + offset, 0)
        names = set()
        while at and shared.pointers.get(at):
            names.add(shared.text(shared.pointers[at]))
            at += stride
        yield kind, names
