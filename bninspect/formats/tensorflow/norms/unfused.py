"""Batch norms that are spelt out in single operations, in whatever order, by moving statistics or by the batch's."""

from __future__ import annotations

from bninspect.formats import algebra
from bninspect.formats.algebra import Leaf
from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.graph.expressions import Expressions, FlatStep
from bninspect.formats.tensorflow.graph.flatten import FlatNode
from bninspect.formats.tensorflow.norms.moments import FlatMoments
from bninspect.formats.tensorflow.norms.site import NormSite, axes_of, shortest
from bninspect.records import Form, Statistics


def spelt_out(node: FlatNode, expressions: Expressions, sites: list[NormSite]) -> NormSite | None:
    """Return the batch norm that ends at a node; one that it completes, by a gamma or beta, is taken from `sites`."""
    spelt = algebra.spelt_out(node.name, expressions.step)
    if spelt is None:
        return None
    steps, found = spelt
    begun = _completed(steps, found, expressions, sites)
    if begun is None and _is_closed(steps, sites):
        return None
    if begun is not None:
        sites.remove(begun)
    return _site(node, steps, found)


def _completed(
    steps: list[FlatStep], found: algebra.Normalisation, expressions: Expressions, sites: list[NormSite]
) -> NormSite | None:
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


def _is_closed(steps: list[FlatStep], sites: list[NormSite]) -> bool:
    """Return whether a finished batch norm lies within: what follows it is another layer's bias."""
    inner = {step.node for step in steps[:-1]}
    return any(site.nodes[-1] in inner for site in sites)


def _site(node: FlatNode, steps: list[FlatStep], found: algebra.Normalisation) -> NormSite:
    dtype = tensor.float_name(node.node.dtype("T")) or "float32"
    return NormSite(
        name=node.node.name,
        nodes=tuple(step.node for step in steps),
        x=steps[0].source,
        y=(node.name, 0),
        parameters=found.parameters,
        epsilon=shortest(found.root.epsilon) if dtype != "float64" else found.root.epsilon,
        axis=_axis(found),
        form=algebra.form(steps, found),
        output=dtype,
        arithmetic=dtype,
        notes=found.notes,
        outside_root=found.root.outside,
    )


def _axis(found: algebra.Normalisation) -> tuple[int, ...] | None:
    """Return the axes that the statistics were shaped for, if they were."""
    shape = found.root.variance.shape or found.mean.shape
    if shape is None or len(shape) < 2:
        return None
    return axes_of(shape)


def by_batch(node: FlatNode, expressions: Expressions, moments: FlatMoments) -> NormSite | None:
    """Return the batch norm, by the statistics of its batch, that begins at this square root."""
    root = moments.root(node.name) if node.op in ("Rsqrt", "Sqrt", "Pow") else None
    if root is None:
        return None
    name, _, port = root.x.rpartition(":")
    return NormSite(
        name=node.node.name,
        nodes=(node.name,),
        x=(name, int(port)),
        y=(node.name, 0),
        parameters=expressions.following(node.name),
        epsilon=shortest(root.epsilon),
        axis=None,
        statistics=Statistics.SAMPLE if root.sample else Statistics.BATCH,
    )
