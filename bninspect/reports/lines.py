"""Lines of styled text, and how they reach a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

from bninspect.reports import Looks

Line: TypeAlias = Text


def line(*parts: str | tuple[str, str]) -> Line:
    """Return one line from plain parts and (part, style) pairs. Nothing in a part is read as markup."""
    return Text.assemble(*parts)


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
        console.print(one, soft_wrap=whole)
    return sink.getvalue()


def plural(count: int, noun: str) -> str:
    """Return `3 layers`, `1 layer`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
