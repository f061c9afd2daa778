"""What happened to a batch norm whose numbers are nowhere in the export: the place they should be in, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bninspect.equivalence import folding, measuring
from bninspect.equivalence.diagnosis import standing
from bninspect.equivalence.diagnosis.formula_causes import ask_detective, is_coarse, undone
from bninspect.equivalence.diagnosis.likeness import correlation, worst_ratio
from bninspect.equivalence.diagnosis.wrong_folds import hypotheses, of_epsilon, with_siblings
from bninspect.equivalence.folding import FoldedKernel, U
from bninspect.equivalence.pairing.fits import as_map, factor_between, same_shape
from bninspect.equivalence.pairing.places import Pairing
from bninspect.equivalence.pairing.source_norms import SourceNorm, fed
from bninspect.records import BatchNorm, Cause, Comparison
from bninspect.records.graph import Kernel, Network, Node

LEFT_OUT = "left-out"


ALIKE = 0.9
"""Correlation of weights from which on two operations are taken for the same one, however wrong its numbers."""


_SIBLINGS = 64
"""Other batch norms of the same width of which one may have been folded in its place."""


_TRIED = 3
"""Places that are tried for one batch norm: of another model there may be fifty of its shape."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Where a batch norm should be, how far the numbers there are off, and what would explain them."""

    node: Node | None
    comparisons: tuple[Comparison, ...] = ()
    found: tuple[Cause, ...] = ()
    likeness: float = 0.0
    """Correlation of the numbers there with those that should be there."""
    tried: int = 0

    @property
    def recognised(self) -> bool:
        """Whether what is there is taken for the operation itself, however wrong its numbers."""
        return bool(self.found) or self.likeness >= ALIKE


def diagnose(norm: SourceNorm, pairing: Pairing, others: Sequence[SourceNorm], export: Network) -> Diagnosis:
    """Look for the place of a batch norm that no operation of the export holds, and for what was done to it.

    Args:
        norm: the batch norm.
        pairing: of the two files.
        others: the other batch norms of the model.
        export: what the export computes.
    """
    stands = standing.find(norm, pairing, export)
    if stands is not None:
        return _standing(norm, stands, [one.layer for one in others])
    found: list[Diagnosis] = []
    if norm.kernel is not None and norm.kernel not in pairing.plain:
        found += [diagnose_fold(norm, node, others) for node in _nearest(norm, pairing.kernels)]
    channels = norm.affine.scale.size
    pairs = [node for node in pairing.pairs if node.kernel is not None and node.kernel.outputs == channels]
    layers = [one.layer for one in others]
    found += [_paired(norm, node, layers) for node in pairs[:_TRIED]]
    explained = [one for one in found if one.found]
    if explained:
        return explained[0]
    if norm.kernel is not None and norm.kernel in pairing.plain:
        sentence = "it is missing: the operation before it is a plain copy, and no scale and shift follow"
        return Diagnosis(pairing.plain[norm.kernel], found=(Cause(LEFT_OUT, sentence, 0.0),), likeness=1.0)
    sentence = "it is missing: no operation is left that could hold it"
    nowhere = Diagnosis(None, found=(Cause(LEFT_OUT, sentence, 0.0),))
    return max(found, key=lambda one: one.likeness, default=nowhere)


def _nearest(norm: SourceNorm, kernels: Sequence[Node]) -> list[Node]:
    """Return the operations of the export that are most like a batch norm's, folded or not: few, the best first."""
    operation = norm.kernel
    assert operation is not None  # noqa: S101 - narrows the type
    plain = folding.plain(fed(norm))
    right = folding.behind(plain, norm.affine)

    def likeness(node: Node) -> float:
        assert node.kernel is not None  # noqa: S101 - narrows the type
        return max(correlation(one.weights, node.kernel.weights) for one in (right, plain))

    return sorted((node for node in kernels if same_shape(operation, node)), key=likeness, reverse=True)[:_TRIED]


