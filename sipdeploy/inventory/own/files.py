"""Reads what services take from beside the inventory: dialplan files, recorded prompts, PINs.

The files may come from a stranger: dialplan is read from one directory only, and no link is
followed. Nothing in a file is carried out here.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import stat
import struct
import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Source, Span, count, has_errors, reason_of
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.inventory import passwords, reading
from sipdeploy.inventory.commands import Outputs
from sipdeploy.inventory.fields import is_reserved
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.own.checks import PIN
from sipdeploy.inventory.passwords import is_outside
from sipdeploy.inventory.secret import PasswordSource, Secret
from sipdeploy.inventory.secrets_file import TRUST_HELP

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Sources
    from sipdeploy.inventory.document import Document
    from sipdeploy.inventory.site import Site

FOLDER = "dialplan"
MOST_FILES = 100
MOST_OF_A_FILE = 1 << 20
MOST_OF_A_PROMPT = 8 << 20  # four minutes
RATES = (8000, 16000)  # that Asterisk's format_wav reads
_MOST_ENTRIES = 10_000
_MOST_STRANGE = 100  # of a file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.conf", re.ASCII)
# What Asterisk reads in another way than the patterns below: it strips control characters, skips a
# second byte order mark, and takes block comments out of words (`#inc;--x--;lude`). `;---` and a
# `--;` behind a `;` are plain comments.
_STRANGE = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]|\r(?!\n)")
_BLOCK = re.compile(r";--(?!-)|^(?:[^;\n]|(?<=\\);)*?(--;)", re.MULTILINE)
_INCLUDE = re.compile(r"^[ \t]*(#(?:try)?include|#exec)\b", re.MULTILINE | re.IGNORECASE)
_SECTION = re.compile(r"^[ \t]*\[([^\]\n]*)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialplanFile:
    """A file of one's own dialplan: its path as people name it, and its text."""

    path: str
    text: str

    @property
    def contexts(self) -> Iterator[tuple[str, Span]]:
        """The sections, with the places of their names."""
        for match in _SECTION.finditer(self.text):
            yield match[1].strip(), self.span(*match.span(1))

    def span(self, start: int, end: int) -> Span:
        """The span of a part of the text that is within a line."""
        line, column = self.text.count("\n", 0, start) + 1, start - self.text.rfind("\n", 0, start)
        return Span(path=self.path, line=line, column=column, end_column=column + end - start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """What services take from beside the inventory.

    The files of the dialplan by name; by the number of the service, prompts as WAV files that
    Asterisk reads, and PINs.
    """

    dialplan: Mapping[str, DialplanFile] = field(default_factory=dict)
    prompts: Mapping[str, bytes] = field(default_factory=dict)
    pins: Mapping[str, Secret] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, Source]:
        """The lines of the dialplan, for excerpts."""
        return {each.path: Source(lines=each.text.split("\n")) for each in self.dialplan.values()}


def attachments(
    site: Site,
    folder: Path,
    document: Document | None = None,
    outputs: Outputs | None = None,
    *,
    is_trusted: bool = True,
    sources: Sources | None = None,
) -> Attachments:
    """Read all that the services of a site need; InvalidFiles with every problem."""
    found, problems = read(site, folder, document, is_trusted=is_trusted)
    pins, more = _pins(site, folder, document, outputs or Outputs(), is_trusted=is_trusted)
    if has_errors([*problems, *more]):
        raise InvalidFiles([*problems, *more], sources={**(sources or {}), **found.sources})
    return Attachments(dialplan=found.dialplan, prompts=found.prompts, pins=pins)


def read(
    site: Site, folder: Path, document: Document | None = None, *, is_trusted: bool = True
) -> tuple[Attachments, list[Diagnostic]]:
    """Read the files, but no PIN, and say what is wrong with them (SD233, SD255 to SD258)."""
    problems: list[Diagnostic] = []
    dialplan: dict[str, DialplanFile] = {}
    prompts: dict[str, bytes] = {}
    kinds = {service.kind for service in site.services.values()}
    if "dialplan" in kinds:
        dialplan = _dialplan(folder, problems)
        # what could not be read may have the contexts
        problems += [] if problems else _contexts(site, dialplan, document)
    for number, service in site.services.items():
        if service.kind == "menu" and service.prompt is not None:
            try:
                prompts[number] = _prompt(folder, service.prompt, is_trusted=is_trusted)
            except _Unusable as failure:
                problems.append(_at(document, number, "prompt", failure.problem))
    return Attachments(dialplan=dialplan, prompts=prompts), problems


def _at(document: Document | None, number: str, key: str, problem: Diagnostic) -> Diagnostic:
    """The problem at the value of a key of a service."""
    if document is None:
        return problem
    span = document.value_span(("services", number, key))
    return Diagnostic(
        problem.code, problem.message, span=span, label=problem.label, help=problem.help
    )


