"""Batch norms in an ONNX graph: BatchNormalization nodes, and those that are spelt out in single operators.

What a BatchNormalization computes depends on the version of the operators (onnx/defs/nn/{defs,old}.cc): up to opset 6
`is_test` decides, up to 13 the number of outputs, from 14 on `training_mode`. The defaults of epsilon, 1e-5, and of
momentum, 0.9, have never changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.formats.batch_moments import SPELT_OUT, BatchRoot
from bninspect.formats.norm_names import distinct
from bninspect.formats.onnx import moments, pieces
from bninspect.formats.onnx.constants import Constant, Constants
from bninspect.formats.onnx.model import GraphProto, ModelProto, NodeProto
from bninspect.records import BatchNorm, Form, Statistics

EPSILON = float(np.float32(1e-5))
MOMENTUM = float(np.float32(0.9))
_INPUTS = {"gamma": 1, "beta": 2, "moving_mean": 3, "moving_variance": 4}


@dataclass(frozen=True, eq=False)
class FoundNorm:
    """A batch norm and where it is."""

    layer: BatchNorm
    x: str
    """Name of the value that goes in."""
    y: str
    """Name of the value that comes out."""
    graph: str
    """Path of the graph that it is in; empty for the main graph."""
    nodes: tuple[str, ...]
    """Labels of the nodes that make it up."""
    constants: Mapping[str, str]
    """Name of the value that holds each parameter, by the parameter's standard name."""
    form: Form | None = None
    """The order of operations, where the graph spells them out; None for an operator of the runtime."""


@dataclass(frozen=True, eq=False)
class FoundNorms:
    """The batch norms of a model."""

    found: tuple[FoundNorm, ...]
    """In the order of its nodes, each under a name of its own."""
    loose: Mapping[str, int]
    """Roots of a variance and epsilon that no batch norm was made out of, by the path of their graph."""
    disguised: int = 0
    """BatchNormalization nodes that are not a batch norm."""


def find(model: ModelProto, path: Path) -> FoundNorms:
    """Return all batch norms of a model."""
    found: list[FoundNorm] = []
    loose: Counter[str] = Counter()
    disguised = 0
    for graph in model.graphs:
        around = [outer for outer in model.graphs if graph.path.startswith(outer.path)]
        constants = Constants(around, path, model.opset)
        spelt, count = pieces.search(graph, constants)
        loose[graph.path] += count
        ends = {norm.nodes[-1]: norm for norm in spelt}
        roots = moments.roots(graph, constants)
        for node in graph.nodes:
            if node.op == "BatchNormalization" and _is_of_samples(node, model.opset, graph, constants):
                disguised += 1
            elif node.op == "BatchNormalization":
                found.append(_node(node, model.opset, graph, constants))
            elif node in ends:
                found.append(_spelt_out(ends[node], graph, constants))
            elif node in roots:
                found.append(_by_batch(node, roots[node], graph))
    return FoundNorms(tuple(_renamed(found)), {place: count for place, count in loose.items() if count}, disguised)


def _renamed(found: Sequence[FoundNorm]) -> Iterator[FoundNorm]:
    """Yield batch norms under names of their own."""
    for norm, name in zip(found, distinct(norm.layer.name for norm in found), strict=True):
        yield replace(norm, layer=replace(norm.layer, name=name))


