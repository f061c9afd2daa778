"""Hands a report to standard output and to the files of `-o`, and ends with its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bninspect.cli.options import coloured

if TYPE_CHECKING:
    from bninspect.records import Report


def emit(report: Report, options: dict[str, Any]) -> int:
    """Write `report` in every form that was asked for, and return its exit code."""
    from bninspect import files, reports

    looks = reports.Looks(
        colour=coloured(options["color"]),
        width=_width(),
        verbosity=-1 if options["quiet"] else options["verbose"],
        wide=options.get("wide", False),
        detailed=bool(options["layer"]),
    )
    models = [Path(model) for model in options["models"]]
    form = "json" if options["json"] else options["format"]
    for kind, path in options["output"]:
        plain = reports.REPORTS[kind](report, reports.Looks())
        files.write_whole(Path(path), plain.encode(), force=True, inputs=models)
    # Without color=True click would take the colours out that were asked for.
    click.echo(reports.REPORTS[form](report, looks), nl=False, color=looks.colour or None)
    return report.summary.exit_code


def _width() -> int | None:
    """Return the width of the terminal; None for a pipe, where rows are never shortened."""
    import shutil
    import sys

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
