"""Where in a flat graph are batch norms: fused operations, and those that are spelt out in single operations.

Nothing here runs or knows TensorFlow: the reader finds layers with it, the runtime the tensors to fetch. LayerNorm,
GroupNorm and RMSNorm are not mistaken for batch norms: their statistics are no parameters, or they have no mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from bninspect.errors import DamagedFile
from bninspect.formats.tensorflow import algebra, tensor
from bninspect.formats.tensorflow.algebra import Leaf
from bninspect.formats.tensorflow.expressions import Expressions, Step
from bninspect.formats.tensorflow.flatten import FlatGraph, FlatNode, Tensor
from bninspect.records import Form, Statistics


@dataclass(frozen=True, eq=False)
class Site:
    """One place where a flat graph normalises."""

    name: str
    """Name of the node that returns y, in its own function."""
    nodes: tuple[str, ...]
    """Flat nodes that lead from x to y, in their order; the parameters come to them from outside."""
    x: Tensor
    y: Tensor
    parameters: Mapping[str, Leaf]
    """By standard name, those that there are."""
    epsilon: float | None
    axis: tuple[int, ...] | None
    """-1 is the last one; `None` where only the parameters' shape tells."""
    form: Form = Form.UNKNOWN
    statistics: Statistics = Statistics.MOVING
    output: str = "float32"
    """Type of y."""
    arithmetic: str = "float32"
    hidden: str = ""
    """Why x and y cannot be observed; empty if they can."""


