"""The table of several exports of one model, for people at a terminal: layers down, exports across by their number."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import Report
from bninspect.reports.exports_table import ExportsTable, tables
from bninspect.reports.text.lines import Line, line
from bninspect.reports.words import plural

_STYLES = {"ok": "green", "pass": "green", "FAIL": "bold red", "fail": "bold red"}


def lines(report: Report) -> Iterator[Line]:
    """Yield the tables of a report; layers that are right in every export are only counted."""
    for table in tables(report):
        yield from _lines(table)


def _lines(table: ExportsTable) -> Iterator[Line]:
    yield line("exports ", (table.model, "bold"))
    for number, (path, verdict) in enumerate(zip(table.exports, table.verdicts, strict=True), 1):
        yield line(f"{number:>4}  ", (f"{verdict:<6}", _STYLES.get(verdict, "bold magenta")), path)
    width = max((len(name) for name, _ in table.open), default=0)
    if table.open:
        yield line("      " + " " * width + "".join(f"{number:>6}" for number in range(1, len(table.exports) + 1)))
    for name, marks in table.open:
        cells = [(f"{mark:>6}", _STYLES.get(mark, "bold magenta")) for mark in marks]
        yield line(f"      {name:<{width}}", *cells)
    if right := len(table.rows) - len(table.open):
        yield line(f"      {plural(right, 'layer')} right in every export")
