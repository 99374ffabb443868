"""Files of a stack: their text, and the place of an offset in it. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from sipdeploy.diagnostics import Span


@dataclass(frozen=True, kw_only=True)
class StackFile:
    """A file of Kamailio or Asterisk.

    `path` is where it was read, as the user named it; `place` is where its daemon expects it, such
    as `/etc/kamailio/kamailio.cfg`, by which includes find it.
    """

    path: str
    place: str
    text: str

    @cached_property
    def _line_starts(self) -> tuple[int, ...]:
        return (0, *(match.end() for match in re.finditer("\n", self.text)))

    def span(self, start: int, end: int) -> Span:
        """The span of the text from offset `start` to offset `end`, on the line of `start`."""
        number = bisect_right(self._line_starts, start)
        first = self._line_starts[number - 1]
        line_end = self.text.find("\n", start)
        end = min(end, len(self.text) if line_end < 0 else line_end)
        return Span(
            path=self.path,
            line=number,
            column=start - first + 1,
            end_column=max(end, start + 1) - first + 1,
        )
