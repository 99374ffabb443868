"""Edits YAML text in place: adds, removes and changes entries. No other byte changes.

Pure. Edits block and flow style at the positions in a document, in the style of the neighbours.
It does not know YAML itself, so callers parse the result before they use it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.editing.page import Change, NotEditable, Page

__all__ = [
    "Entry",
    "NotEditable",
    "Scalar",
    "flow",
    "quoted",
    "scalar",
    "with_entries",
    "with_fields",
    "with_values",
    "without_entries",
]

if TYPE_CHECKING:
    from sipdeploy.inventory.document import Document, Path

Scalar = str | bool | int
Entry = Scalar | dict[str, Scalar]

# Text that every YAML parser reads unchanged without quotes, in block and in flow style.
_PLAIN = re.compile(r"[^\W\d_](?:[\w.' -]*[\w.])?")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_NOT_YAML = re.compile("[\ufffe\uffff]")
_SEPARATORS = ", \t\r\n\x85\u2028\u2029"
_INDENT = 2
_NOT_BLOCK = "`{}` is not written as `NUMBER: ...` on separate lines"


def with_entries(
    document: Document, section: str, entries: Mapping[str, Entry], *, quote: str = ""
) -> str:
    """Return the text with entries added at the end of the mapping at the key `section`.

    `quote` encloses keys if no neighbour shows their style.
    """
    page = Page(document)
    present = page.data.get(section)
    if (section,) not in document.marks:
        return page.changed(page.section(section, _Style(quote).lines(entries, _INDENT)))
    if not present:
        return page.changed(_into_empty(page, section, entries, _Style(quote)))
    style = _style(page, section)
    if page.is_flow((section,)):
        return page.changed(_into_flow(page, section, entries, style))
    return page.changed([_into_block(page, section, entries, style)])


def without_entries(document: Document, section: str, keys: Iterable[str]) -> str:
    """Return the text without those entries of the mapping at the key `section`.

    Removes their whole lines, and the comments indented below them. NotEditable if they are in
    braces with a comment beside them.
    """
    removed = frozenset(keys)
    page = Page(document)
    if page.is_flow((section,)):
        return page.changed(_from_flow(page, section, removed))
    return page.changed(
        _block_lines(page, (section, key)) for key in page.data[section] if key in removed
    )


def with_values(document: Document, values: Mapping[Path, str]) -> str:
    """Return the text with new values, in double quotes, at those paths."""
    page = Page(document)
    return page.changed(
        [Change(*page.value(path), quoted(value)) for path, value in values.items()]
    )


def with_fields(
    document: Document, section: str, entries: Mapping[str, Mapping[str, Scalar]]
) -> str:
    """Return the text with new values of fields of those entries; missing fields are added."""
    page = Page(document)
    return page.changed(
        change
        for key, fields in entries.items()
        for change in _new_fields(page, (section, key), fields)
    )


def _new_fields(page: Page, path: Path, fields: Mapping[str, Scalar]) -> Iterator[Change]:
    """Change fields of an entry; add the missing ones in the style of its last field."""
    start, end = page.value(path)
    known = page.node(path)
    if not isinstance(known, dict) or not known:  # no value, `~`, or empty braces
        text = ", ".join(_Style().field(*field) for field in fields.items())
        if page.is_flow(path):
            yield Change(start + 1, start + 1, text)
        else:
            yield Change(start, end, f"{'' if end > start else ' '}{{{text}}}")
        return
    last = (*path, next(reversed(known)))
    style = _Style(field_quote=_quote(page, last))
    for name in fields.keys() & known.keys():
        yield Change(*page.value((*path, name)), style.value(fields[name]))
    rows = [style.field(name, value) for name, value in fields.items() if name not in known]
    if rows and page.is_flow(path):
        place = page.end(last)
        yield Change(place, place, "".join(f", {row}" for row in rows))
    elif rows:
        indent = " " * (page.marks[last][1] - 1)
        yield page.after(page.line(page.end(last)), [indent + row for row in rows])


def quoted(text: str) -> str:
    """The text in double quotes; JSON strings are YAML, except for two characters."""
    written = json.dumps(text, ensure_ascii=False)
    return _NOT_YAML.sub(lambda match: f"\\u{ord(match[0]):04X}", written)


def scalar(value: Scalar) -> str:
    """The value in YAML, in quotes unless it is a plain word."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (_PLAIN.fullmatch(value) and value.lower() not in _WORDS):
        return str(value)
    return quoted(value)


def flow(key: str, entry: Entry) -> str:
    """One entry on a single line, as an example."""
    return _Style().flow(key, entry)


@dataclass(frozen=True, slots=True)
class _Style:
    """The style of entries: quotes around keys, and fields below them or in braces."""

    quote: str = ""
    field_quote: str = ""
    field_indent: int = 0  # 0: in braces
    padding: str = ""  # inside the braces

    def key(self, key: str) -> str:
        return f"{self.quote}{key}{self.quote}"

    def field(self, name: str, value: Scalar) -> str:
        return f"{self.field_quote}{name}{self.field_quote}: {self.value(value)}"

    def value(self, value: Scalar) -> str:
        # Quoted keys: the file is JSON, or imitates it.
        is_text = bool(self.field_quote) and isinstance(value, str)
        return quoted(str(value)) if is_text else scalar(value)

    def flow(self, key: str, entry: Entry) -> str:
        if not isinstance(entry, dict):
            return f"{self.key(key)}: {quoted(str(entry))}"
        fields = ", ".join(self.field(name, value) for name, value in entry.items())
        pad = self.padding if fields else ""
        return f"{self.key(key)}: {{{pad}{fields}{pad}}}"

    def lines(self, entries: Mapping[str, Entry], indent: int) -> list[str]:
        return [line for row in entries.items() for line in self._entry(*row, " " * indent)]

    def _entry(self, key: str, entry: Entry, indent: str) -> Iterator[str]:
        if not self.field_indent or not isinstance(entry, dict) or not entry:
            yield indent + self.flow(key, entry)
            return
        yield f"{indent}{self.key(key)}:"
        for name, value in entry.items():
            yield " " * self.field_indent + self.field(name, value)


