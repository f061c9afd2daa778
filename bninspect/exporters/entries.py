"""The layers of a checkpoint as every export format holds them: safe names, and the arrays that were asked for."""

from __future__ import annotations

import numpy as np

from bninspect.arithmetic.formula import affine
from bninspect.errors import BninspectError, UsageError
from bninspect.exporters.keys import keys
from bninspect.formats.export_metadata import ARRAYS, ExportEntry
from bninspect.records import Array, BatchNorm, Checkpoint
from bninspect.safe_text import printable


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


def fold(layer: BatchNorm) -> tuple[dict[str, Array], str]:
    """Return the arrays `scale` and `shift`, with `y = scale * x + shift`, and the name of their type.

    Both are computed in float64 with the epsilon that the file states, and rounded once to the stored type; to the
    one that holds all of them where a layer mixes types. bfloat16 is a float32 array here, as in `BatchNorm`.

    Raises:
        UsageError: epsilon is unknown, or the layer normalises by the statistics of its input.
        DamagedFile: an array that the formula needs is missing or of another shape.
        BninspectError: a scale or shift is not a number, or beyond the largest one of the stored type.
    """
    subject = f"layer '{printable(layer.name)}' cannot be folded"
    if why := layer.statistics.elsewhere:
        raise UsageError(
            subject,
            why=f"{why}, so it has no fixed scale",
            hint=_leave_out(layer),
        )
    stored = _common(layer.dtype)
    with np.errstate(invalid="ignore"):  # signalling NaNs; what comes of them is refused below
        exact = dict(zip(("scale", "shift"), affine(layer), strict=True))
    arrays = {name: rounded(values, stored) for name, values in exact.items()}
    for name, array in arrays.items():
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            value = exact[name].flat[bad[0]]
            why = f"its {name} would be {value:g} at channel {bad[0]}"
            beyond = f", too large for {stored}" if np.isfinite(value) else ""
            raise BninspectError(subject, why=why + beyond, hint=_leave_out(layer))
    return arrays, stored


def _leave_out(layer: BatchNorm) -> str:
    return f"--exclude-layer '{printable(layer.name)}', or export without --folded"


def _common(dtype: str) -> str:
    """Return the smallest type that holds all of `float16+bfloat16` and the like; integers become float64."""
    kinds = set(dtype.split("+"))
    if len(kinds) == 1 and kinds <= {"float16", "bfloat16", "float32"}:
        return dtype
    return "float32" if kinds <= {"float16", "bfloat16", "float32"} else "float64"


def rounded(exact: Array, dtype: str) -> Array:
    """Return float64 values rounded once to the nearest of `dtype`, ties to even; bfloat16 as float32."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype == "bfloat16":
            # 8 significant bits, and float32's exponents. Going through float32 would round twice.
            _, exponent = np.frexp(exact)
            unit = np.maximum(exponent - 8, -133)
            exact, dtype = np.ldexp(np.rint(np.ldexp(exact, -unit)), unit), "float32"
        return exact.astype(dtype)
