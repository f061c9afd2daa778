"""The values that a model and its export have in common, and which of two equal operations holds which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bninspect.equivalence import tensors
from bninspect.equivalence.pairing.places import Place
from bninspect.records import Array, graph
from bninspect.records.graph import Network, Node


@dataclass(frozen=True, eq=False)
class Wire:
    """A value that a source and its export have in common."""

    label: str
    """What the source calls it."""
    value: str
    """What the export calls it."""
    end: str
    """`x`, what goes into a place; `y`, what comes out of it; `output` of the model."""
    place: Place | None = None
    axis: int = -1
    """Where its channels are in the source."""
    target: int = -1
    """Where they are in the export."""
    together: int = 1
    """Axes of the operation, channels included."""


def wires(places: Sequence[Place], source: Network) -> Iterator[Wire]:
    """Yield the values that both have: what goes into each place and what comes out of it."""
    consumers = source.consumers()
    for place in places:
        node = place.node
        if place.again or not node.inputs:
            continue
        own = place.operation or place.norms[0].call
        geometry = node.geometry
        together = 1 + (len(geometry.size) if geometry is not None else 0)
        axis, target = tensors.axis_of(own), tensors.axis_of(node)
        front = tensors.axis_of(place.front.call) if place.front is not None else axis
        if place.own_x and not node.factor:
            yield Wire(place.x, node.inputs[0], "x", place, front, target, together)
        label = _activated(place, consumers) if place.own_y else ""
        if label:
            yield Wire(label, node.outputs[0], "y", place, axis, target, together)


def _activated(place: Place, consumers: Mapping[str, tuple[Node, ...]]) -> str:
    """Return the value of the source that a place returns, its activation included; empty if it shows none."""
    if place.node.limits is None and not place.node.activation:
        return place.y
    behind = activation_behind(place, consumers)
    return behind.outputs[0] if behind is not None else ""


def activation_behind(place: Place, consumers: Mapping[str, tuple[Node, ...]]) -> Node | None:
    """Return the operation of the source that alone takes what a place returns, if that takes nothing else.

    None for one that only moves numbers: the activation behind it has its axes in another order.
    """
    after = consumers.get(place.y, ())
    alone = len(after) == 1 and len(after[0].inputs) == 1 and after[0].kernel is None and not after[0].layer
    return after[0] if alone and after[0].operation not in _MOVING else None


_MOVING = ("reshape", "transpose")


def with_limits(node: Node, consumers: Mapping[str, tuple[Node, ...]]) -> Node | None:
    """Return the operation that cuts off what an operation of the export returns: itself, or what alone reads it."""
    if node.limits is not None or node.activation:
        return node if node.limits is not None else None
    after = graph.readers(node.outputs[0], consumers)
    alone = len(after) == 1 and len(after[0].inputs) == 1
    return after[0] if alone and after[0].limits is not None else None


def told_apart(
    places: Sequence[Place], source: Network, free: Mapping[str, Array], values: Mapping[str, Array]
) -> tuple[Place, ...]:
    """Return the places; those of equal numbers, as of a layer that is called twice, each with its own operation.

    Which call is which only what flows can tell.
    """
    found: list[Place] = []
    for group in _of_equal_numbers(places):
        labels = {one.y for one in group}
        if len(group) == 1 or len(labels) != len(group):
            found += group if len(group) == 1 else [replace(one, again=True) for one in group]
            continue
        waiting = list(group)
        for own in group:
            best = min(waiting, key=lambda one: _distance(replace(own, node=one.node), source, free, values))
            waiting.remove(best)
            found.append(replace(own, node=best.node, expected=own.expected, again=False))
    order = {id(one.node): place for place, one in enumerate(places)}
    return tuple(sorted(found, key=lambda one: order[id(one.node)]))


def doubtful(places: Sequence[Place]) -> list[Place]:
    """Return the places whose numbers others hold as well: only what flows tells which is which."""
    return [place for group in _of_equal_numbers(places) if len(group) > 1 for place in group]


def _of_equal_numbers(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Yield the places in groups of the same weights and bias: weights are looked at where biases are the same."""
    for alike in _grouped(places, lambda place: place.expected.bias.tobytes()):
        if len(alike) == 1:
            yield alike
        else:
            yield from _grouped(alike, lambda place: place.expected.weights.tobytes())


def _grouped(places: Iterable[Place], key: Callable[[Place], bytes]) -> Iterable[list[Place]]:
    groups: dict[bytes, list[Place]] = {}
    for place in places:
        groups.setdefault(key(place), []).append(place)
    return groups.values()


def _distance(place: Place, source: Network, free: Mapping[str, Array], values: Mapping[str, Array]) -> float:
    total = 0.0
    for wire in wires([replace(place, again=False)], source):
        own, other = free.get(wire.label), values.get(wire.value)
        moved = None if own is None or other is None else arrange(wire, other, own)
        if own is None or moved is None:
            return float("inf")
        with np.errstate(all="ignore"):
            total += float(np.nan_to_num(np.abs(moved.astype(np.float64) - own), nan=np.inf).max(initial=0.0))
    return total


def arrange(wire: Wire, values: Array, own: Array) -> Array | None:
    """Return a value of the export with its axes and rows as the source has them; None if the shapes do not fit."""
    turned = tensors.turned_back(values, wire.place.node) if wire.place is not None and wire.end == "y" else values
    rows = wire.place.rows if wire.place is not None and wire.end == "x" else None
    if rows is not None and values.shape[-1:] == rows.shape:
        turned = values[..., np.argsort(rows)]
    return tensors.arranged(turned, wire.target, own.shape, wire.axis, wire.together)