@dataclass(frozen=True)
class Folded:
    """Something that was a batch norm before its parameters were merged into others."""

    name: str
    into: str


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found, in the order in which the graph computes it."""

    sites: tuple[Site, ...]
    folded: tuple[Folded, ...]


def search(graph: FlatGraph) -> Found:
    """Return every batch norm of a graph.

    Raises:
        DamagedFile, UnsafeFile: a constant of the graph is damaged or too large.
    """
    expressions = Expressions(graph)
    looped = _in_loops(graph)
    sites: list[Site] = []
    for node in graph.nodes.values():
        found = _fused(node, expressions) or _spelt_out(node, expressions, sites) or _by_batch(node, expressions)
        if found is not None:
            hidden = node.hidden or found.hidden or ("inside a while loop" if node.name in looped else "")
            sites.append(replace(found, hidden=hidden))
    return Found(tuple(sites), tuple(_folded(graph, expressions, sites)))


# Operation -> positions of x, gamma, beta, mean, variance; the attribute for epsilon and the operation's own default.
_FUSED: Mapping[str, tuple[tuple[int, ...], str, float]] = {
    "FusedBatchNorm": ((0, 1, 2, 3, 4), "epsilon", 1e-4),
    "FusedBatchNormV2": ((0, 1, 2, 3, 4), "epsilon", 1e-4),
    "FusedBatchNormV3": ((0, 1, 2, 3, 4), "epsilon", 1e-4),
    "BatchNormWithGlobalNormalization": ((0, 4, 3, 1, 2), "variance_epsilon", 0.0),
}
_NAMES = ("gamma", "beta", "moving_mean", "moving_variance")
# What Grappler makes of a convolution and a batch norm: x, filter, then gamma, beta, mean, variance.
_MERGED = re.compile(r"_Fused(Conv|Depthwise|BatchNormEx|MatMul)|_Mkl.*BatchNorm")


def _fused(node: FlatNode, expressions: Expressions) -> Site | None:
    if _MERGED.match(node.op):
        return _merged(node, expressions)
    if node.op not in _FUSED or len(node.inputs) < 5:
        return None
    order, attribute, default = _FUSED[node.op]
    x, *rest = (node.inputs[position] for position in order)
    leaves = {name: expressions.leaf(one) for name, one in zip(_NAMES, rest, strict=True)}
    if node.op == "BatchNormWithGlobalNormalization" and not node.node.flag("scale_after_normalization", default=False):
        leaves["gamma"] = None
    trains = node.op != "BatchNormWithGlobalNormalization" and node.node.flag("is_training", default=True)
    if trains:
        # Layer normalisation by this operation has neither a gamma nor a beta of its own in it.
        leaves = {name: leaf for name, leaf in leaves.items() if leaf and expressions.is_named(leaf)}
        if not leaves:
            return None
    elif leaves["moving_mean"] is None or leaves["moving_variance"] is None:
        return None
    output = tensor.float_name(node.node.dtype("T"))
    return Site(
        name=node.node.name,
        nodes=(node.name,),
        x=x,
        y=(node.name, 0),
        parameters={name: leaf for name, leaf in leaves.items() if leaf is not None},
        epsilon=_shortest(node.node.real(attribute, default)),
        axis=(1,) if node.node.text("data_format", "NHWC").startswith("NC") else (-1,),
        form=Form.CENTRED,
        statistics=Statistics.BATCH if trains else Statistics.MOVING,
        output=output or "float32",
        # The kernel computes in float32 also where x and y are narrower.
        arithmetic="float64" if output == "float64" else "float32",
    )


def _merged(node: FlatNode, expressions: Expressions) -> Site | None:
    fused = [bytes(part) for part in node.node.attribute("fused_ops").message(1).chunks(2)]
    skipped = 1 if "BatchNormEx" in node.op else 2
    if b"FusedBatchNorm" not in fused and skipped == 2:
        return None
    leaves = [expressions.leaf(one) for one in node.inputs[skipped : skipped + 4]]
    return Site(
        name=node.node.name,
        nodes=(node.name,),
        x=node.inputs[0],
        y=(node.name, 0),
        parameters={name: leaf for name, leaf in zip(_NAMES, leaves, strict=False) if leaf is not None},
        epsilon=_shortest(node.node.real("epsilon", 1e-4)),
        axis=(1,) if node.node.text("data_format", "NHWC").startswith("NC") else (-1,),
        hidden=f"merged with its neighbours in one operation, {node.op}",
    )


_LONGEST = 6


def _spelt_out(node: FlatNode, expressions: Expressions, sites: list[Site]) -> Site | None:
    """Return the batch norm that ends at a node; one that it completes, by a gamma or beta, is taken from `sites`."""
    steps: list[Step] = []
    slope, intercept = algebra.number(1.0), algebra.number(0.0)
    name = node.name
    while len(steps) < _LONGEST and (step := expressions.step(name)) is not None:
        composed = expressions.composed(slope, intercept, step)
        if composed is None:
            return None
        slope, intercept = composed
        steps.insert(0, step)
        found = algebra.normalisation(slope, intercept)
        if found is not None:
            begun = _completed(steps, found, expressions, sites)
            if begun is None and _is_closed(steps, sites):
                return None
            if begun is not None:
                sites.remove(begun)
            return _site(node, steps, found)
        name = step.source[0]
    return None


def _completed(
    steps: list[Step], found: algebra.Normalisation, expressions: Expressions, sites: list[Site]
) -> Site | None:
    """Return the site that ends along these steps and that they complete.

    What is added to a batch norm that already has its shift is its beta only if that is kept beside its mean.
    """
    for site in sites:
        ends = [position for position, step in enumerate(steps) if step.node == site.nodes[-1]]
        if ends and site.x == steps[0].source:
            own = site.form is not Form.AFFINE or (found.beta is not None and _are_together(found.mean, found.beta))
            return site if own and all(expressions.uses(step.node) == 1 for step in steps[ends[0] : -1]) else None
    return None


def _are_together(one: Leaf, other: Leaf) -> bool:
    scope = one.sources[0].rpartition("/")[0]
    return scope != "" and scope == other.sources[0].rpartition("/")[0]


def _is_closed(steps: list[Step], sites: list[Site]) -> bool:
    """Return whether a finished batch norm lies within: what follows it is another layer's bias."""
    inner = {step.node for step in steps[:-1]}
    return any(site.nodes[-1] in inner for site in sites)


