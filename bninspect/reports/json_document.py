"""The JSON document: the Report, field by field."""

from __future__ import annotations

import json

from bninspect.records import Report, codec


def render(report: Report) -> str:
    """Return the report as JSON: ASCII, floats in their shortest exact form, no NaN and no Infinity."""
    return inert(json.dumps(codec.encode(report), indent=2, ensure_ascii=True, allow_nan=False)) + "\n"


def inert(document: str) -> str:
    """Return the same JSON without `##`, which begins a command of Azure Pipelines (`##vso[`) wherever it stands."""
    return document.replace("##", "#\\u0023")


def parse(text: str) -> Report:
    """Return the report of a document that `render` made. Raises ValueError for anything else."""
    return codec.decode(Report, json.loads(text))
