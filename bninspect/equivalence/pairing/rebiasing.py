"""Biases that a quantiser changed on purpose: by how much, counted in steps of what follows.

Quantisation leaves each channel of an operation off by some mean error. Quantisers that correct biases subtract it, as
they saw it on their calibration data (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019; NNCF's fast_bias_correction). That number is not the model's, and neither file holds the data:
the weights can be proved, the bias cannot, and whoever changed it for another reason looks the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bninspect.equivalence import folding, tensors
from bninspect.equivalence.pairing.fits import holds_weights, same_shape
from bninspect.equivalence.pairing.places import Pairing, Place, in_order, matches
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.equivalence.pairing.variants import variants
from bninspect.records import graph
from bninspect.records.graph import Network, Node


def completed(paired: Pairing, found: Sequence[SourceNorm], export: Network) -> Pairing:
    """Return a pairing with the places of operations whose quantised weights are right, whatever their bias is."""
    places = list(_places(paired, found)) if export.quantised else []
    if not places:
        return paired
    inside, nodes = {norm for one in places for norm in one.norms}, {one.node for one in places}
    held = {one.operation for one in places}
    return replace(
        paired,
        matches={**matches(places), **paired.matches},
        missing=tuple(norm for norm in paired.missing if norm not in inside),
        kernels=tuple(node for node in paired.kernels if node not in nodes),
        places=tuple(in_order((*paired.places, *places), export)),
        lost=tuple(one for one in paired.lost if one not in held),
    )


def _places(paired: Pairing, found: Sequence[SourceNorm]) -> Iterator[Place]:
    """Yield the places of the operations that are lost; of several the one with the nearest bias."""
    left = [node for node in paired.kernels if _is_rebiasable(node)]
    for operation in paired.lost:
        near = [
            (_off(node, variant.folded), place, node, variant)
            for node in left
            if same_shape(operation, node)
            for place, variant in enumerate(variants(operation, found))
            if variant.moved is None and holds_weights(node, variant.folded)
        ]
        if near:
            _, _, node, variant = min(near, key=lambda one: one[:2])
            left.remove(node)
            yield Place(node, variant.folded, operation, variant.inside, variant.front, rebiased=True)


def _is_rebiasable(node: Node) -> bool:
    """Return whether an operation has quantised weights and a bias of floats, and takes what is quantised already."""
    kernel = node.kernel
    return (
        kernel is not None and kernel.weight_step is not None and kernel.bias_step is None and not node.quantises_input
    )


def _off(node: Node, folded: folding.FoldedKernel) -> float:
    assert node.kernel is not None  # noqa: S101 - only such nodes are places
    return float(np.abs(folding.zero_bias(node.kernel) - folded.bias).max(initial=0.0))


def sentence(place: Place, export: Network) -> str:
    """Return what is said of a place whose weights are right and whose bias is another."""
    off = _off(place.node, place.expected)
    step = _step_behind(place.node.outputs[0], export)
    size = f"{off:.2g}{f', {off / step:.2g} steps of what follows' if step else ''}"
    return (
        f"its weights are right to half a step, its bias is off by up to {size}: "
        "the quantiser's bias correction or a mistake, which only its calibration data could tell; "
        "what is quantised without that correction is proved whole"
    )


def _step_behind(value: str, network: Network) -> float:
    """Return the step of the first quantised values that an operation's result reaches, the smallest; 0 for none."""
    reached = graph.first_after([value], network, network.quantised, across_kernels=False)
    return min((tensors.step(name, network) for name in reached), default=0.0)