def _node(node: NodeProto, opset: int, graph: GraphProto, constants: Constants) -> FoundNorm:
    found = {field: constants.get(node.takes(place)) for field, place in _INPUTS.items()}
    stored = {field: value if value is not None and value.exact else None for field, value in found.items()}
    for field in ("gamma", "beta"):
        stored[field] = stored[field] or _repeated(node.takes(_INPUTS[field]), stored["moving_mean"], constants)
    statistics, notes = _statistics(node, opset, constants)
    computed = [field for field, value in stored.items() if value is None]
    if computed and statistics is Statistics.MOVING:
        statistics = Statistics.COMPUTED
        notes.append(f"{', '.join(computed)}: no constant, the graph computes it or takes it as an input")
    spatial = opset >= 9 or node.integer("spatial", 1) != 0
    if not spatial:
        notes.append("spatial is 0: a mean and variance for every element, not for every channel")
    mean = stored["moving_mean"]
    arrays: dict[str, Any] = {field: None if value is None else value.values for field, value in stored.items()}
    layer = BatchNorm(
        name=graph.path + node.label,
        **arrays,
        epsilon=node.real("epsilon", EPSILON),
        epsilon_source="file",
        momentum=node.real("momentum", MOMENTUM),
        axis=(1,) if spatial else None,
        scale=True,
        center=True,
        dtype="+".join(dict.fromkeys(value.dtype for value in stored.values() if value)) or "float32",
        location=mean.name if mean else node.takes(3),
        class_name=node.op,
        statistics=statistics,
        notes=tuple(notes),
    )
    values = {field: node.takes(place) for field, place in _INPUTS.items() if stored[field] is not None}
    return FoundNorm(layer, node.takes(0), next(iter(node.outputs), ""), graph.path, (node.label,), values)


def _statistics(node: NodeProto, opset: int, constants: Constants) -> tuple[Statistics, list[str]]:
    """Return which statistics a node normalises with, and what is odd about how it says so."""
    outputs = sum(1 for name in node.outputs if name)
    tested = opset < 7 and node.integer("is_test", 0) != 0
    trains = node.integer("training_mode", 0) != 0 if opset >= 14 else outputs > 1 and not tested
    if trains or moments.normalises_itself(node, constants):
        return (Statistics.SAMPLE if moments.is_one_sample(node.takes(0), constants) else Statistics.BATCH), []
    odd = opset < 7 and not tested
    return Statistics.MOVING, ["is_test is 0, but it has the single output of a node under test"] if odd else []


def _is_of_samples(node: NodeProto, opset: int, graph: GraphProto, constants: Constants) -> bool:
    """Return whether a node normalises each sample by itself: the samples of its data are among its channels.

    tf.keras runs its LayerNormalization by the kernel of a batch norm, and multiplies and adds behind it; PyTorch
    exports InstanceNorm so while it trains. Of a batch of one only what is behind it can tell.
    """
    if _statistics(node, opset, constants)[0] is not Statistics.SAMPLE:
        return False
    return moments.moves_samples(node.takes(0), constants) or moments.is_of_sample(node, graph, constants)


def _spelt_out(site: pieces.SpeltOut, graph: GraphProto, constants: Constants) -> FoundNorm:
    stored = {field: constants.get(name) for field, name in site.parameters.items()}
    kept = {field: value for field, value in stored.items() if value is not None}
    arrays: dict[str, Any] = {field: value.values.reshape(-1) for field, value in kept.items()}
    layer = BatchNorm(
        name=graph.path + site.nodes[-1].label,
        **arrays,
        epsilon=site.normalisation.root.epsilon,
        epsilon_source="file",
        axis=(site.axis,),
        scale="gamma" in kept,
        center="beta" in kept,
        dtype="+".join(dict.fromkeys(value.dtype for value in kept.values())),
        location=kept["moving_mean"].name,
        class_name="+".join(node.op for node in site.nodes),
        notes=(SPELT_OUT, *site.normalisation.notes),
        outside_root=site.normalisation.root.outside,
    )
    labels = tuple(node.label for node in site.nodes)
    values = {field: name for field, name in site.parameters.items() if field in kept}
    return FoundNorm(layer, site.x, site.nodes[-1].outputs[0], graph.path, labels, values, site.form)


def _repeated(name: str, like: Constant | None, constants: Constants) -> Constant | None:
    """Return a constant of one number for each channel, of the length that another one has."""
    number = constants.repeated(name)
    if number is None or like is None:
        return None
    values = np.full_like(like.values, number)
    values.flags.writeable = False
    return Constant(values, like.dtype, name)


def _by_batch(node: NodeProto, root: BatchRoot, graph: GraphProto) -> FoundNorm:
    layer = root.layer(graph.path + node.label, node.label, "ReduceMean+Sqrt", (SPELT_OUT,))
    return FoundNorm(layer, root.x, "", graph.path, (node.label,), {})
