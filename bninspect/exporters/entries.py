"""The layers of a checkpoint as every export format holds them: safe names, and the arrays that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bninspect.exporters.folding import fold
from bninspect.exporters.keys import keys
from bninspect.formats.export_metadata import ARRAYS, ExportEntry

if TYPE_CHECKING:
    from bninspect.records import BatchNorm, Checkpoint


def entries(checkpoint: Checkpoint, *, folded: bool) -> list[ExportEntry]:
    """Return an entry for each layer, in the model's order; also for one without any array. Raises as `fold`."""
    layers = checkpoint.layers
    return [
        _entry(layer, key, folded=folded)
        for layer, key in zip(layers, keys(layer.name for layer in layers), strict=True)
    ]


def _entry(layer: BatchNorm, key: str, *, folded: bool) -> ExportEntry:
    if folded:
        arrays, dtype = fold(layer)
        return ExportEntry(layer, key, arrays, dtype)
    arrays = {name: array for name in ARRAYS if (array := getattr(layer, name)) is not None}
    return ExportEntry(layer, key, arrays, layer.dtype)
