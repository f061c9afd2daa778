"""The report as JSON, field by field: one document, or JSON Lines; written, and read again.

JSON Lines have one line per model, so that a run that is cut short has told what it knew. The first line is what is
known before any model, the last one what is known after all of them, which counts where both say something. Their
members and the models between them, put together, are the document. A reader passes over lines it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bninspect.errors import UsageError
from bninspect.records import Heading, ModelReport, Report, codec
from bninspect.safe_text import printable
from bninspect.version import __version__

_LAST = ("environment", "shard", "summary")
"""What is known at the end; of the environment the versions are known before."""


def render(report: Report) -> str:
    """Return the report as JSON: ASCII, floats in their shortest exact form, no NaN and no Infinity."""
    return inert(json.dumps(codec.encode(report), indent=2, ensure_ascii=True, allow_nan=False)) + "\n"


def inert(document: str) -> str:
    """Return the same JSON without `##`, which begins a command of Azure Pipelines (`##vso[`) wherever it stands."""
    return document.replace("##", "#\\u0023")


def answer(found: Any) -> str:
    """Return the record of an answer as JSON, like the reports: no NaN and no Infinity."""
    document = {"tool": {"name": "bninspect", "version": __version__}, **codec.encode(found)}
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def parse(text: str) -> Report:
    """Return the report of a document that `render` made. Raises ValueError for anything else."""
    return codec.decode(Report, json.loads(text))


def render_lines(report: Report) -> str:
    """Return the whole report as lines."""
    return first_line(report) + "".join(map(model_line, report.models)) + last_line(report)


def first_line(heading: Heading) -> str:
    """Return the line before the models: schema version, command, tool, environment and options."""
    return _line({name: codec.encode(getattr(heading, name)) for name in Heading.__dataclass_fields__})


def model_line(model: ModelReport) -> str:
    """Return the line of one model."""
    return _line({"model": codec.encode(model)})


def last_line(report: Report) -> str:
    """Return the line after the models: environment, part of the models, and summary."""
    frame = _frame(report)
    return _line({key: frame[key] for key in _LAST})


def parse_lines(text: str) -> Report:
    """Return the report whose lines these are. Raises ValueError if the last one is missing or a line is broken."""
    document: dict[str, Any] = {"models": []}
    for line in filter(None, text.split("\n")):
        members = json.loads(line)
        if not isinstance(members, dict):
            raise ValueError("a line that is not an object")  # noqa: TRY004 - as for every other text that is not a report
        if "model" in members:
            document["models"].append(members["model"])
        else:
            document.update(members)
    return codec.decode(Report, document)


def models_in_lines(text: str) -> tuple[ModelReport, ...]:
    """Return the models of a run that may have been cut short, in the middle of a line too."""
    found = []
    for line in text.split("\n"):
        try:
            members = json.loads(line)
            if "model" in members:
                found.append(codec.decode(ModelReport, members["model"]))
        except (ValueError, TypeError):
            continue
    return tuple(found)


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
        return parse_lines(text) if lines else parse(text)
    except (ValueError, RecursionError) as error:
        cut = lines and _is_cut(text)
        why = "its last line is missing: the run was cut short" if cut else str(error)
        raise UsageError(
            f"{label} is not a report of bninspect",
            why=printable(why, 500),
            hint="finish it with --resume FILE" if cut else "write one with -o json=FILE",
        ) from error


def _is_cut(text: str) -> bool:
    return '"command":' in text.partition("\n")[0] and '"summary":' not in text.rstrip("\n").rpartition("\n")[2]


def _frame(report: Report) -> dict[str, Any]:
    frame: dict[str, Any] = codec.encode(replace(report, models=()))
    return frame


def _line(members: Mapping[str, Any]) -> str:
    return inert(json.dumps(members, ensure_ascii=True, allow_nan=False, separators=(",", ":"))) + "\n"