def diagnose_fold(norm: SourceNorm, node: Node, others: Sequence[SourceNorm]) -> Diagnosis:
    """Diagnose a batch norm that should be in the weights and bias of `node`."""
    assert node.kernel is not None  # noqa: S101 - narrows the type
    kernel, stored = fed(norm), node.kernel
    right = folding.behind(folding.plain(kernel), norm.affine)
    comparisons = measuring.of_kernel(right, stored)
    tried, found = 0, list[Cause]()
    siblings = [(one.layer.name, one.affine) for one in others if one.affine.scale.size == norm.affine.scale.size]
    wrong = [*hypotheses(kernel, norm.affine), *with_siblings(kernel, norm.affine, siblings[:_SIBLINGS])]
    if norm.through is None and is_coarse(stored):
        wrong += of_epsilon(kernel, norm.layer)
    for hypothesis in wrong:
        tried += 1
        should = folding.as_stored(hypothesis.folded, stored)
        weights = worst_ratio(stored.weights, should.weights, should.weight_bound)
        bias = worst_ratio(folding.zero_bias(stored), should.bias, should.bias_bound)
        if weights <= 1 and bias <= 1 and hypothesis.name not in {one.name for one in found}:
            found.append(Cause(hypothesis.name, hypothesis.sentence, max(weights, bias)))
    simple = [one for one in found if " + " not in one.name]
    found = simple or found
    if not found:
        found, more = ask_detective(norm, undone(kernel, stored), [one.layer for one in others])
        tried += more
    found = found or list(scaled(right, stored))
    return Diagnosis(node, comparisons, tuple(found), correlation(right.weights, stored.weights), tried)


def scaled(right: FoldedKernel, stored: Kernel) -> Iterator[Cause]:
    """Yield the number that every weight was multiplied by, with the bias or without, if there is one."""
    should = folding.as_stored(right, stored)
    weights = worst_ratio(stored.weights, should.weights, should.weight_bound)
    bias = worst_ratio(folding.zero_bias(stored), should.bias, should.bias_bound)
    factor = factor_between(right.weights, stored.weights, should.weight_bound)
    room, size = max(abs(factor), 1.0), 3 * U * abs(factor)
    bound = should.weight_bound * room + size * np.abs(right.weights)
    ratio = worst_ratio(stored.weights, right.weights * factor, bound)
    if np.isfinite(factor) and ratio <= 1 and weights > 1:
        bound = should.bias_bound * room + size * np.abs(right.bias)
        whole = worst_ratio(folding.zero_bias(stored), right.bias * factor, bound)
        what = "its weights and bias were" if whole <= 1 < bias else "its weights were"
        yield Cause("scaled", f"{what} multiplied by {factor:.6g}", ratio, details={"factor": factor})


def _standing(norm: SourceNorm, node: Node, others: Sequence[BatchNorm]) -> Diagnosis:
    """Diagnose a batch norm that stands where it belongs."""
    told = tuple(standing.differences(norm, node))
    comparisons = standing.compared(norm, node)
    if not comparisons or any(one.name in {"training-mode", "epsilon-left"} for one in told):
        return Diagnosis(node, comparisons, told, 1.0)
    found = _paired(norm, node, others)
    return replace(found, found=found.found or told, likeness=1.0)


def _paired(norm: SourceNorm, node: Node, others: Sequence[BatchNorm]) -> Diagnosis:
    """Diagnose a batch norm that should be the scale and shift of `node`."""
    assert node.kernel is not None  # noqa: S101 - narrows the type
    right = as_map(norm)
    comparisons = measuring.of_kernel(right, node.kernel)
    lines = (node.kernel.weights.reshape(-1).astype(np.float64), folding.zero_bias(node.kernel))
    found, tried = ask_detective(norm, lines, others)
    expected = np.concatenate([right.weights.reshape(-1), right.bias])
    return Diagnosis(node, comparisons, tuple(found), correlation(expected, np.concatenate(lines)), tried)
