"""Lines of styled text, and how they reach a terminal or a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

from bninspect.reports import Looks
from bninspect.safe_text import printable

Line: TypeAlias = Text
_LABEL = re.compile(r" *(?:[A-Z]+ +|\S{1,16}(?: {2,}|: ))?")
"""What stands before the words of a line: spaces, a verdict, a short word with two spaces or a colon behind it."""
_UNLABELLED = 6
_LONGEST_ESCAPE = len("\\U0010ffff")


def line(*parts: str | tuple[str, str]) -> Line:
    """Return one line from plain parts and (part, style) pairs, in which nothing is markup or moves the cursor.

    A report may have come out of a file: even what only we write, such as the code of a rule, may be anything there.
    """
    return Text.assemble(*(_inert(part) if isinstance(part, str) else (_inert(part[0]), part[1]) for part in parts))


def _inert(text: str) -> str:
    return printable(text, max(len(text), 1) * _LONGEST_ESCAPE)


def shown(lines: Iterable[Line], looks: Looks) -> str:
    """Return the lines as printed: wrapped at a terminal's width, never in a pipe or where columns must stay."""
    whole = looks.width is None or looks.wide
    sink = StringIO()
    console = Console(
        file=sink,
        width=looks.width or 10_000,
        color_system="standard" if looks.colour else None,
        force_terminal=looks.colour,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    for one in lines:
        for row in [one] if whole else _rows(one, console):
            console.print(row, soft_wrap=True)
    return sink.getvalue()


def _rows(whole: Line, console: Console) -> Iterator[Line]:
    """Yield the rows that a line takes at a terminal's width, those after the first below what follows its label."""
    if whole.cell_len <= console.width:
        yield whole
        return
    label = _LABEL.match(whole.plain)
    hanging = label.end() if label else 0
    below = hanging or _UNLABELLED
    head, rest = whole[:hanging], whole[hanging:]
    for place, row in enumerate(rest.wrap(console, max(console.width - below, 1))):
        row.rstrip()
        yield Text.assemble(" " * below if place else head, row)
