"""Dynamic-range quantisation: weights are stored as whole numbers, inputs are quantised at run time by their own range.

The kernel takes the range of its input (of each batch or row, or of all of it), quantises it to 8 bits, sums whole
numbers exactly and multiplies by both steps in float32. Each x is off by half a step: sum |W_q| s_x / 2 more than a
float kernel with the dequantised weights W_q. ONNX: DynamicQuantizeLinear with ConvInteger or MatMulInteger.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels.products import Exact
from bninspect.records import Array


def own_step(x: Array, axes: tuple[int, ...], *, symmetric: bool) -> Float64:
    """Return the step of a dynamic-range kernel, which quantises its input by its own range at run time.

    Kernels that are symmetric take max|x| / 127; others (max - min) / 255, where the range includes 0. An input is off
    by half of it: by rounding, and at an end no more, although the zero point is rounded too.

    Args:
        x: the input.
        axes: that the range is taken over: all but the batch for a convolution of LiteRT, the last one for a dense
            layer, all for DynamicQuantizeLinear of ONNX.
        symmetric: which of both.

    Returns:
        The steps, with the axes kept as 1; rounded up by what the kernel's float32 may add.
    """
    wide = x.astype(np.float64)
    low, high = wide.min(axis=axes, keepdims=True, initial=0.0), wide.max(axis=axes, keepdims=True, initial=0.0)
    with np.errstate(all="ignore"):
        step = np.maximum(-low, high) / 127 if symmetric else (high - low) / 255
    return np.asarray(step * (1 + 1024 * precision("float32").unit))


def with_own_range(exact: Exact, step: Float64) -> Exact:
    """Return sums whose input the kernel quantises by its own range (dynamic range): sum |W| s_x / 2 more may be off.

    Args:
        exact: of float x, and the file's dequantised weights (or the model's, with what they may be off).
        step: of `own_step`, without the axis of the channels: it broadcasts against the places.
    """
    rows = np.broadcast_to(step, exact.places.shape).reshape(-1)[exact.places.rows, np.newaxis]
    with np.errstate(all="ignore"):
        inexact = exact.inexact + 0.5 * rows * exact.weight
    # The sum of whole numbers is exact; its product with both steps and the bias round four times.
    return replace(exact, inexact=inexact, terms=max(exact.terms, 4))
