"""Tensors of a source and of its export: what integers stand for, and one order of axes for both.

Where the channels of an operation are, both files say: no order is guessed from numbers, so that an export which
returns another layout is seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.errors import BninspectError
from bninspect.records import Array
from bninspect.records.graph import PASSING, Geometry, Network, Node, Quantisation


def real(values: Array, quantisation: Quantisation | None) -> Array:
    """Return what stored numbers stand for: `scale * (stored - zero)` of integers, floats as they are.

    Raises:
        BninspectError: there are neither one step nor as many as its axis is long.
    """
    if quantisation is None or values.dtype.kind == "f":
        return values
    scale, zero = (_along(one, values.shape, quantisation) for one in (quantisation.scale, quantisation.zero))
    with np.errstate(all="ignore"):
        return np.asarray((values.astype(np.float64) - zero) * scale)


def _along(numbers: Array, shape: Sequence[int], quantisation: Quantisation) -> Float64:
    wide = np.asarray(numbers, np.float64).reshape(-1)
    if wide.size == 1:
        return wide.reshape(())
    axis, rank = quantisation.axis, len(shape)
    if not -rank <= axis < rank or shape[axis] != wide.size:
        raise BninspectError(
            "a quantised tensor contradicts itself",
            why=f"{wide.size} steps along axis {axis} of the shape {tuple(shape)}",
        )
    return wide.reshape([-1 if one == axis % rank else 1 for one in range(rank)])


def grid(name: str, network: Network) -> Quantisation | None:
    """Return what the integers stand for of which a value is made, as they are or as floats; None if it is of none."""
    return network.quantised.get(name, network.dequantised.get(name))


def grid_of_origin(name: str, network: Network) -> Quantisation | None:
    """Return the grid of a value, or of the one that it was passed on from unchanged."""
    found, producers = grid(name, network), network.producers()
    while found is None and name in producers and producers[name].operation in PASSING and producers[name].inputs:
        name = producers[name].inputs[0]
        found = grid(name, network)
    return found


_ENDS_ROUNDED = 2.0**-22
"""Of the number of steps, by how far the zero is moved where the two ends of a range are rounded to float32."""


def on_steps(values: Array, name: str, network: Network) -> tuple[Array, float]:
    """Return floats that stand on even steps as they were computed, and by how much a runtime may be off of them.

    A runtime that computes a graph of halves in float32 gives them rounded to halves, and goes on with what they were.
    Where rounding the ends of a range has moved its zero from a whole step, one that computes in integers moves it back
    (OpenVINO 2026.4: then its sums are within 0.95 of their bound, and beyond 100 times that otherwise). Ends that were
    rounded to float32 move it as well. And one that multiplies integers counts from the low end of the range, and takes
    what the zero makes off in float32: a product and a difference, each rounded, of at most the whole range times the
    weights (seen: up to 4.2 times the bound without that).
    """
    found = grid_of_origin(name, network)
    if found is None or found.levels is None:
        return values, 0.0
    if values.dtype != np.float16 or np.size(found.scale) != 1:
        scale, zeros = np.asarray(found.scale, np.float64), np.asarray(found.zero, np.float64)
        with np.errstate(all="ignore"):
            apart = np.abs(zeros - np.rint(zeros))
            counted = apart <= _ENDS_ROUNDED * found.levels
            moved = np.where(counted, (apart + 2 * precision("float32").unit * found.levels) * np.abs(scale), 0.0)
        return values, float(moved.max(initial=0.0))
    step, zero = np.asarray(found.scale, np.float64).item(), np.asarray(found.zero, np.float64).item()
    with np.errstate(all="ignore"):
        places = np.clip(np.rint(values.astype(np.float64) / step + zero), 0, found.levels - 1)
    return (places - zero) * step, abs(zero - np.rint(zero)) * step


def is_same_grid(first: Quantisation, second: Quantisation) -> bool:
    """Return whether integers stand for the same numbers."""
    same = first.dtype == second.dtype and np.array_equal(first.scale, second.scale)
    return same and np.array_equal(np.asarray(first.zero).reshape(-1), np.asarray(second.zero).reshape(-1))


def step(name: str, network: Network) -> float:
    """Return the step of a quantised value, the largest of several; 0 for floats."""
    return largest_step(network.quantised.get(name))


def largest_step(quantisation: Quantisation | None) -> float:
    """Return the step, the largest of several; 0 for floats."""
    return 0.0 if quantisation is None else float(np.abs(np.asarray(quantisation.scale, np.float64)).max(initial=0.0))


def reach(quantisation: Quantisation) -> tuple[Float64, Float64]:
    """Return the smallest and the largest numbers that a quantised value can stand for, of each channel.

    Raises:
        BninspectError: it has no step, another number of zero points, or a type that is not one of integers.
    """
    if quantisation.levels is not None:
        least, most = 0, quantisation.levels - 1
    elif np.dtype(quantisation.dtype).kind in "iu":
        kind = np.iinfo(np.dtype(quantisation.dtype))
        least, most = kind.min, kind.max
    else:
        raise BninspectError("a quantised tensor contradicts itself", why=f"{quantisation.dtype} has no whole steps")
    scale = np.asarray(quantisation.scale, np.float64).reshape(-1)
    zero = np.asarray(quantisation.zero, np.float64).reshape(-1)
    if not scale.size or zero.size not in {1, scale.size}:
        why = f"it has {scale.size} steps and {zero.size} zero points"
        raise BninspectError("a quantised tensor contradicts itself", why=why)
    with np.errstate(all="ignore"):
        return (least - zero) * scale, (most - zero) * scale


def cut_off(values: Float64, quantisation: Quantisation, axis: int) -> Float64:
    """Return values cut off where a quantised tensor ends, whose channels are along `axis` of `values`."""
    ends = reach(quantisation)
    if ends[0].size > 1 and ends[0].size != values.shape[axis]:
        ends = ends[0].min(keepdims=True), ends[1].max(keepdims=True)
    shape = [1] * values.ndim
    shape[axis] = -1
    return np.clip(values, *(end.reshape(shape) for end in ends))


def at_ends(values: Array, quantisation: Quantisation) -> tuple[Array, Array]:
    """Return where real numbers stand at the lower and at the upper end of what their type can stand for."""
    (low, high), half = reach(quantisation), np.abs(np.asarray(quantisation.scale, np.float64)).reshape(-1) / 2
    axis = quantisation.axis % values.ndim if values.ndim else 0
    if low.size > 1 and (not values.ndim or values.shape[axis] != low.size):
        low, high, half = low.max(keepdims=True), high.min(keepdims=True), half.max(keepdims=True)
    shape = [-1 if low.size > 1 and place == axis else 1 for place in range(values.ndim)]
    with np.errstate(all="ignore"):
        lowest, highest = ((one).reshape(shape) for one in (low + half, high - half))
    return np.asarray(values < lowest), np.asarray(values > highest)


def unit(values: Array) -> float:
    """Return the unit roundoff of a tensor's type; 0 for integers, which are exact."""
    return precision(values.dtype.name).unit if values.dtype.kind == "f" else 0.0


