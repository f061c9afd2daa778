"""Tensors of a source and of its export: brought into the same order, and compared end to end.

The two runtimes get the same input, and every layer before adds its rounding, which the next ones scale. So no bound of
one layer holds here. What is allowed is a multiple of the rounding of a layer of this size, per channel
u * (|a*x| + |mean*a| + |beta|) at its largest, times the number of layers that came before. Where one of the two holds
float16 or bfloat16, it is a rounding of that type. That is a check of the whole, not a proof: the proof of a layer is
its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.layout import aligned
from bninspect.conversion import measuring
from bninspect.conversion.folding import U
from bninspect.records import Array, Comparison

PER_LAYER = 64.0
"""Roundings that each layer may add to the difference. Measured on forty models: at most 18."""
_ENDS = 16
"""Layers that may lie behind the last batch norm: dense layers, softmax."""
_MOST = 65536.0
"""Roundings in all, from which on an error is visible whatever the number of layers: 0.4 % of a layer's size."""
_PER_ROUGH_LAYER = 4.0
"""Roundings to float16 or bfloat16 that each layer may add: of its input, its weights, its sum and its result. Measured
on MobileNetV2 and ResNet50 with float16 weights and on a model of mixed precision: at most 1.7."""
_MOST_ROUGH = 1 / 16
"""Part of a layer's size that is an error whatever its type."""


def allowed(depth: int, dtype: str) -> float:
    """Return the part of its size by which a number may be off behind `depth` layers.

    Args:
        depth: number of layers up to this one, itself included.
        dtype: the coarsest type to which numbers were rounded on the way.
    """
    unit = precision(dtype).unit
    if unit <= U:
        return min(PER_LAYER * depth, _MOST) * U
    return min(_PER_ROUGH_LAYER * depth * unit, _MOST_ROUGH)


LOUD = 8
"""How many times larger the second of two samples is: so large that relu6 is not relu."""


def by_sample(depth: int, dtype: str, shape: tuple[int, ...], *, loud: bool) -> Float64:
    """Return `allowed` for an array of `shape`, whose second sample is loud if `loud`.

    What saturates makes small differences of large numbers: only large differences of a loud sample are errors.
    """
    part = allowed(depth, dtype)
    if not loud:
        return np.full((1,) * len(shape), part)
    wide = min(LOUD**2 * part, _MOST_ROUGH)
    parts = [part, wide] if shape[:1] == (2,) else [wide]
    return np.array(parts).reshape(-1, *[1] * (len(shape) - 1))


def activated(values: Float64, activation: str) -> Float64 | None:
    """Return what a fused activation makes of `values`; None for one that is not known."""
    match activation:
        case "":
            return values
        case "relu":
            return np.maximum(values, 0.0)
        case "relu6":
            return np.clip(values, 0.0, 6.0)
        case "relu n1 to 1":
            return np.clip(values, -1.0, 1.0)
        case "tanh":
            return np.tanh(values)
    return None


def ends(
    source: Float64, export: Array, depth: int, *, observed: str, dtype: str = "float32", loud: bool = False
) -> Comparison | None:
    """Compare an output of the export with that of the source, behind `depth` layers.

    Its size is that of the largest element: what it is a sum of nobody says. Arguments and None as for `compared`.
    """
    values = aligned(export, source.shape, source)
    if values is None:
        return None
    with np.errstate(all="ignore"):
        largest = float(np.abs(source).max(initial=0.0))
        # Kernels cut sigmoid off, ONNX Runtime's at -18: a probability is right to a rounding of 1, not of itself.
        least = U if bool(((source >= 0) & (source <= 1)).all()) else 1e-30
    parts = by_sample(depth + _ENDS, dtype, source.shape, loud=loud)
    bound = np.broadcast_to(parts * largest + least, source.shape)
    axis = max(source.ndim - 1, 0)
    return measuring.measured(values, source, bound, observed=observed, reference=measuring.SOURCE, axis=axis)


def paired(
    source: Sequence[Array], export: Mapping[str, Array], depth: int, dtype: str, *, loud: bool = False
) -> Mapping[int, str]:
    """Return the output of the export that is each output of the source, by its place; what has none is not there.

    Converters sort outputs and give them names of their own. So the nearest ones of fitting shapes belong together.
    """
    ratios: list[tuple[float, int, str]] = []
    for place, own in enumerate(source):
        for name, values in export.items():
            one = ends(own.astype(np.float64), values, depth, observed="", dtype=dtype, loud=loud)
            if one is not None:
                ratios.append((float("inf") if one.ratio is None else one.ratio, place, name))
    found: dict[int, str] = {}
    for _, place, name in sorted(ratios, key=lambda one: one[0]):
        if place not in found and name not in found.values():
            found[place] = name
    return found


def compared(
    source: Float64, export: Array, size: Float64, depth: int, *, axis: int, dtype: str = "float32", loud: bool = False
) -> Comparison | None:
    """Compare a tensor of the export with that of the source.

    Args:
        source: what the source's runtime returned, activated as the export does it.
        export: what the export's runtime returned, of any order of axes.
        size: largest |a*x| + |mean*a| + |beta| of each channel, shape (C,).
        depth: number of layers up to this one, itself included.
        axis: axis of `source` that the channels are along.
        dtype: the coarsest type to which numbers were rounded on the way.
        loud: whether the second of two samples is `LOUD` times larger than the first.

    Returns:
        None if no order of the export's axes has the shape of the source.
    """
    values = aligned(export, source.shape, source)
    if values is None:
        return None
    # A channel that is dead has no size of its own, and may still get the rounding of the others.
    size = np.maximum(size, U * float(size.max(initial=0.0)))
    shape = [-1 if one == axis else 1 for one in range(source.ndim)]
    with np.errstate(all="ignore"):
        bound = by_sample(depth, dtype, source.shape, loud=loud) * size.reshape(shape) + 1e-30
    wide = np.broadcast_to(bound, source.shape)
    return measuring.measured(values, source, wide, observed=measuring.OUTPUT, reference=measuring.SOURCE, axis=axis)
