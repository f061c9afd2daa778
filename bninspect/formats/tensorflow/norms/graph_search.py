"""Where in a flat graph are batch norms: fused operations, and those that are spelt out in single operations.

Nothing here runs or knows TensorFlow: the reader finds layers with it, the runtime the tensors to fetch. LayerNorm,
GroupNorm and RMSNorm are not mistaken for batch norms: their statistics are not parameters, or they have no mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bninspect.formats.tensorflow.graph.expressions import Expressions
from bninspect.formats.tensorflow.graph.flatten import FlatGraph, FlatNode
from bninspect.formats.tensorflow.norms.fused import fused
from bninspect.formats.tensorflow.norms.moments import FlatMoments
from bninspect.formats.tensorflow.norms.site import NormSite
from bninspect.formats.tensorflow.norms.unfused import by_batch, spelt_out
from bninspect.formats.tensorflow.norms.unread import unread
from bninspect.records import Unread


@dataclass(frozen=True)
class FoldedNorm:
    """Something that was a batch norm before its parameters were merged into others."""

    name: str
    into: str


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search found, in the order in which the graph computes it."""

    sites: tuple[NormSite, ...]
    folded: tuple[FoldedNorm, ...]
    unread: tuple[Unread, ...] = ()
    """Calls that are none of the sites."""


def search(graph: FlatGraph) -> SearchResult:
    """Return every batch norm of a graph.

    Raises:
        DamagedFile, UnsafeFile: a constant of the graph is damaged or too large.
    """
    expressions = Expressions(graph)
    moments = FlatMoments(graph, expressions)
    looped = _in_loops(graph)
    sites: list[NormSite] = []
    for node in graph.nodes.values():
        found = (
            fused(node, expressions, moments)
            or spelt_out(node, expressions, sites)
            or by_batch(node, expressions, moments)
        )
        if found is not None:
            hidden = node.hidden or found.hidden or ("inside a while loop" if node.name in looped else "")
            sites.append(replace(found, hidden=hidden))
    missed = tuple(unread(graph, expressions, sites))
    return SearchResult(tuple(sites), tuple(_folded(graph, expressions, sites)), missed)


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


def _folded(graph: FlatGraph, expressions: Expressions, sites: list[NormSite]) -> Iterator[FoldedNorm]:
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
            yield FoldedNorm(node.node.name, "a constant factor and a constant shift")
        elif "fusedbatchnorm" in node.node.name.lower():
            yield FoldedNorm(node.node.name, "the layer before it; only a bias is left")
