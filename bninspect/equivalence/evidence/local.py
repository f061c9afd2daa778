"""Each operation of an export, recomputed in float64 from the model's numbers on the input that the export gave it.

Of floats what came out must be within the bound of a sum of that many products, in any order, plus what folding may
have cost (folding.py). Of integers everything is exact but a few roundings: the numbers of the file are held against
the model's by half a step elsewhere (measuring.py), and here what the runtime made of the file's numbers against half a
step of the output. Operations that quantise their input on the way have a step of its range to spare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bninspect.arithmetic import kernels
from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels import Activation, Exact
from bninspect.equivalence import folding, measuring, tensors
from bninspect.equivalence.evidence.recomputing import activation_of, arithmetic_of, compute
from bninspect.equivalence.folding import FoldedKernel
from bninspect.equivalence.pairing.places import Place
from bninspect.errors import BninspectError
from bninspect.records import Array, Comparison, graph
from bninspect.records.graph import Kernel, Network, Node

OPERATION = "operation"
REQUANTISED = 0.01
"""Steps that a value between two joined operations may be off beyond half a one."""
_WIDE = 1.0
"""The same where the multiplier has 15 bits (int16 activations): 2^-15 of 2^15 steps."""
_HYBRID = 127.0
"""Steps between zero and the largest input of an operation that quantises its input."""


@dataclass(frozen=True, eq=False)
class Proof:
    """What the recomputation of an operation says."""

    compared: Comparison | None
    """What the runtime returned with what the operation makes of its input; None if it could not be recomputed."""
    why: str = ""
    """Why not."""
    value: Array | None = None
    """What the model's own numbers make of the export's input, in the layout of the export; NaN where not computed."""
    bound: float = 0.0
    """By how much a runtime that computes in float32 may be off of `value`, at most."""
    swing: float = 0.0
    """How far `value` is at most from what the operation makes of zeros: it depends visibly on its input by so much."""
    share: float = 1.0
    """How much of the output was recomputed."""
    cost: float | None = None
    """Of a quantised operation, how far its output is from `value` at most, in steps of the output."""
    cut: float = 0.0
    """Part of the outputs that are cut off at the ends of the range of their type."""
    needs: tuple[float, float] = (0.0, 0.0)
    """The range that would hold all that was made of the input."""


def prove(place: Place, network: Network, values: Mapping[str, Array], unit: float) -> Proof:
    """Return what the recomputation of one operation of the export says.

    Args:
        place: the operation, and the numbers that the model says it holds.
        network: what the export computes.
        values: what its runtime had at each value, integers as they are.
        unit: of the coarsest type in which the source computes.
    """
    node = place.node
    try:
        activation = activation_of(node)
        x, y = values[node.inputs[0]], values[node.outputs[0]]
        stored, quantised = node.kernel, network.quantised.get(node.outputs[0])
        assert stored is not None  # noqa: S101 - only such operations are matched
        if x.dtype.kind not in "fiu" or (y.dtype.kind != "f" and quantised is None):
            return Proof(None, "its input and output are not numbers that stand for reals")
        taken = tensors.real(x, network.quantised.get(node.inputs[0]))
        types = arithmetic_of(y, taken)
        taken, moved = tensors.on_steps(taken, node.inputs[0], network)
        if node.factor:
            taken = _multiplied(taken, tensors.real(values[node.factor], network.quantised.get(node.factor)))
        given = tensors.turned_back(tensors.real(y, quantised), node)
        should = folding.as_stored(place.expected, stored)
        exact = compute(node, taken, should, given)
        rows = exact.places.pick(given)
    except KeyError:
        return Proof(None, "its input or output cannot be seen")
    except BninspectError as error:
        return Proof(None, f"{error.what}{': ' + error.why if error.why else ''}")
    own = kernels.activate(activation, exact.value)
    found = Proof(
        None,
        value=_spread(own, exact, given),
        bound=_largest_bound(exact, activation)
        + (4 * unit * float(exact.magnitude.max(initial=0.0)) if unit > folding.U else 0.0),
        swing=_swing(own, should.bias, activation),
        needs=(float(own.min(initial=0.0)), float(own.max(initial=0.0))),
        share=exact.places.share,
    )
    if quantised is None and not node.quantises_input and stored.weight_step is None:
        bound = kernels.expect_sum(exact, activation, types).bound + _between(node, network, values)
        return replace(found, compared=_compared(rows, _where_known(own, rows, node, network, values, exact), bound))
    file = compute(node, taken, _of_file(stored), given)
    if quantised is None:
        expected = kernels.expect_sum(file, activation, types)
        spare = _on_the_way(node, taken, file) if node.quantises_input else moved * file.weight
        bound = expected.bound + spare + _between(node, network, values)
        return replace(
            found, compared=_compared(rows, _where_known(expected.value, rows, node, network, values, file), bound)
        )
    step = tensors.step(node.outputs[0], network)
    low, high = (float(end.max() if place == 0 else end.min()) for place, end in enumerate(tensors.reach(quantised)))
    plain = kernels.activate(activation, file.value)
    twice = _rounded_twice(node, network, step)
    bound = (
        step * (0.5 + (_WIDE if quantised.dtype == "int16" else twice))
        + 4 * folding.U * (file.magnitude + np.abs(plain))
        + _between(node, network, values)
    )
    clipped = _where_known(np.clip(plain, low, high), rows, node, network, values, exact)
    # A range that begins at zero is a relu that went into it.
    least = low - step if low < 0 else -np.inf
    gone = float(np.mean((plain < least) | (plain > high + step))) if plain.size else 0.0
    needs = (float(plain.min(initial=0.0)) if low < 0 else 0.0, float(plain.max(initial=0.0)))
    cost = float(np.abs(rows - np.clip(own, low, high)).max(initial=0.0)) / step if step else None
    return replace(
        found, compared=_compared(rows, clipped, np.broadcast_to(bound, plain.shape)), cost=cost, cut=gone, needs=needs
    )


def _multiplied(x: Array, factor: Array) -> Array:
    try:
        with np.errstate(all="ignore"):
            return np.asarray(x.astype(np.float64) * factor)
    except ValueError:
        raise BninspectError(f"inputs of shapes {x.shape} and {factor.shape} cannot be multiplied") from None


def _of_file(stored: Kernel) -> FoldedKernel:
    """Return the numbers of the file; where their step is a coarse type, the runtime may round them to it as well."""
    coarse = precision(stored.step_dtype).unit if stored.step_dtype != "float32" else 0.0
    none = np.zeros(stored.outputs)
    return FoldedKernel(stored.weights, folding.zero_bias(stored), coarse, none, none)


def _rounded_twice(node: Node, network: Network, step: float) -> Float64:
    """Return how many steps a fixed-point kernel may be off beyond half a one, of each channel.

    It multiplies a sum by s_x * s_w / s_y = m * 2^-shift, 1/2 <= m < 1, first by m, rounded, and shifts then, rounded
    again: half a unit before the shift is 2^-(shift+1) steps behind it. Without a shift there is nothing to round.
    """
    assert node.kernel is not None  # noqa: S101 - narrows the type
    steps = node.kernel.weight_step
    entering = tensors.step(node.inputs[0], network)
    if steps is None or not entering or not step:
        return np.full(node.kernel.outputs, 0.5)
    with np.errstate(all="ignore"):
        shift = -np.frexp(entering * np.asarray(steps, np.float64) / step)[1]
        return np.where(shift >= 1, 2.0 ** -(shift + 1.0), 2.0**-8)


def _compared(rows: Array, value: Float64, bound: Float64) -> Comparison:
    return measuring.measured(
        np.ascontiguousarray(rows, np.float64), value, bound, observed=OPERATION, reference=measuring.RECOMPUTED
    )


def _largest_bound(exact: Exact, activation: Activation) -> float:
    """Return by how much a float32 kernel with exactly these weights may be off at most, infinite if nobody can say."""
    if not exact.value.size:
        return 0.0
    with np.errstate(all="ignore"):
        most = np.maximum(exact.value.max(axis=0), -exact.value.min(axis=0))[np.newaxis]
    size = exact.magnitude.max(axis=0, keepdims=True)
    peak = kernels.expect_sum(
        replace(exact, value=most, magnitude=size, inexact=np.zeros_like(size)), activation
    ).bound.max()
    return float(peak) if np.isfinite(peak) else float("inf")


def _swing(value: Float64, bias: Float64, activation: Activation) -> float:
    """Return how far what an operation returns is at most from what it makes of zeros, which is its bias."""
    if not value.size:
        return 0.0
    still = kernels.activate(activation, bias)
    with np.errstate(all="ignore"):
        swing = float(np.maximum(value.max(axis=0) - still, still - value.min(axis=0)).max())
    return swing if np.isfinite(swing) else 0.0


def _between(node: Node, network: Network, values: Mapping[str, Array]) -> Float64 | float:
    """Return what the rounding of values between the joined pieces of an operation may cost."""
    total: Float64 | float = 0.0
    for name, gain in node.rounds.items():
        half = tensors.largest_step(tensors.grid(name, network)) * (0.5 + REQUANTISED)
        if not half and name in values and values[name].dtype == np.float16:
            half = precision("float16").unit * float(np.abs(values[name]).max(initial=0.0))
        total = total + half * gain
    return total


def _where_known(
    expected: Float64, rows: Array, node: Node, network: Network, values: Mapping[str, Array], exact: Exact
) -> Float64:
    """Return what is expected; where a value between the joined pieces of an operation stands at its end, what came.

    What it was is not known there. The numbers of the pieces are held against the model's all the same.
    """
    if not node.rounds:
        return expected
    return np.asarray(np.where(_cut_between(node, network, values, exact), rows, expected))


def _cut_between(node: Node, network: Network, values: Mapping[str, Array], exact: Exact) -> Array:
    """Return where a value between the joined pieces of an operation stands at the end of its type."""
    found = np.zeros(exact.value.shape, np.bool_)
    for name in node.rounds:
        quantised, stored = tensors.grid(name, network), values.get(name)
        if quantised is None or stored is None:
            continue
        reals = tensors.real(stored, network.quantised.get(name))
        below, above = tensors.at_ends(reals, quantised)
        ends = tensors.turned_back(below | above, node)
        fits = np.moveaxis(ends, exact.places.channel_axis, -1).shape[:-1] == exact.places.shape
        found |= exact.places.pick(ends) if fits else bool(ends.any())
    return found


def _on_the_way(node: Node, x: Array, exact: Exact) -> Float64:
    """Return what quantising the input of each sample to 8 bits may cost: half a step of its range, times sum |W|."""
    dense = node.operation == graph.DENSE
    rows = x.reshape(-1, x.shape[-1]) if dense else x.reshape(x.shape[0], -1)
    largest = np.abs(rows.astype(np.float64)).max(axis=1, initial=0.0)
    # A file may ask for one step for all samples; that of the largest is the coarsest.
    half = float(largest.max(initial=0.0)) / _HYBRID / 2 if largest.size else 0.0
    return np.broadcast_to(half * exact.weight, exact.value.shape)


def _spread(rows: Float64, exact: Exact, like: Array) -> Array:
    """Return rows of places as a tensor in the layout of the export, NaN where nothing was computed."""
    channels = exact.places.channel_axis
    last = np.moveaxis(like, channels, -1).shape
    whole = rows
    if exact.places.share < 1:
        whole = np.full((exact.places.total, rows.shape[1]), np.nan, np.float64)
        whole[exact.places.rows] = rows
    return np.asarray(np.moveaxis(whole.reshape(*last[:-1], rows.shape[1]), -1, channels), np.float64)
