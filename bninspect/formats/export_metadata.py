"""What an export says beside its arrays: the JSON text that exporters put in and formats read back.

It names every layer's arrays and holds everything else that is known of the layer, field by field as in
`records.BatchNorm`, so that nothing is lost on the way through a file. Numbers are exact: floats have their shortest
round-trip form, and those that JSON lacks are the texts "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from bninspect.errors import DamagedFile, UnreadableFile
from bninspect.formats.encodings import json_text
from bninspect.records import PARAMETERS, Array, BatchNorm, Checkpoint, codec
from bninspect.safe_text import printable
from bninspect.version import __version__

SCHEMA = "bninspect-export"
VERSION = 1
FORMULA = "gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta"
FOLDED_FORMULA = "scale * x + shift"
ARRAYS = (*PARAMETERS, "undecided")
"""Fields of `BatchNorm` that hold an array."""
SETTINGS = ("epsilon", "momentum", "axis")
"""Fields that an export may hold as an array too; the description has them in any case."""
LONGEST_TEXT = 32 << 20
MOST_CONTAINERS = 2_000_000
"""Most objects and lists in a description: Python makes some 100 bytes of each."""

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, eq=False)
class ExportEntry:
    """One layer as an export holds it."""

    layer: BatchNorm
    key: str
    """The layer's name as the first part of the names of its arrays, unique in the file and safe for any tool."""
    arrays: Mapping[str, Array]
    """By name: those of `ARRAYS` that the layer has or, folded, `scale` and `shift`; perhaps `SETTINGS`."""
    dtype: str
    """Type of the arrays as in `BatchNorm.dtype`; a bfloat16 array is a float32 one here."""

    def named(self) -> dict[str, Array]:
        """Return the arrays by the names that they have in the file, such as `bn1/gamma`."""
        return {f"{self.key}/{name}": array for name, array in self.arrays.items()}


def describe(checkpoint: Checkpoint, *, folded: bool) -> dict[str, Any]:
    """Return everything about an export but its layers, ready for `json.dumps`.

    The source is named without its folder: an export does not tell where on a machine it was made.
    """
    return {
        "schema": SCHEMA,
        "schema_version": VERSION,
        "tool": {"name": "bninspect", "version": __version__},
        "formula": FOLDED_FORMULA if folded else FORMULA,
        "folded": folded,
        "source": {
            "file": PurePath(checkpoint.path).name,
            "format": checkpoint.format,
            "writer": checkpoint.writer,
            "sha256": checkpoint.sha256,
            "bytes": checkpoint.bytes,
            "notes": list(checkpoint.notes),
        },
    }


def describe_layer(entry: ExportEntry) -> dict[str, Any]:
    """Return everything about a layer but its arrays, ready for `json.dumps`."""
    layer = entry.layer
    settings = {
        item.name: number(value) if isinstance(value, float) else codec.encode(value)
        for item in fields(layer)
        if item.name not in ARRAYS
        for value in [getattr(layer, item.name)]
    }
    return {**settings, "dtype": entry.dtype}


def number(value: float) -> float | str:
    """Return a float as JSON can hold it: itself, or the text "NaN", "Infinity" or "-Infinity"."""
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def to_text(checkpoint: Checkpoint, entries: Sequence[ExportEntry], *, folded: bool) -> str:
    """Return the description of an export whose arrays are named `<key>/<array>`; ASCII only."""
    layers = [
        {**describe_layer(entry), "arrays": {name: f"{entry.key}/{name}" for name in entry.arrays}} for entry in entries
    ]
    document = {**describe(checkpoint, folded=folded), "layers": layers}
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def from_text(text: str, arrays: Mapping[str, Array], path: Path, form: str) -> Checkpoint:
    """Return the checkpoint that an export was made from, as far as an export holds it.

    Args:
        text: what `to_text` made.
        arrays: the arrays of the file by their names, each of which must belong to one layer.
        path: the file.
        form: name of its format.

    Raises:
        UnreadableFile: it is folded, or of a later version.
        DamagedFile: text and arrays do not fit together, or the text is not one of ours.
    """
    document = strict_json(text, path)
    if document.get("schema") != SCHEMA or document.get("schema_version") != VERSION:
        raise UnreadableFile(
            f"{path} holds an export of a kind that is not read",
            why=f"{document.get('schema')!r} {document.get('schema_version')!r}, not '{SCHEMA}' {VERSION}",
            hint="pip install --upgrade bninspect",
        )
    if document.get("folded") is not False:
        raise UnreadableFile(
            f"{path} holds folded layers",
            why="gamma, beta, mean and variance cannot be told from scale and shift",
            hint="export it from the model again, without --folded",
        )
    try:
        source = document["source"]
        notes = codec.decode(tuple[str, ...], source["notes"])
        writer = codec.decode(str, source["writer"])
        layers = _layers(document["layers"], arrays)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _contradiction(path, str(error)) from error
    return Checkpoint(str(path), form, writer, layers, notes)


def _layers(described: list[dict[str, Any]], arrays: Mapping[str, Array]) -> tuple[BatchNorm, ...]:
    left = dict(arrays)
    layers = tuple(_layer(layer, left) for layer in described)
    if left:
        raise ValueError(f"no layer names the array '{next(iter(left))}'")
    return layers


def _layer(described: dict[str, Any], left: dict[str, Array]) -> BatchNorm:
    """Take the arrays of a layer out of `left` and return the layer."""
    settings = dict(described)
    names = dict(settings.pop("arrays"))
    for name in ("epsilon", "momentum"):
        settings[name] = _NON_FINITE.get(settings[name], settings[name])
    for name in SETTINGS:
        if name in names and not np.array_equal(left.pop(names.pop(name)), settings[name], equal_nan=True):
            raise ValueError(f"two values of {name} for the layer '{settings['name']}'")
    if not names.keys() <= set(ARRAYS) or settings.keys() & set(ARRAYS):
        raise ValueError(f"arrays of the layer '{settings['name']}'")
    found = [left.pop(key) for key in names.values()]
    if any(array.dtype.kind not in "fiu" for array in found):
        raise ValueError(f"an array of the layer '{settings['name']}' that does not hold numbers")
    places: dict[str, Any] = dict.fromkeys(ARRAYS)
    places.update((name, {"array": place}) for place, name in enumerate(names))
    return codec.decode(BatchNorm, {**settings, **places}, found)


def strict_json(text: str, path: Path) -> dict[str, Any]:
    """Return the JSON object that `text` of the file `path` is. Raises as `json_text.load`."""
    document = json_text.load(
        text, f"{path} has a description", characters=LONGEST_TEXT, containers=MOST_CONTAINERS, finite=True
    )
    if not isinstance(document, dict):
        raise _contradiction(path, "not a JSON object")
    return document


def _contradiction(path: Path, why: str) -> DamagedFile:
    return DamagedFile(
        f"{path} is damaged", why=f"its description: {printable(why)}", hint="export the parameters again"
    )
