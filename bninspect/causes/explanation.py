"""What `explain` computes: the arithmetic of a layer with its numbers in it, and which formula gave other outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from bninspect import causes
from bninspect.arithmetic import compare
from bninspect.arithmetic.bounds import EVERY_FORM
from bninspect.arithmetic.formula import Float64, Parameters
from bninspect.causes.fit import mark, predicted
from bninspect.causes.given_text import Typed
from bninspect.causes.predict import View
from bninspect.errors import UsageError
from bninspect.records import Array, BatchNorm, Observation
from bninspect.records.explained import ChannelArithmetic, Explained, FoldedChannel
from bninspect.safe_text import printable

SHOWN = 8
"""Channels or elements whose arithmetic is shown."""


def loose(
    *,
    gamma: Typed | None,
    beta: Typed | None,
    mean: Typed,
    variance: Typed,
    epsilon: float | None,
    x: Typed | None,
    y: Typed | None,
) -> Explained:
    """Explain numbers that were typed: one value per channel, or one for all channels.

    Args:
        gamma: 1 if it is None.
        beta: 0 if it is None.
        mean: of each channel.
        variance: of each channel.
        epsilon: None if it is what is asked for.
        x: one or more inputs of a single channel, or one of each channel.
        y: the outputs that some code gave for them.

    Raises:
        UsageError: the numbers do not belong together.
    """
    given = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    parameters = {name: typed for name, typed in given.items() if typed is not None}
    channels = max(typed.size for typed in parameters.values())
    wide = {name: _spread(typed, channels, f"--{name}") for name, typed in parameters.items()}
    arrays = {name: typed.values.astype(np.float32) for name, typed in wide.items()}
    layer = BatchNorm(
        "the numbers given",
        arrays.get("gamma"),
        arrays.get("beta"),
        arrays["mean"],
        arrays["variance"],
        epsilon,
        axis=(1,),
    )
    return typed_inputs(layer, x, y, {name: typed.half_digits for name, typed in wide.items()})


def _spread(typed: Typed, size: int, option: str) -> Typed:
    if typed.size == size:
        return typed
    if typed.size != 1:
        raise UsageError(
            f"{option} has {typed.size} numbers",
            why=f"others have {size}",
            hint="give one number for each channel, or one for all",
        )
    return Typed(np.repeat(typed.values, size), np.repeat(typed.half_digits, size))


def typed_inputs(
    layer: BatchNorm, x: Typed | None, y: Typed | None, half_digits: Mapping[str, Float64] | None = None
) -> Explained:
    """Explain typed inputs, and outputs for them, of a layer; without inputs, its scale and shift.

    Args:
        layer: with parameters of shape (C,).
        x: inputs of the only channel, or one input of each channel.
        y: as many outputs.
        half_digits: by how much the parameters may be off, by their role (`gamma`, `beta`, `mean`, `variance`).

    Raises:
        UsageError: inputs and outputs do not belong together, or there is nothing to compute without epsilon.
    """
    channels = layer.channels
    if x is None:
        if y is not None:
            raise UsageError("--y needs --x", why="an output says nothing without its input")
        return shown(layer)
    if channels > 1:
        x = _spread(x, channels, "--x")
    if y is not None and y.size != x.size:
        raise UsageError(f"--x has {x.size} numbers, --y has {y.size}", hint="give one output for each input")
    inputs = x.values.reshape(-1, channels)
    outputs = np.zeros(inputs.shape) if y is None else y.values.reshape(inputs.shape)
    observation = Observation(layer.name, "given", inputs, outputs, (1,))
    digits = {**(half_digits or {}), "x": x.half_digits}
    if y is not None:
        digits["y"] = y.half_digits
    sample = replace(causes.sample(layer, observation, forms=EVERY_FORM), half_digits=digits)
    return Explained(
        layer.name,
        channels,
        layer.epsilon,
        arithmetic=_arithmetic(layer, sample, given=y is not None),
        explanation=None if y is None else causes.explain(layer, [sample]),
    )


def _arithmetic(layer: BatchNorm, sample: causes.Sample, *, given: bool) -> tuple[ChannelArithmetic, ...]:
    """Return the arithmetic of the elements of a sample, the worst first if outputs were given."""
    if layer.epsilon is None:
        if not given:
            raise UsageError(
                "nothing can be computed without epsilon",
                hint="pass --epsilon 0.001, the default of Keras, or the value that the layer was built with",
            )
        return ()
    view = View.of(layer, sample)
    said, ratio = predicted((), view), mark((), view).ratio
    reading = view.reading()
    with np.errstate(all="ignore"):
        root = reading.root(reading.variance, reading.epsilon)
        normalised = (reading.x - reading.mean) / root
    order = np.argsort(-ratio, kind="stable") if given else np.arange(ratio.size)
    return tuple(
        ChannelArithmetic(
            channel=int(view.channel[i]),
            x=float(reading.x[i]),
            gamma=float(reading.gamma[i]),
            beta=float(reading.beta[i]),
            mean=float(reading.mean[i]),
            variance=float(reading.variance[i]),
            epsilon=layer.epsilon,
            root=float(root[i]),
            normalised=float(normalised[i]),
            expected=float(said.y[i]),
            given=float(sample.y[i]) if given else None,
            bound=float(said.bound[i]) if given else None,
        )
        for i in order[:SHOWN]
    )


def shown(layer: BatchNorm, channels: tuple[int, ...] | None = None) -> Explained:
    """Return what the channels of a layer do to x; the first eight of them if none are named. Errors as `folded`."""
    chosen = range(layer.channels) if channels is None else channels
    return Explained(layer.name, layer.channels, layer.epsilon, folded=folded(layer, chosen), notes=layer.notes)


def folded(layer: BatchNorm, channels: Iterable[int]) -> tuple[FoldedChannel, ...]:
    """Return what channels do to x: at most the first eight of those given.

    Raises:
        UsageError: the layer has no such channel, or its epsilon is unknown.
        DamagedFile: a parameter is missing.
    """
    parameters = Parameters.of(layer, "float64")
    chosen = list(channels)[:SHOWN]
    if any(not 0 <= channel < layer.channels for channel in chosen):
        raise UsageError(f"{printable(layer.name)} has the channels 0 to {layer.channels - 1}")
    columns = [parameters.gamma, parameters.beta, parameters.mean, parameters.variance]
    columns += [parameters.root, parameters.slope, parameters.intercept]
    rows = np.stack([column.ravel() for column in columns], axis=1)
    return tuple(FoldedChannel(channel, *(float(number) for number in rows[channel])) for channel in chosen)


def channel_of(layer: BatchNorm, channel: int) -> BatchNorm:
    """Return a layer that is one channel of a layer.

    Raises:
        UsageError: there is no such channel.
    """
    if not 0 <= channel < layer.channels:
        raise UsageError(f"{printable(layer.name)} has the channels 0 to {layer.channels - 1}, not {channel}")
    gamma, beta, mean, variance = (
        None if array is None else array.ravel()[channel : channel + 1]
        for array in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    return replace(
        layer,
        name=f"{layer.name}, channel {channel}",
        gamma=gamma,
        beta=beta,
        moving_mean=mean,
        moving_variance=variance,
        axis=(1,),
    )


def against(layer: BatchNorm, x: Array, y: Array, axis: tuple[int, ...], others: Iterable[BatchNorm] = ()) -> Explained:
    """Compare what any code computed for a layer with the formula, and explain the difference.

    Args:
        layer: the stored layer.
        x: its inputs, any shape.
        y: the outputs, of the same shape; their type is the one that the code rounded to.
        axis: axes of x that the parameters run along, each 0 <= axis < x.ndim.
        others: further layers of the model, whose parameters may have been used by mistake.

    Raises:
        UsageError: shapes or types do not belong together.
    """
    if x.shape != y.shape or not x.size:
        hint = "give one output for each input"
        fewer = [a for a in axis if x.ndim == y.ndim and y.shape[a] < x.shape[a]]
        if fewer and np.delete(x.shape, fewer).tolist() == np.delete(y.shape, fewer).tolist():
            hint = f"the output lacks {x.shape[fewer[0]] - y.shape[fewer[0]]} of {x.shape[fewer[0]]} channels"
        raise UsageError(f"the input has shape {x.shape}, the output {y.shape}", hint=hint)
    if any(array.dtype.kind not in "fiu" for array in (x, y)):
        raise UsageError(f"input and output hold {x.dtype} and {y.dtype}", why="only numbers can be compared")
    lengths = [x.shape[a] for a in sorted(axis)]
    if int(np.prod(lengths)) != layer.channels:
        raise UsageError(
            f"{printable(layer.name)} has {layer.channels} channels",
            why=f"axis {', '.join(map(str, axis))} of the input has {lengths}",
            hint="pass --axis, the axis of the input along which the channels are",
        )
    observation = observed(layer.name, x, y, axis)
    sample = causes.sample(layer, observation, forms=EVERY_FORM)
    comparison = None if layer.epsilon is None else compare.judge_unknown(observation, layer)
    return Explained(
        layer.name,
        layer.channels,
        layer.epsilon,
        arithmetic=_arithmetic(layer, sample, given=True),
        comparison=comparison,
        explanation=causes.explain(layer, [sample], others),
        notes=layer.notes,
    )


def observed(name: str, x: Array, y: Array, axis: tuple[int, ...], how: str = "given") -> Observation:
    """Return a call of code that nobody knows; doubles that float32 holds, and whole numbers, are those of float32.

    Args:
        name: of the stored layer.
        x: its inputs, any shape.
        y: its outputs, floats or whole numbers, of the same shape.
        axis: axes of x that the parameters run along, each 0 <= axis < x.ndim.
        how: what the observation is called.
    """
    # Signalling NaNs become quiet ones: NumPy warns of the others wherever it widens them.
    y = np.where(np.isnan(y), np.asarray(np.nan, y.dtype), y) if y.dtype.kind == "f" else y.astype(np.float32)
    with np.errstate(over="ignore"):
        single = y.astype(np.float32)
    if y.dtype.itemsize == 8 and np.array_equal(single, y, equal_nan=True):
        y = single
    return Observation(name, how, x, np.ascontiguousarray(y), axis, output=y.dtype.name)
