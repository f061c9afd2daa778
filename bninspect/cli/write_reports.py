"""Hands a report to standard output and to the files of `-o`, and ends with its exit code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bninspect.cli.messages import show_error, to_whoever_reads, width
from bninspect.cli.options import coloured

if TYPE_CHECKING:
    from bninspect.errors import BninspectError
    from bninspect.records import Report


UNWRITTEN = 3


def emit(report: Report, options: dict[str, Any], *, streamed: bool = False, written: bool = True) -> int:
    """Write `report` in every form that was asked for, and return its exit code; 3 if one could not be written.

    Whatever becomes of one, all the others are written: a report is the work of minutes. The screen comes last.

    Args:
        report: what to write.
        options: of the command.
        streamed: whether standard output has had the lines of JSON Lines already, all but the last.
        written: whether all that was to be written before could be.
    """
    from bninspect import reports
    from bninspect.reports import json_document

    models = [Path(model) for model in (*options["models"], *(model.path for model in report.models))]
    failures = list(filter(None, _write_all(report, options["output"], models)))
    for failure in failures:
        show_error(failure.what, failure.why, failure.hint)
    written = written and not failures
    looks = reports.Looks(
        colour=coloured(options["color"]),
        width=width(),
        verbosity=-1 if options["quiet"] else options["verbose"],
        wide=options.get("wide", False),
        detailed=bool(options.get("layer")),
        unwritten=not written,
    )
    form = "json" if options["json"] else options["format"]
    # Without color=True click would take the colours out that were asked for.
    text = json_document.last_line(report) if streamed else reports.REPORTS[form](report, looks)
    with to_whoever_reads():
        click.echo(text, nl=False, color=looks.colour or None)
    return report.summary.exit_code if written else UNWRITTEN


def end_stream(report: Report, *, whole: bool) -> int:
    """Write the last line of JSON Lines to standard output, all others being there, and return the exit code.

    `whole`: whether all files have been written.
    """
    from bninspect.reports import json_document

    with to_whoever_reads():
        click.echo(json_document.last_line(report), nl=False)
    if not whole:
        show_error("a file of JSON Lines is not complete", "it could not be written to", "standard output has it all")
    return report.summary.exit_code if whole else UNWRITTEN


def _write_all(
    report: Report, outputs: Iterable[tuple[str, str]], models: list[Path]
) -> Iterator[BninspectError | None]:
    """Write each file, and yield why that failed; statements last, and none about a report that was not written."""
    from bninspect import errors

    told = False
    for kind, path in sorted(outputs, key=lambda output: output[0] == "intoto"):
        if kind == "intoto" and told:
            yield errors.BninspectError(
                f"'{path}' is not written", why="the JSON report that the statement is about could not be written"
            )
            continue
        failure = _attempt(report, kind, Path(path), models)
        told = told or (kind == "json" and failure is not None)
        yield failure


def _attempt(report: Report, kind: str, path: Path, models: list[Path]) -> BninspectError | None:
    """Write one file; return why that failed."""
    from bninspect import atomic_files, errors, reports

    try:
        data = reports.REPORTS[kind](report, reports.Looks()).encode()
    except Exception as error:  # noqa: BLE001 - a defect in one format must not cost the others
        return errors.BninspectError(
            f"cannot write '{path}': the {kind} report failed",
            why=f"{type(error).__name__}: {error}",
            hint="report it: this is a defect of bninspect; -o json=PATH keeps the result",
        )
    try:
        atomic_files.write_whole(path, data, force=True, inputs=models)
    except errors.BninspectError as error:
        return error
    return None
