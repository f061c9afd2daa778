"""The search for causes, asked which formula gives the scales and shifts that an export holds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bninspect import causes
from bninspect.arithmetic.formula import Float64, Parameters
from bninspect.equivalence import folding
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.errors import BninspectError
from bninspect.records import BatchNorm, Cause, Form, Observation
from bninspect.records.graph import Kernel


def is_coarse(stored: Kernel) -> bool:
    """Return whether weights are rounded to more than float32."""
    return stored.weight_step is not None or stored.dtype != "float32"


def undone(kernel: Kernel, stored: Kernel) -> tuple[Float64, Float64] | None:
    """Return the scale and shift per channel that the export's operation holds; None if its weights are not scaled so.

    By least squares: scale = <W, W'> / <W, W>, shift = b' - b*scale.
    """
    if is_coarse(stored):
        return None
    weights, actual = kernel.weights.astype(np.float64), stored.weights.astype(np.float64)
    with np.errstate(all="ignore"):
        scale = (weights * actual).sum(axis=(0, 1)) / np.square(weights).sum(axis=(0, 1))
        bound = 16 * folding.U * np.abs(weights * scale) + 1e-30
    if not folding.fits(actual, weights * scale, bound):
        return None
    return scale, folding.zero_bias(stored) - folding.zero_bias(kernel) * scale


def ask_detective(
    norm: SourceNorm, lines: tuple[Float64, Float64] | None, others: Iterable[BatchNorm]
) -> tuple[list[Cause], int]:
    """Ask which formula gives these scales and shifts: they are what a kernel would compute with them."""
    if lines is None or not all(np.isfinite(one).all() for one in lines):
        return [], 0
    scale, shift = lines
    of = Parameters.of(norm.layer)
    deviation = np.where(np.isfinite(of.root) & (of.root > 0), of.root, 1.0).reshape(-1)
    steps = np.linspace(-3, 3, 13)[:, np.newaxis]
    x = (norm.affine.mean + steps * deviation).astype(np.float32)
    y = (x.astype(np.float64) * scale + shift).astype(np.float32)
    seen = Observation(norm.layer.name, "in-model", x, y, (1,), form=Form.FOLDED, loaded=norm.layer.arrays)
    try:
        explanation = causes.explain(norm.layer, [causes.sample(norm.layer, seen)], others)
    except BninspectError:
        return [], 0
    return list(explanation.causes), explanation.tried
