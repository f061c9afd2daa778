"""The JSON schema of the reports. It is derived from the records, so the two cannot disagree."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from importlib.resources import files
from typing import Any, Union, get_args, get_origin, get_type_hints

from bninspect.records import Report

FILE = "report.schema.json"
_PRIMITIVES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def text() -> str:
    """Return the schema as it ships with the package."""
    return (files("bninspect.reports") / FILE).read_text(encoding="utf-8")


def derive() -> str:
    """Return the schema of `Report` as JSON text (draft 2020-12).

    Fields may be added in 1.x, so objects are open, and a field that has a default need not be there.
    """
    definitions: dict[str, Any] = {}
    root = _schema(Report, definitions)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bninspect report, version 1.0",
        **root,
    }
    return json.dumps({**head, "$defs": dict(sorted(definitions.items()))}, indent=2) + "\n"


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin = get_origin(kind)
    if kind is Any:
        return {}
    if origin in (Union, types.UnionType):
        return _union([_schema(one, definitions) for one in get_args(kind)])
    if kind is type(None):
        return {"type": "null"}
    if origin is tuple:
        return {"type": "array", "items": _schema(get_args(kind)[0], definitions)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(get_args(kind)[1], definitions)}
    if is_dataclass(kind):
        return _record(kind, definitions)
    if issubclass(kind, Enum):
        return {"enum": [one.value for one in kind]}
    return {"type": _PRIMITIVES[kind]}


def _union(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    if all(set(schema) == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}


def _record(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}
        hints = get_type_hints(kind)
        required = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
        definitions[name] = {
            "type": "object",
            "required": required,
            "properties": {one.name: _schema(hints[one.name], definitions) for one in fields(kind)},
        }
    return {"$ref": f"#/$defs/{name}"}
