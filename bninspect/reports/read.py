"""Reports that were written to files: JSON documents, and JSON Lines that came to their end."""

from __future__ import annotations

from pathlib import Path

from bninspect.errors import UsageError
from bninspect.records import Report
from bninspect.reports import json_document, json_lines
from bninspect.safe_text import printable


def read(path: Path) -> Report:
    """Return the report in a file, whichever of the two forms it has.

    Raises:
        UsageError: there is none, or it is incomplete.
    """
    label = printable(str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {label}", why=printable(str(error))) from error
    lines = text.startswith('{"')  # a document begins with a brace and an indented line
    try:
        return json_lines.parse(text) if lines else json_document.parse(text)
    except (ValueError, RecursionError) as error:
        why = "its last line is missing: the run was cut short" if lines and _is_cut(text) else str(error)
        raise UsageError(
            f"{label} is no report of bninspect",
            why=printable(why, 500),
            hint="-o json=FILE writes one" if not lines else "--resume FILE finishes it",
        ) from error


def _is_cut(text: str) -> bool:
    return '"command":' in text.partition("\n")[0] and '"summary":' not in text.rstrip("\n").rpartition("\n")[2]
