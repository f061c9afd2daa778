"""What converters do wrong when they fold a batch norm, each as the weights and bias that would come of it.

A hypothesis counts only if all weights and all of the bias are within its own bound. Every one of these has been seen
in a published converter or export; the sources are beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.causes.deviations.parameters import EPSILONS, epsilon_of
from bninspect.equivalence import folding
from bninspect.equivalence.diagnosis.arrangements import arrangements
from bninspect.equivalence.folding import ChannelMap, FoldedKernel
from bninspect.records import BatchNorm
from bninspect.records.graph import Kernel


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One way to get a fold wrong."""

    name: str
    sentence: str
    folded: FoldedKernel


_BIASES = {
    "bias-dropped": "the bias of the operation before it was dropped: bias = beta - mean*a",
    "bias-not-scaled": "the bias of the operation before it was added without being scaled: bias = b + beta - mean*a",
    "shift-not-folded": "only the scale was folded: bias = b*a, without beta and mean",
    "bias-not-folded": "the bias was left as it was: the weights are scaled, the bias is not folded",
    "mean-ignored": "the moving mean was ignored: bias = b*a + beta",
    "beta-ignored": "beta was ignored: bias = (b - mean)*a",
    "mean-not-scaled": "the moving mean was not scaled: bias = b*a - mean + beta",
    "mean-added": "the moving mean was added instead of subtracted: bias = (b + mean)*a + beta",
}
_WEIGHTS = {
    "weights-not-scaled": "the bias was folded and the weights were not scaled",
    "wrong-axis": "the scale was applied along the inputs of the weights instead of their outputs",
    "group-order": "the scale was applied to the outputs in the order of another grouping",
    "folded-twice": "it was folded twice: the weights hold the square of its scale",
}


def hypotheses(kernel: Kernel, norm: ChannelMap) -> Iterator[Hypothesis]:
    """Yield every way to get the fold of `norm` into the operation in front of it wrong, single deviations first."""
    right = folding.behind(folding.plain(kernel), norm)
    biases = dict(_biases(kernel, norm, right))
    for name, bias in biases.items():
        yield Hypothesis(name, _BIASES[name], replace(right, bias=bias))
    weights = dict(_weights(kernel, norm, right))
    for name, folded in weights.items():
        yield Hypothesis(name.partition(" ")[0], _WEIGHTS[name.partition(" ")[0]], folded)
        for other, bias in biases.items():
            both = f"{name.partition(' ')[0]} + {other}"
            sentence = f"{_WEIGHTS[name.partition(' ')[0]]}; {_BIASES[other]}"
            yield Hypothesis(both, sentence, replace(folded, bias=bias, bias_bound=right.bias_bound))
    for sentence, arranged in arrangements(kernel):
        yield Hypothesis("kernel-rearranged", sentence, folding.behind(folding.plain(arranged), norm))


def of_epsilon(kernel: Kernel, layer: BatchNorm) -> Iterator[Hypothesis]:
    """Yield the folds with another epsilon: rounding hides from coarse weights which formula their scales follow."""
    stored = np.nan if layer.epsilon is None else layer.epsilon
    for value in EPSILONS:
        if value != stored:
            said = epsilon_of(value, stored)
            norm = folding.affine(replace(layer, epsilon=value))
            yield Hypothesis(said.name, said.sentence, folding.behind(folding.plain(kernel), norm))


def with_siblings(kernel: Kernel, norm: ChannelMap, siblings: Sequence[tuple[str, ChannelMap]]) -> Iterator[Hypothesis]:
    """Yield the folds of another batch norm in the place of this one, or of both: seen where one kernel is used twice.

    Args:
        kernel: of the operation.
        norm: the batch norm that belongs to it.
        siblings: name and map of others with as many channels.
    """
    plain, right = folding.plain(kernel), folding.behind(folding.plain(kernel), norm)
    for name, other in siblings:
        swapped = folding.behind(plain, other)
        both = folding.behind(swapped, norm)
        weights, twice = right.with_weights(swapped), right.with_weights(both)
        own = "the bias is its own"
        yield Hypothesis("sibling-scale", f"the weights were scaled by another batch norm, {name}; {own}", weights)
        yield Hypothesis("sibling-fold", f"another batch norm, {name}, was folded in its place", swapped)
        yield Hypothesis("both-scales", f"the weights were scaled by another batch norm, {name}, as well; {own}", twice)
        yield Hypothesis("both-folds", f"another batch norm, {name}, was folded in as well", both)
        turned = folding.behind(right, other)
        yield Hypothesis("both-folds", f"another batch norm, {name}, was folded in after it as well", turned)


def _biases(kernel: Kernel, norm: ChannelMap, right: FoldedKernel) -> Iterator[tuple[str, Float64]]:
    b, a, mean, beta = folding.zero_bias(kernel), norm.scale, norm.mean, norm.beta
    with np.errstate(all="ignore"):
        every = {
            "bias-dropped": beta - mean * a,
            "bias-not-scaled": b + beta - mean * a,
            "shift-not-folded": b * a,
            "bias-not-folded": b,
            "mean-ignored": b * a + beta,
            "beta-ignored": (b - mean) * a,
            "mean-not-scaled": b * a - mean + beta,
            "mean-added": (b + mean) * a + beta,
        }
    for name, bias in every.items():
        # What comes to the same as the right bias here explains nothing.
        if not folding.fits(bias, right.bias, right.bias_bound):
            yield name, bias


def _weights(kernel: Kernel, norm: ChannelMap, right: FoldedKernel) -> Iterator[tuple[str, FoldedKernel]]:
    plain = folding.plain(kernel)
    outputs, inputs = kernel.outputs, kernel.weights.shape[1]
    yield "weights-not-scaled", right.with_weights(plain)
    twice = folding.behind(right, norm)
    yield "folded-twice", twice
    with np.errstate(all="ignore"):
        yield "folded-twice bias", right.with_weights(twice)
        if kernel.groups == 1 and inputs == outputs > 1:
            # A square kernel hides a wrong axis: every shape is right.
            along = norm.scale[:, np.newaxis]
            yield "wrong-axis", _reweighted(right, along)
        for place, order in enumerate(_orders(outputs, kernel.groups)):
            scale = norm.scale[order]
            yield f"group-order {place}", _reweighted(right, scale)
            moved = ChannelMap(scale, norm.shift[order], norm.mean[order], norm.beta[order])
            yield f"group-order {place} all", folding.behind(plain, moved)


def _reweighted(right: FoldedKernel, scale: Float64) -> FoldedKernel:
    least = np.full(right.bias.shape, right.weight_bound.min())
    return replace(right, factor=np.atleast_2d(scale), relative=16 * folding.U, absolute=least)


def _orders(outputs: int, groups: int) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Yield the orders that come of taking groups and channels in each other's place.

    A transposed convolution of torch stores (inputs, outputs per group), so that a scale along the stored axis is that
    of the first group for all of them; a depthwise one of TensorFlow has (inputs, multiplier) where others have
    (multiplier, inputs). Seen in coremltools' and in torch's fusion of grouped transposed convolutions.
    """
    if groups <= 1 or outputs % groups:
        return
    each = outputs // groups
    channel = np.arange(outputs)
    swapped = channel.reshape(groups, each).T.reshape(-1)
    for order in (channel % each, swapped, np.argsort(swapped)):
        if not np.array_equal(order, channel):
            yield order