def axis_of(node: Node | None) -> int:
    """Return where the channels of an operation are; behind everything else where nothing says so."""
    geometry = node.geometry if node is not None else None
    return (geometry or Geometry()).channel_axis


def turned_back(values: Array, node: Node) -> Array:
    """Return the result of an operation with the transposition behind it undone."""
    if not node.order or len(node.order) != values.ndim:
        return values
    return values.transpose(np.argsort(node.order))


def arranged(values: Array, axis: int, shape: Sequence[int], target: int, together: int = 1) -> Array | None:
    """Return a tensor of the export in the order and shape of the source's; None if it has another shape.

    Args:
        values: of the export.
        axis: where its channels are.
        shape: of the tensor of the source.
        target: where the channels of that are.
        together: last axes, the channels moved behind the others, that belong to the operation: what is before them
            are samples, steps of time and the like, which one of the two may hold as one axis.
    """
    if not values.ndim or not shape:
        return values.reshape(tuple(shape)) if values.size == int(np.prod(shape)) else None
    last = np.moveaxis(values, axis % values.ndim, -1)
    place = target % len(shape)
    wanted = (*shape[:place], *shape[place + 1 :], shape[place])
    if last.shape != wanted:
        same = _long(last.shape) == _long(wanted)
        # Of two that have as many axes another order of lengths is another order of axes.
        joined = last.ndim != len(wanted) and last.shape[-together:] == wanted[-together:]
        joined &= last.size == int(np.prod(wanted))
        if not same and not joined:
            return None
        last = last.reshape(wanted)
    return np.moveaxis(last, -1, place)


def _long(shape: Sequence[int]) -> list[int]:
    return [one for one in shape if one != 1]