def _quote(page: Page, path: Path) -> str:
    letter = page.text[page.key(path)]
    return letter if letter in "\"'" else ""


def _style(page: Page, section: str) -> _Style:
    """The style of the last entry, and of the last one with fields."""
    entries = page.data[section]
    quote = _quote(page, (section, next(reversed(entries))))
    model = next((key for key in reversed(entries) if isinstance(entries[key], dict)), None)
    fields = entries[model] if model is not None else None
    if model is None or not fields:
        return _Style(quote, quote if _quote(page, (section,)) else "")
    path = (section, model, next(iter(fields)))
    field_quote = _quote(page, path)
    if page.is_flow((section, model)):
        opened = page.value((section, model))[0] + 1
        return _Style(quote, field_quote, padding=" " if page.text[opened] == " " else "")
    column = page.marks[path][1]
    return _Style(quote, field_quote, field_indent=column - 1)


def _into_empty(
    page: Page, section: str, entries: Mapping[str, Entry], style: _Style
) -> list[Change]:
    """Fill an empty section: no value, `~`, or empty braces."""
    start, end = page.value((section,))
    key, key_end = page.key((section,)), page.key_end((section,))
    is_plain = page.is_first(key) and page.line(key) == page.line(end)
    if is_plain and not page.is_in_braces and (rest := page.rest(end)) and not rest[1]:
        colon = page.text.index(":", key_end) + 1
        removal = [Change(colon, end, "")] if end > start else []
        indent = page.marks[(section,)][1] - 1 + _INDENT
        return [*removal, page.after(page.line(key), style.lines(entries, indent))]
    quote = _quote(page, (section,)) or style.quote
    style = _Style(quote, _quote(page, (section,)))
    inside = ", ".join(style.flow(*row) for row in entries.items())
    if page.text[start : start + 1] == "{":
        return [Change(start + 1, start + 1, inside)]
    return [Change(start, end, f"{'' if end > start else ' '}{{{inside}}}")]


def _into_block(page: Page, section: str, entries: Mapping[str, Entry], style: _Style) -> Change:
    last = (section, next(reversed(page.data[section])))
    key, end = page.key(last), page.end(last)
    rest = page.rest(end)
    if not page.is_first(key) or rest is None or rest[1]:
        raise NotEditable(page.span(last), _NOT_BLOCK.format(last[1]))
    indent = page.marks[last][1] - 1
    line = page.comments(page.line(end), indent)
    return page.after(line, style.lines(entries, indent))


def _into_flow(
    page: Page, section: str, entries: Mapping[str, Entry], style: _Style
) -> list[Change]:
    last = (section, next(reversed(page.data[section])))
    key, end = page.key(last), page.end(last)
    written = [style.flow(*row) for row in entries.items()]
    rest = page.rest(end)
    if not page.is_first(key) or rest is None:
        return [Change(end, end, "".join(f", {each}" for each in written))]
    # The entries are on separate lines, so add lines; keep a final comma, or its absence.
    indent = page.text[page.starts[page.line(key)] : key]
    lines = [f"{indent}{each}," for each in written]
    lines[-1] = lines[-1] if rest[1] else lines[-1][:-1]
    comma = [] if rest[1] else [Change(end, end, ",")]
    return [*comma, page.after(page.line(end), lines)]


def _block_lines(page: Page, path: Path) -> Change:
    """The lines of an entry, including comments below it with a deeper indentation."""
    key, end = page.key(path), page.end(path)
    rest = page.rest(end)
    if not page.is_first(key) or rest is None or rest[1]:
        raise NotEditable(page.span(path), _NOT_BLOCK.format(path[-1]))
    last = page.comments(page.line(end), page.marks[path][1])
    stop = page.starts[last + 1] if last + 1 < len(page.starts) else len(page.text)
    return Change(page.starts[page.line(key)], stop, "")


def _from_flow(page: Page, section: str, removed: Collection[str]) -> Iterator[Change]:
    """Remove entries, each with the comma before it; the first ones with the comma after them."""
    keys = list(page.data[section])
    closing = page.value((section,))[1] - 1
    previous = None  # the end of the entry before, unless all entries before are removed
    for key, following in itertools.zip_longest(keys, keys[1:]):
        path = (section, key)
        start, end = page.key(path), page.end(path)
        if key in removed:
            stop = closing if following is None else page.key((section, following))
            first = start if previous is None else previous
            last = stop if previous is None else end
            beside = page.text[first:start] + page.text[end:last]
            rest = page.rest(end)
            if beside.strip(_SEPARATORS) or (rest and rest[2]):
                reason = f"the comment beside `{key}` can belong to another entry"
                raise NotEditable(page.span(path), reason)
            yield Change(first, last, "")
        if key not in removed or previous is not None:
            previous = end
