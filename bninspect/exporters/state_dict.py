"""PyTorch's names: what `load_state_dict` takes, as safetensors or as .npz."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bninspect.errors import UsageError
from bninspect.exporters.entries import entries
from bninspect.exporters.safetensors import assembled
from bninspect.formats.torch.running_statistics import EPSILON, FIELDS
from bninspect.records import Array, Checkpoint, Statistics
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.export_metadata import ExportEntry

_BATCHES = "num_batches_tracked"


def encode(checkpoint: Checkpoint, *, folded: bool) -> bytes:
    """Return a safetensors file with `<layer>.weight`, `.bias`, `.running_mean` and `.running_var` for each layer.

    Slashes in a layer's name become dots. Of gamma and beta torch has both or none, so a missing one is written as
    ones or zeros where the other is there. The metadata hold epsilon, which a state_dict does not, as JSON by layer.

    Raises:
        UsageError: folded, for which torch has no names; statistics that are not the moving ones; two names that are
            one in torch.
    """
    tensors = {name: (array, dtype) for name, array, dtype in _tensors(checkpoint, folded=folded)}
    return assembled(tensors, {"format": "pt", EPSILON: json.dumps(_epsilons(checkpoint))})


def encode_npz(checkpoint: Checkpoint, *, folded: bool) -> bytes:
    """Return the same as a .npz file, with `<layer>.eps` for each known epsilon. Raises as `encode`."""
    arrays = {name: array for name, array, _ in _tensors(checkpoint, folded=folded)}
    arrays |= {f"{name}.eps": np.array(epsilon) for name, epsilon in _epsilons(checkpoint).items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _tensors(checkpoint: Checkpoint, *, folded: bool) -> Iterator[tuple[str, Array, str]]:
    if folded:
        raise UsageError("torch has no folded batch norm", hint="export scale and shift: -f safetensors --folded")
    for name, entry in _named(checkpoint):
        layer = entry.layer
        if layer.statistics is not Statistics.MOVING or layer.undecided is not None:
            raise UsageError(
                f"layer '{printable(layer.name)}' has no form in torch",
                why="it does not use its own moving statistics, or an array may be gamma or beta",
                hint=f"--exclude-layer '{printable(layer.name)}'",
            )
        arrays = dict(layer.arrays)
        if arrays.keys() & {"gamma", "beta"}:
            like = next(iter(arrays.values()))
            arrays = {"gamma": np.ones_like(like), "beta": np.zeros_like(like), **arrays}
        for field, array in arrays.items():
            yield f"{name}.{FIELDS[field]}", array.reshape(-1), entry.dtype
        yield f"{name}.{_BATCHES}", np.array(0, np.int64), "int64"


def _named(checkpoint: Checkpoint) -> Iterator[tuple[str, ExportEntry]]:
    """Yield the layers with their names in torch. Raises UsageError if two have the same: `a/b` and `a.b`."""
    taken: set[str] = set()
    for entry in entries(checkpoint, folded=False):
        name = entry.key.replace("/", ".")
        if name in taken:
            raise UsageError(
                f"two layers would be called {printable(name)!r} in torch",
                why="a slash in a layer's name becomes a dot",
                hint=f"--exclude-layer '{printable(entry.layer.name)}'",
            )
        taken.add(name)
        yield name, entry


def _epsilons(checkpoint: Checkpoint) -> dict[str, float]:
    return {name: entry.layer.epsilon for name, entry in _named(checkpoint) if entry.layer.epsilon is not None}