def _site(node: FlatNode, steps: list[Step], found: algebra.Normalisation) -> Site:
    leaves = {
        "gamma": found.gamma,
        "beta": found.beta,
        "moving_mean": found.mean,
        "moving_variance": found.variance,
    }
    dtype = tensor.float_name(node.node.dtype("T")) or "float32"
    return Site(
        name=node.node.name,
        nodes=tuple(step.node for step in steps),
        x=steps[0].source,
        y=(node.name, 0),
        parameters={name: leaf for name, leaf in leaves.items() if leaf is not None},
        epsilon=_shortest(found.epsilon) if dtype != "float64" else found.epsilon,
        axis=_axis(found),
        form=_form(steps, found),
        output=dtype,
        arithmetic=dtype,
    )


def _form(steps: list[Step], found: algebra.Normalisation) -> Form:
    if algebra.single(algebra.negate(steps[0].intercept)) == found.mean and steps[0].slope == algebra.number(1.0):
        return Form.CENTRED
    # One multiplication and one addition: the shift was computed on its own.
    return Form.AFFINE if len(steps) == 2 else Form.UNKNOWN


def _axis(found: algebra.Normalisation) -> tuple[int, ...] | None:
    """Return the axes that the statistics were shaped for, if they were."""
    shape = found.variance.shape or found.mean.shape
    if shape is None or len(shape) < 2:
        return None
    return axes_of(shape)


def axes_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes that a parameter of this shape runs along: those longer than 1, the last if there is none."""
    long = tuple(axis for axis, length in enumerate(shape) if length != 1)
    return (-1,) if long in ((), (len(shape) - 1,)) else long


def _by_batch(node: FlatNode, expressions: Expressions) -> Site | None:
    """Return the batch norm, by the statistics of its batch, that begins at this square root."""
    if node.op not in ("Rsqrt", "Sqrt"):
        return None
    moment = expressions.batch_variance(node.inputs[0])
    if moment is None:
        return None
    x, epsilon = moment
    leaves = expressions.following(node.name)
    if not leaves:
        return None
    return Site(
        name=node.node.name,
        nodes=(node.name,),
        x=x,
        y=(node.name, 0),
        parameters=leaves,
        epsilon=_shortest(epsilon),
        axis=None,
        statistics=Statistics.BATCH,
    )


def _shortest(value: float) -> float:
    """Return the shortest decimal that is the same float32: 0.001, not 0.0010000000474974513."""
    import numpy as np

    return float(str(np.float32(value)))


def _in_loops(graph: FlatGraph) -> frozenset[str]:
    """Return the nodes in the frames of TF1's loops: from Enter to Exit."""
    users: dict[str, list[FlatNode]] = {}
    for node in graph.nodes.values():
        for source, _ in node.inputs:
            users.setdefault(source, []).append(node)
    waiting = [node.name for node in graph.nodes.values() if node.op in ("Enter", "RefEnter")]
    found = set(waiting)
    while waiting:
        for user in users.get(waiting.pop(), ()):
            if user.name not in found and user.op not in ("Exit", "RefExit"):
                found.add(user.name)
                waiting.append(user.name)
    return frozenset(found)


_LOOKS_LIKE = re.compile(r"batch_?norm|fusedbatchnorm|(?:^|/)bn[^/]*(?:/|$)", re.IGNORECASE)


def _folded(graph: FlatGraph, expressions: Expressions, sites: list[Site]) -> Iterator[Folded]:
    """Yield what by its name was a batch norm, and now is constants."""
    known = {name for site in sites for name in site.nodes}
    for node in graph.nodes.values():
        if node.name in known or not _LOOKS_LIKE.search(node.node.name):
            continue
        step = expressions.step(node.name)
        if step is None or not expressions.is_constant(step.intercept):
            continue
        before = expressions.step(step.source[0])
        if before is not None and expressions.is_constant(before.slope) and not before.intercept:
            yield Folded(node.node.name, "a constant factor and a constant shift")
        elif "fusedbatchnorm" in node.node.name.lower():
            yield Folded(node.node.name, "the layer before it; only a bias is left")


def checked_epsilon(epsilon: float | None) -> float | None:
    """Return an epsilon that is a finite number.

    Raises:
        DamagedFile: it is not.
    """
    if epsilon is not None and not -1e30 < epsilon < 1e30:
        raise DamagedFile("the graph is damaged", why=f"an epsilon is {epsilon}")
    return epsilon
