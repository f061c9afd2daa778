"""The JSON schema of the reports. It is derived from the records, so the two cannot disagree."""

from __future__ import annotations

import json
from importlib.resources import files

from bninspect.records import Report

FILE = "report.schema.json"


def text() -> str:
    """Return the schema as it ships with the package."""
    return (files("bninspect.reports") / FILE).read_text(encoding="utf-8")


def derive() -> str:
    """Return the schema of `Report` as JSON text (draft 2020-12).

    Fields may be added in 1.x, so objects are open, and a field that has a default need not be there.
    """
    import msgspec

    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bninspect report, version 1.0",
    }
    return json.dumps(head | msgspec.json.schema(Report), indent=2) + "\n"
