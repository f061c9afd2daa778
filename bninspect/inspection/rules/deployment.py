"""Rules on what will not survive a conversion: to float16 or bfloat16, to scale and shift, to int8."""

from __future__ import annotations

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.rounding import narrowed, widened
from bninspect.inspection.rules.columns import Numbers, counted, listed, numbers, where
from bninspect.records import BatchNorm, Finding, Severity

LOST = 0.1
"""Share of a layer's usual output from which on an error is worth a finding."""

CANCELLING = 1e3
"""|mean| / deviation from which on scale and shift lose digits: the error is then 1.8e-4 of gamma."""

LARGEST = float(np.finfo(np.float16).max)

LEVELS = 254
"""A weight below one part in 254 of the largest is rounded to zero in int8: half a step."""


def float16_overflow(layer: BatchNorm) -> Finding | None:
    """BN130: a parameter, or the folded scale or shift, is too large for float16.

    It becomes infinite. An infinite variance is the worst: the scale becomes zero and the channel answers beta, a
    finite and plausible number. Mixed precision keeps the parameters in float32 and is safe; `model.half()`,
    a float16 policy of Keras 3 and converters that fold or cast the weights are not.

    What to do: keep this layer's parameters in float32, or scale what goes into it.

    Source: measured with torch 2.13, where a running_var of 70000 becomes infinite.

    Severity: warning.
    """
    found = numbers(layer)
    arrays = {name: widened(array).ravel() for name, array in layer.arrays.items()}
    if found is not None:
        arrays |= {"scale": found.scale, "shift": found.shift}
    # Nearly always nothing is near the limit, and no layer need be rounded to see that. fmax passes NaN over.
    if all(np.fmax.reduce(np.abs(of), initial=0) <= LARGEST for of in arrays.values()):
        return None
    over = {name: where(np.isfinite(of) & np.isinf(narrowed(of, "float16"))) for name, of in arrays.items()}
    over = {name: channels for name, channels in over.items() if channels.size}
    if not over:
        return None
    name, channels = next(iter(over.items()))
    worst = int(channels[np.abs(arrays[name][channels]).argmax()])
    return Finding(
        "BN130",
        Severity.WARNING,
        f"{name} overflows float16 in {counted(channels)}: channel {worst} has {arrays[name][worst]:g}, above 65504",
        {"arrays": {name: listed(channels) for name, channels in over.items()}, "largest": float(arrays[name][worst])},
        "keep this layer's parameters in float32 when the model goes to float16",
    )


def float16_precision(layer: BatchNorm) -> Finding | None:
    """BN131: with its parameters rounded to float16 the layer would compute something else.

    float16 has 11 binary digits and nothing below 6e-8: a mean that is large beside the deviation loses the digits that
    matter, a small variance and a small epsilon become zero. Reported where, within two deviations of the mean, the
    output would be off by more than a tenth of the layer's typical gamma.

    What to do: keep this layer's parameters in float32 when the model goes to float16.

    Source: measured: a variance of 1e-4 and a mean of 300 give an error twice the range of the output.

    Severity: note.
    """
    return _precision(layer, "BN131", "float16")


def bfloat16_precision(layer: BatchNorm) -> Finding | None:
    """BN132: with its parameters rounded to bfloat16 the layer would compute something else.

    bfloat16 has 8 binary digits: a mean of 50 deviations is already off by a tenth of one. Reported where, within two
    deviations of the mean, the output would be off by more than a tenth of the layer's typical gamma.

    What to do: keep this layer's parameters in float32 when the model goes to bfloat16.

    Severity: note.
    """
    return _precision(layer, "BN132", "bfloat16")


def _precision(layer: BatchNorm, code: str, kind: str) -> Finding | None:
    found = numbers(layer)
    if found is None or layer.epsilon is None or layer.dtype == kind:
        return None
    error, typical = _narrowing_error(found, layer.epsilon, kind)
    if not typical > 0:
        return None
    channels = where(error > LOST * typical)
    if not channels.size:
        return None
    worst = int(channels[error[channels].argmax()])
    lost = float(error[worst] / typical)
    by = f"by up to {lost:.2g} times gamma" if np.isfinite(lost) else "to infinity"
    return Finding(
        code,
        Severity.NOTE,
        f"parameters in {kind} would change the output of {counted(channels)} {by}: channel {worst} has "
        f"mean {found.mean[worst]:g} and variance {found.variance[worst]:g}",
        {"channels": listed(channels), "count": int(channels.size), "error": lost},
        f"keep this layer's parameters in float32 when the model goes to {kind}",
    )