# --- dialplan ------------------------------------------------------------------------------------


def _dialplan(folder: Path, problems: list[Diagnostic]) -> dict[str, DialplanFile]:
    """The files dialplan/*.conf by name; appends a problem for each that cannot be used."""
    place = folder / FOLDER
    found: dict[str, DialplanFile] = {}
    for name in _names(place, problems):
        path = place / name
        # Asterisk names files in messages without their folders, and has an extensions.conf
        if not _NAME.fullmatch(name) or name == "extensions.conf":
            advice = "rename it, such as to `shop.conf`: letters, digits, `.`, `_` and `-`"
            message = f"`{path}` cannot be the name of a file of the dialplan"
            problems.append(Diagnostic("SD255", message, help=advice))
            continue
        text, unreadable = _text(folder, path)
        problems += unreadable
        if text is not None:
            found[name] = DialplanFile(path=str(path), text=text)
            problems += _sections(found[name])
    return found


def _names(place: Path, problems: list[Diagnostic]) -> list[str]:
    """The names of the files, in order; none if the directory is a link."""
    try:
        if not stat.S_ISDIR(place.lstat().st_mode):
            raise NotADirectoryError(0, "it is a link or a file, not a directory")
        with os.scandir(place) as entries:
            names = [
                each.name for each in islice(entries, _MOST_ENTRIES) if _is_dialplan(each.name)
            ]
    except FileNotFoundError:
        return []  # _contexts reports the missing contexts
    except OSError as failure:
        message = f"cannot read `{place}`: {reason_of(failure)}"
        advice = f"`ls -ld {shlex.quote(str(place))}` shows what it is"
        problems.append(Diagnostic("SD255", message, help=advice))
        return []
    if len(names) > MOST_FILES:
        message = f"`{place}` has {count(len(names), 'file')}"
        problems.append(Diagnostic("SD255", message, help=f"at most {MOST_FILES} are read"))
    return sorted(names)[:MOST_FILES]


def _is_dialplan(name: str) -> bool:
    return name.endswith(".conf") and not name.startswith(".")


def _text(folder: Path, path: Path) -> tuple[str | None, list[Diagnostic]]:
    try:
        _refuse_link(folder, path.name)
        raw = reading.below(folder, Path(FOLDER, path.name), MOST_OF_A_FILE).raw
    except OSError as failure:
        message = f"cannot read `{path}`: {reason_of(failure)}"
        advice = f"`ls -l {shlex.quote(str(path))}` shows what it is"
        return None, [Diagnostic("SD255", message, help=advice)]
    return reading.decode(raw, str(path))


def _refuse_link(folder: Path, name: str) -> None:
    """OSError if a file of the dialplan, or its directory, is a link, wherever it leads."""
    place = os.path.join(os.path.realpath(folder), FOLDER, name)  # noqa: PTH118 - as realpath
    if os.path.realpath(place) != place:
        raise OSError(0, "it is a link, which is not followed")


def _sections(file: DialplanFile) -> Iterator[Diagnostic]:
    """A file stays within its own contexts, and is all of itself."""
    for match in islice(_STRANGE.finditer(file.text), _MOST_STRANGE):
        yield Diagnostic(
            "SD255",
            f"the file contains the character U+{ord(match[0]):04X}, which nobody sees",
            span=file.span(*match.span()),
            help="delete it",
        )
    for match in islice(_BLOCK.finditer(file.text), _MOST_STRANGE):
        yield Diagnostic(
            "SD255",
            "a comment of several lines, or within one, in a file of the dialplan",
            span=file.span(*match.span(match.lastindex or 0)),
            label="Asterisk takes it out of words",
            help="write `;` and a space at the start of each line of the comment",
        )
    for match in _INCLUDE.finditer(file.text):
        yield Diagnostic(
            "SD255",
            f"`{match[1]}` in a file of the dialplan",
            span=file.span(*match.span(1)),
            help=f"delete the line: sipdeploy deploys all files `{FOLDER}/*.conf`, so put what it "
            "includes there",
        )
    for name, span in file.contexts:
        if is_reserved(name):
            yield Diagnostic(
                "SD257",
                f"the section `[{name}]` belongs to sipdeploy",
                span=span,
                help="give your context another name, such as `[shop]`",
            )


def _contexts(
    site: Site, dialplan: Mapping[str, DialplanFile], document: Document | None
) -> Iterator[Diagnostic]:
    """Each context that a service names is in a file."""
    known = {name for file in dialplan.values() for name, _ in file.contexts}
    for number, service in site.services.items():
        if service.kind == "dialplan" and service.context and service.context not in known:
            where = f"`{FOLDER}/*.conf` beside the inventory"
            message = f"no file of {where} has the context `[{service.context}]`"
            advice = f"write `{FOLDER}/{service.context}.conf`: `[{service.context}]`, then lines "
            advice += f"such as `exten => {number},1,Answer()`"
            yield _at(document, number, "context", Diagnostic("SD256", message, help=advice))


