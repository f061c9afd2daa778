"""JSON Lines: one line per model, so that a run that is cut short has told what it knew.

The first line is what is known before any model, the last one what is known after all of them, which counts where
both say something. Their members and the models between them, put together, are the JSON document. A reader passes
over lines it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bninspect.records import ModelReport, Report, codec
from bninspect.reports.json_document import inert

_LAST = ("environment", "shard", "summary")
"""What is known at the end; of the environment the versions are known before."""


def render(report: Report) -> str:
    """Return the whole report as lines."""
    return first(report) + "".join(map(line, report.models)) + last(report)


def first(report: Report) -> str:
    """Return the line before the models: schema version, command, tool, environment and options."""
    return _line({key: value for key, value in _frame(report).items() if key not in ("summary", "shard", "models")})


def line(model: ModelReport) -> str:
    """Return the line of one model."""
    return _line({"model": codec.encode(model)})


def last(report: Report) -> str:
    """Return the line after the models: environment, part of the models, and summary."""
    frame = _frame(report)
    return _line({key: frame[key] for key in _LAST})


def parse(text: str) -> Report:
    """Return the report whose lines these are. Raises ValueError if the last one is missing or a line is broken."""
    document: dict[str, Any] = {"models": []}
    for one in filter(None, text.split("\n")):
        members = json.loads(one)
        if not isinstance(members, dict):
            raise ValueError("a line that is no object")  # noqa: TRY004 - as for every other text that is no report
        if "model" in members:
            document["models"].append(members["model"])
        else:
            document.update(members)
    return codec.decode(Report, document)


def models(text: str) -> tuple[ModelReport, ...]:
    """Return the models of a run that may have been cut short, in the middle of a line too."""
    found = []
    for one in text.split("\n"):
        try:
            members = json.loads(one)
            if "model" in members:
                found.append(codec.decode(ModelReport, members["model"]))
        except (ValueError, TypeError):
            continue
    return tuple(found)


def _frame(report: Report) -> dict[str, Any]:
    frame: dict[str, Any] = codec.encode(replace(report, models=()))
    return frame


def _line(members: Mapping[str, Any]) -> str:
    return inert(json.dumps(members, ensure_ascii=True, allow_nan=False, separators=(",", ":"))) + "\n"