def _narrowing_error(found: Numbers, epsilon: float, kind: str) -> tuple[Float64, float]:
    """Return the largest change of y within two deviations of the mean, per channel, and the layer's typical gamma.

    The change is infinite where the denominator becomes zero. It is NaN where there is no sound scale to begin with,
    which is for BN101, BN102 and BN106 to say, or where a parameter overflows, which is BN130.
    """
    rounded = narrowed(np.stack([found.gamma, found.beta, found.mean, found.variance]), kind)
    gamma, beta, mean, variance = rounded
    (narrow,) = narrowed(np.array([epsilon]), kind)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + narrow)
        at_mean = np.abs((found.mean - mean) * scale + (beta - found.beta))
        # At two deviations either side this is added to the change at the mean on one, and taken from it on the other.
        beside = 2 * np.sqrt(np.maximum(found.variance, 0)) * np.abs(scale - found.scale)
        change = at_mean + beside
    change[np.isnan(change)] = np.inf
    sound = np.isfinite(rounded).all(0) & np.isfinite(found.scale) & np.isfinite(found.shift)
    return np.where(sound, change, np.nan), _median(np.abs(found.gamma[np.isfinite(found.gamma)]))


def _median(values: Float64) -> float:
    """Return the median, 0 of no values. np.median imports numpy.ma, which takes longer than all rules."""
    ordered = np.sort(values)
    return float(ordered[(values.size - 1) // 2] + ordered[values.size // 2]) / 2 if values.size else 0.0


def cancellation(layer: BatchNorm) -> Finding | None:
    """BN133: the mean is so large beside the deviation that scale and shift lose digits.

    A runtime that computes x * scale + shift (folded models, Keras 3, TFLite, ONNX Runtime, XLA) subtracts two large
    numbers where the formula subtracts the mean first: its error is about 3 * 2^-24 * |mean| / sqrt(variance +
    epsilon) of gamma. Runtimes differ by that much with nobody at fault. A note from 1000 on (0.02 %), a warning from
    100000 on (2 %).

    What to do: centre what goes into this layer, or keep it unfolded and in a runtime that subtracts the mean first.

    Source: the bounds of this program (AFFINE and CENTRED), measured on ten runtimes.

    Severity: note, or warning from 100000 on.
    """
    found = numbers(layer)
    if found is None:
        return None
    with np.errstate(all="ignore"):
        ratio = np.abs(found.mean) / found.root
    channels = where(np.isfinite(ratio) & (ratio > CANCELLING))
    if not channels.size:
        return None
    worst = int(channels[ratio[channels].argmax()])
    lost = 3 * precision("float32").unit * float(ratio[worst])
    return Finding(
        "BN133",
        Severity.WARNING if ratio[worst] > 100 * CANCELLING else Severity.NOTE,
        f"the mean is {ratio[worst]:.3g} deviations from zero in channel {worst} ({counted(channels)} above "
        f"{CANCELLING:g}): x * scale + shift loses {lost:.2%} of gamma there",
        {"channels": listed(channels), "count": int(channels.size), "ratio": float(ratio[worst]), "lost": lost},
        "centre what goes into this layer, or keep it unfolded in a runtime that subtracts the mean first",
    )


def int8_spread(layer: BatchNorm) -> Finding | None:
    """BN134: folded scales differ so much that one int8 scale for all channels loses the small ones.

    Folding multiplies the weights of each output channel by gamma / sqrt(variance + epsilon). With one quantisation
    scale for the whole tensor, a channel whose scale is less than one part in 254 of the largest has all its weights
    rounded to zero, if the kernels are alike. Channels that gamma switches off do not count.

    What to do: quantise per channel, or equalise the channels first.

    Source: measured with TFLite: a spread of the variances of 1e4 costs up to 82 % of a channel in int8. Nagel et al.,
    "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019.

    Severity: note.
    """
    found = numbers(layer)
    if found is None:
        return None
    scale = np.abs(found.scale)
    live = np.isfinite(scale) & (scale > 0) & (np.abs(found.gamma) >= 1e-3)
    if not live.any():
        return None
    largest = float(scale[live].max())
    channels = where(live & (scale * LEVELS < largest))
    if not channels.size:
        return None
    spread = largest / float(scale[channels].min())
    return Finding(
        "BN134",
        Severity.NOTE,
        f"folded scales spread by a factor of {spread:.3g}: int8 weights with one scale per tensor lose "
        f"{counted(channels)} of {scale.size}",
        {"channels": listed(channels), "count": int(channels.size), "spread": spread},
        "quantise per channel, or equalise the channels first",
    )
