"""By how much the sums of a mean, an average pool or a sum may be off, in a model or in its export.

A kernel adds n numbers in an order of its own, n - 1 additions, and divides or multiplies: it is off by at most
gamma_(n+1) * sum |x|, divided by n for a mean (Higham 2002, section 3.1), of what went in. What is left may be much
less than what was added up: where numbers cancel, as those of a normalised image do, roundings of the result would be
too few. Two runtimes differ by twice that, and what follows passes it on as it passes on any error (slack.py).
"""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np

from bninspect.arithmetic import kernels
from bninspect.arithmetic.formula import Float64
from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.slack import Slack
from bninspect.equivalence.folding import U
from bninspect.records.graph import Node

_VARIANTS = re.compile("com.microsoft::|qlinear|adaptive|global|reduce|[123]d$|[ _]")
_MEANS = ("mean", "averagepool", "avgpool")


def adds_up(node: Node) -> bool:
    """Return whether an operation adds up what goes into it."""
    return node.kernel is None and len(node.inputs) == 1 and _name(node) in {*_MEANS, "sum"}


class Sums(Slack):
    """What adding up may have done to each value of an export and of its model, 0 where that is not known."""

    def arriving(self, name: str) -> float:
        """Return by how much a value may be off as it is computed from what is given."""
        node = self._producers.get(name)
        for one in node.inputs if node is not None else ():
            self.of(one)
        off = self._made(node, name) if node is not None else 0.0
        return off if np.isfinite(off) else 0.0

    def _made(self, node: Node, value: str) -> float:
        taken = [0.0 if one in self._given else self._found.get(one, 0.0) for one in node.inputs]
        return self._passed(node, taken) + (self._added(node, value) if adds_up(node) else 0.0)

    def _added(self, node: Node, value: str) -> float:
        x, y = (self._values.get(name) for name in (node.inputs[0], value))
        if x is None or y is None or not y.size or x.size < y.size:
            return 0.0
        size = np.abs(tensors.real(x, self._network.quantised.get(node.inputs[0])).astype(np.float64))
        count = int(np.prod(node.window)) if node.window else x.size // y.size
        largest = count * float(size.max()) if node.window else _largest_sum(size, y.shape)
        off = 2 * kernels.gamma(count + 1, U) * largest
        return off if _name(node) == "sum" else off / count


def _largest_sum(size: Float64, made: tuple[int, ...]) -> float:
    """Return the largest of the sums over the axes that a result of the shape `made` has lost, or of length 1."""
    kept = size.ndim == len(made)
    lost = [axis for axis, length in enumerate(size.shape) if kept and made[axis] != length]
    ways = [tuple(lost)] if kept else list(combinations(range(size.ndim), max(0, size.ndim - len(made))))
    sums = (size.sum(axis=way, keepdims=kept) for way in ways)
    return max((float(one.max()) for one in sums if one.shape == made), default=0.0)


def _name(node: Node) -> str:
    return _VARIANTS.sub("", node.operation)