# --- prompts -------------------------------------------------------------------------------------


class _Unusable(Exception):  # noqa: N818  # a verdict
    def __init__(self, problem: Diagnostic) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _prompt(folder: Path, name: str, *, is_trusted: bool) -> bytes:
    """A recorded prompt as a plain WAV file; _Unusable says why it is none."""
    place = expanded(name)
    try:
        if is_trusted:
            raw = reading.regular(folder / place, MOST_OF_A_PROMPT).raw
        else:
            raw = reading.below(folder, place, MOST_OF_A_PROMPT).raw
    except reading.OutsideError as failure:
        message = f"`{name}` is not read: it is outside the inventory's directory"
        raise _Unusable(Diagnostic("SD233", message, help=TRUST_HELP)) from failure
    except OSError as failure:
        message = f"cannot read the prompt `{name}`: {reason_of(failure)}"
        advice = "record it, or delete `prompt`: then Asterisk speaks the keys"
        raise _Unusable(Diagnostic("SD258", message, help=advice)) from failure
    return _plain(name, raw)


def _plain(name: str, raw: bytes) -> bytes:
    source = shlex.quote(name)
    advice = f"`sox {source} -r 16000 -c 1 -b 16 new.wav` converts it"
    try:
        with wave.open(io.BytesIO(raw)) as sound:
            form = (sound.getnchannels(), 8 * sound.getsampwidth(), sound.getframerate())
            frames = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError, ValueError, struct.error) as failure:
        message = f"the prompt `{name}` is not a WAV file with plain samples (PCM)"
        raise _Unusable(Diagnostic("SD258", message, help=advice)) from failure
    if form[:2] != (1, 16) or form[2] not in RATES or not frames:
        message = f"the prompt `{name}` has a form that Asterisk does not play"
        label = f"channels: {form[0]}, bits: {form[1]}, Hz: {form[2]}, bytes: {len(frames)}"
        raise _Unusable(Diagnostic("SD258", message, label=label, help=advice))
    return _written(frames, form[2])


def _written(frames: bytes, rate: int) -> bytes:
    """A WAV file of nothing but these samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as plain:
        plain.setnchannels(1)
        plain.setsampwidth(2)
        plain.setframerate(rate)
        plain.writeframes(frames[: len(frames) // 2 * 2])
    return buffer.getvalue()


def rate_of(prompt: bytes) -> int:
    """The samples of a prompt in a second."""
    return int.from_bytes(prompt[24:28], "little")


# --- PINs ----------------------------------------------------------------------------------------


def unread_pins(
    site: Site, folder: Path, document: Document | None = None, *, is_trusted: bool = True
) -> list[Diagnostic]:
    """What is wrong with PINs in files, for lint: SD259 as warnings, SD233 as notes."""
    services = {
        number: service
        for number, service in site.services.items()
        if isinstance(service.pin, PasswordSource) and service.pin.file is not None
    }
    part = site.model_copy(update={"services": services})
    _, problems = _pins(part, folder, document, Outputs(), is_trusted=is_trusted)
    return [passwords.as_lint(each) for each in problems]


def _pins(
    site: Site,
    folder: Path,
    document: Document | None,
    outputs: Outputs,
    *,
    is_trusted: bool,
) -> tuple[dict[str, Secret], list[Diagnostic]]:
    """The PIN of each conference that has one; a problem if it cannot be fetched (SD259)."""
    pins: dict[str, Secret] = {}
    problems: list[Diagnostic] = []
    for number, service in site.services.items():
        pin, why, code, advice = service.pin, "", "SD259", "the first line must be the PIN"
        if isinstance(pin, PasswordSource):
            if not is_trusted and pin.file is None:
                why, code, advice = "it is not fetched without `--trusted`", "SD233", TRUST_HELP
            else:
                answer = passwords.fetch(pin, folder, outputs, is_trusted=is_trusted)
                if isinstance(answer, str) and not is_trusted and is_outside(pin, folder):
                    code, advice = "SD233", TRUST_HELP
                pin, why = (answer, "") if isinstance(answer, Secret) else (pin, answer)
        if isinstance(pin, Secret):
            pins[number] = pin
            why = "" if PIN.fullmatch(pin.reveal()) else "a PIN has 4 to 15 digits"
        if why:
            message = f"cannot use the PIN of conference `{number}`: {why}"
            problem = Diagnostic(code, message, help=advice)
            problems.append(_at(document, number, "pin", problem))
    return pins, problems
