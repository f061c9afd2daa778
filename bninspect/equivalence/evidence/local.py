"""Each operation of an export, recomputed in float64 from the model's numbers on the input that the export gave it.

Of floats what came out must be within the bound of a sum of that many products, in any order, plus what folding may
have cost (folding.py). Of integers everything is exact but a few roundings: the numbers of the file are held against
the model's by half a step elsewhere (measuring.py), and here what the runtime made of the file's numbers against half a
step of the output and what its kernel may add (arithmetic/kernels/requantisation.py). Operations that quantise their
input on the way have half a step of its own range to spare (arithmetic/kernels/dynamic_range.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bninspect.arithmetic import kernels
from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels import Activation, Exact, Requantisation, addition_error, multiplication_error
from bninspect.equivalence import folding, measuring, tensors
from bninspect.equivalence.evidence.recomputing import activation_of, arithmetic_of, compute
from bninspect.equivalence.folding import FoldedKernel
from bninspect.equivalence.pairing.places import Place
from bninspect.errors import BninspectError
from bninspect.records import Array, Comparison, graph
from bninspect.records.graph import Kernel, Network, Node

OPERATION = "operation"


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
        file = _quantised_on_the_way(node, taken, file)
        expected = kernels.expect_sum(file, activation, types)
        with np.errstate(all="ignore"):
            bound = expected.bound + moved * file.weight + _between(node, network, values)
        return replace(
            found, compared=_compared(rows, _where_known(expected.value, rows, node, network, values, file), bound)
        )
    step = tensors.step(node.outputs[0], network)
    low, high = (float(end.max() if place == 0 else end.min()) for place, end in enumerate(tensors.reach(quantised)))
    plain = kernels.activate(activation, file.value)
    within = np.clip(plain, low, high)
    with np.errstate(all="ignore"):
        bound = (
            step * (0.5 + _requantised(node, network, node.outputs[0], np.abs(within), file.magnitude))
            # Sums of whole numbers are exact, the float64 here is not; a file states the step of the bias in float32.
            + kernels.sum_bound(file, kernels.FLOAT64)
            + 2 * folding.U * np.abs(folding.zero_bias(stored))
            + _between(node, network, values)
        )
    clipped = _where_known(within, rows, node, network, values, exact)
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


def _requantised(
    node: Node, network: Network, name: str, value: Float64, size: Float64, gain: Float64 | float = 1.0
) -> Float64:
    """Return how many steps of a value a kernel may be off beyond half a one, of each channel.

    Args:
        node: what the value comes out of.
        network: what it belongs to.
        name: of the value, which is quantised: the result, or a value between the pieces that were joined.
        value: how large it is.
        size: how large what it adds up is.
        gain: by what the steps of the node's weights were multiplied since.
    """
    assert node.kernel is not None  # noqa: S101 - narrows the type
    grid, steps = tensors.grid(name, network), node.kernel.weight_step
    step, entering = tensors.largest_step(grid), tensors.largest_step(tensors.grid(node.inputs[0], network))
    if grid is None or not step or not entering:
        return np.full(node.kernel.outputs, 0.5)
    ways = [Requantisation.FLOAT]
    if network.fixed_point:
        single = node.operation == graph.BATCH_NORM  # MUL and ADD have 31 bits where convolutions of int16 have 15
        ways = [Requantisation.FIXED16] if grid.dtype == "int16" else [Requantisation.FIXED]
        ways += [Requantisation.FIXED] if single else []
    found: Float64 = np.zeros(node.kernel.outputs)
    gain = np.where(gain == 0, 1.0, gain)
    with np.errstate(all="ignore"):
        if steps is not None:
            multiplier = entering * np.asarray(steps, np.float64) / gain / step
            for way in ways:
                found = np.maximum(found, multiplication_error(way, multiplier, value / step))
        if node.operation == graph.BATCH_NORM:
            added = 0.0 if node.kernel.bias_step is None else np.asarray(node.kernel.bias_step, np.float64) / gain
            between = (tensors.largest_step(tensors.grid(one, network)) for one in node.rounds)
            coarsest = np.maximum(max(entering, step, *between), added) / step
            found = np.maximum(found, addition_error(ways[0], coarsest, size / step))
    return found


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
        grid = tensors.grid(name, network)
        half: Float64 | float = 0.0
        if grid is not None:
            most = np.full(1, max(float(np.abs(end).max(initial=0.0)) for end in tensors.reach(grid)))
            half = tensors.largest_step(grid) * (0.5 + _requantised(node, network, name, most, most, gain))
        elif name in values and values[name].dtype == np.float16:
            half = precision("float16").unit * float(np.abs(values[name]).max(initial=0.0))
        with np.errstate(all="ignore"):
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


def _quantised_on_the_way(node: Node, x: Array, exact: Exact) -> Exact:
    """Return sums with what it costs that the kernel quantises its input to 8 bits, if it does.

    By the range of all of it, or of each sample, which is a row of a dense layer: symmetrically, which is the coarser.
    """
    if not node.quantises_input:
        return exact
    if node.quantises_input == graph.ALL:
        step = kernels.own_step(x, tuple(range(x.ndim)), symmetric=False)
        return kernels.with_own_range(exact, step.reshape(()))
    rows = x.reshape(-1, x.shape[-1]) if node.operation == graph.DENSE else x.reshape(x.shape[0], -1)
    step = kernels.own_step(rows, (1,), symmetric=True)
    if node.operation == graph.DENSE:
        return kernels.with_own_range(exact, step.reshape(exact.places.shape))
    return kernels.with_own_range(exact, step.reshape(-1, *(1,) * (x.ndim - 2)))


def _spread(rows: Float64, exact: Exact, like: Array) -> Array:
    """Return rows of places as a tensor in the layout of the export, NaN where nothing was computed."""
    channels = exact.places.channel_axis
    last = np.moveaxis(like, channels, -1).shape
    whole = rows
    if exact.places.share < 1:
        whole = np.full((exact.places.total, rows.shape[1]), np.nan, np.float64)
        whole[exact.places.rows] = rows
    return np.asarray(np.moveaxis(whole.reshape(*last[:-1], rows.shape[1]), -1, channels), np.float64)
