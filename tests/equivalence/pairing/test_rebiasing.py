"""Biases that a quantiser corrected: neither verified nor called wrong, and mistakes beside them stay mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bninspect.equivalence import folding
from bninspect.equivalence.diagnosis.kernels import of_bias
from bninspect.equivalence.pairing import rebiasing, source_norms
from bninspect.equivalence.pairing.pair import pair
from bninspect.equivalence.pairing.places import Pairing
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import Array, BatchNorm, graph
from bninspect.records.graph import Kernel, Network, Node, Quantisation, Value

_GENERATOR = np.random.default_rng(16)
_WEIGHTS = _GENERATOR.normal(size=(9, 4, 6))
_BIAS = _GENERATOR.normal(size=6)
_STEP = np.full(6, 0.05)


def _layer() -> BatchNorm:
    gamma, beta, mean, variance = _GENERATOR.uniform(0.5, 2, (4, 6)).astype(np.float32)
    return BatchNorm("bn", gamma, beta, mean, variance, epsilon=1e-3, axis=(1,))


_LAYER = _layer()


def _source() -> tuple[Network, tuple[SourceNorm, ...]]:
    conv = Node("conv", graph.CONVOLUTION, ("x",), ("c",), Kernel(_WEIGHTS, _BIAS))
    norm = Node("bn", graph.BATCH_NORM, ("c",), ("y",), layer="bn")
    network = Network((Value("x", (1, 4, 8, 8), "float32"),), (Value("y", (1, 6, 8, 8), "float32"),), (conv, norm))
    return network, source_norms.norms(network, {"bn": _LAYER})


def _export(weights: Array, bias: Array, *, quantised: bool = True, step: Array | None = _STEP) -> Network:
    """Return one convolution whose weights are rounded to steps, behind floats that are."""
    stored = np.rint(weights / _STEP) * _STEP
    node = Node("made", graph.CONVOLUTION, ("q",), ("z",), Kernel(stored, bias, weight_step=step))
    steps = {name: Quantisation(np.array([size]), np.zeros(1), "float32", levels=256) for name, size in _SIZES.items()}
    through = Node("rounded", "identity", ("z",), ("out",))
    return Network((), (Value("out", (), "float32"),), (node, through), steps if quantised else {})


_SIZES = {"q": 0.1, "out": 0.02}


def _paired(export: Network) -> tuple[Pairing, tuple[SourceNorm, ...]]:
    source, norms = _source()
    return rebiasing.completed(pair(norms, source, export), norms, export), norms


def _folded() -> tuple[Array, Array]:
    a = _LAYER.arrays["gamma"] / np.sqrt(_LAYER.arrays["moving_variance"].astype(np.float64) + 1e-3)
    return _WEIGHTS * a, (_BIAS - _LAYER.arrays["moving_mean"]) * a + _LAYER.arrays["beta"]


def test_bias_that_is_right_needs_no_excuse() -> None:
    paired, _ = _paired(_export(*_folded()))
    assert [one.rebiased for one in paired.places] == [False]


def test_corrected_bias_is_told_with_its_size() -> None:
    weights, bias = _folded()
    export = _export(weights, bias + np.array([0, 0, 0.05, 0, -0.01, 0]))
    paired, norms = _paired(export)
    (place,) = paired.places
    assert (place.rebiased, place.norms, paired.missing, paired.lost) == (True, norms, (), ())
    assert of_bias(place, []) is None
    said = rebiasing.sentence(place, export)
    assert "off by up to 0.05, 2.5 steps of what follows" in said
    assert "or a mistake" in said


def test_wrong_weights_have_no_excuse() -> None:
    weights, bias = _folded()
    wrong = weights.copy()
    wrong[4, 2, 3] += 0.06  # more than half a step, wherever it was between two
    paired, norms = _paired(_export(wrong, bias + 0.05))
    assert (paired.places, paired.missing) == ((), norms)


def test_other_epsilon_has_no_excuse() -> None:
    a = _LAYER.arrays["gamma"] / np.sqrt(_LAYER.arrays["moving_variance"].astype(np.float64) + 0.1)
    paired, norms = _paired(_export(_WEIGHTS * a, _folded()[1]))
    assert (paired.places, paired.missing) == ((), norms)


def test_known_mistake_in_the_bias_is_named() -> None:
    a = _LAYER.arrays["gamma"] / np.sqrt(_LAYER.arrays["moving_variance"].astype(np.float64) + 1e-3)
    weights, _ = _folded()
    paired, _ = _paired(_export(weights, _LAYER.arrays["beta"] - _LAYER.arrays["moving_mean"] * a))
    (place,) = paired.places
    cause = of_bias(place, [])
    assert cause is not None
    assert cause.name == "bias-dropped"


def test_only_what_is_quantised_may_have_been_corrected() -> None:
    weights, bias = _folded()
    for export in (_export(weights, bias + 0.05, quantised=False), _whole_biases(_export(weights, bias + 0.05))):
        paired, norms = _paired(export)
        assert (paired.places, paired.missing) == ((), norms)


def _whole_biases(export: Network) -> Network:
    """Return an export whose bias is of whole numbers, which nobody corrects."""
    first, *rest = export.nodes
    assert first.kernel is not None
    kernel = replace(first.kernel, bias_step=np.full(6, 1e-6))
    return replace(export, nodes=(replace(first, kernel=kernel), *rest))


def test_step_of_float16_widens_the_bound_by_its_rounding() -> None:
    """A step of 1e-7 is a subnormal of float16: 1.19e-7 is the nearest, and 200 of them are 3.8e-6 off."""
    step = np.array([1e-7])
    narrow = step.astype(np.float16).astype(np.float64)
    right = np.full((1, 1, 1), 200 * step[0])
    stored = Kernel(200 * narrow.reshape(1, 1, 1), weight_step=narrow, step_dtype="float16")
    expected = folding.plain(Kernel(right))
    within = folding.as_stored(expected, stored)
    assert folding.fits(stored.weights, within.weights, within.weight_bound)
    plain = folding.as_stored(expected, replace(stored, step_dtype="float32"))
    assert not folding.fits(stored.weights, plain.weights, plain.weight_bound)


def test_weights_of_halves_that_were_quantised_in_halves() -> None:
    """A quantiser that divides in float16 is off by up to half a step more; a scale off by 1 %, or two steps, shows."""
    weights = _GENERATOR.normal(size=(9, 60, 6)).astype(np.float16)
    high = np.abs(weights).max(axis=(0, 1))
    places = np.rint((weights + high) / (high + high) * np.float16(254)).astype(np.float64) - 127
    step = ((high + high) / np.float16(254)).astype(np.float64)
    expected = folding.plain(Kernel(weights, dtype="float16", narrow=True))

    def fits(of: Array, step: Array, counted: str = "float16") -> bool:
        stored = Kernel(of * step, None, 1, "float32", step, step_dtype="float16", counted=counted)
        within = folding.as_stored(expected, stored)
        return folding.fits(stored.weights, within.weights, within.weight_bound)

    one = np.ones((1, 1, 1))
    for counted, off in (("", 0.5), ("float32", 0.5 + 1024 * 2.0**-24), ("float16", 1.0)):
        within = folding.as_stored(folding.plain(Kernel(0 * one)), Kernel(one, weight_step=one[0, 0], counted=counted))
        np.testing.assert_allclose(within.weight_bound, off, rtol=1e-5)
    assert fits(places, step)
    assert not fits(places, step, "float32")
    assert not fits(places, step * 1.01)
    off = places.copy()
    off[4, 7, 2] += 2
    assert not fits(off, step)


def test_weights_that_a_format_flushed_to_zero_are_right_there_alone() -> None:
    """5e-5 is a subnormal of float16, which pnnx stores as zero; as another number than its own it is wrong."""
    expected = folding.plain(Kernel(np.full((1, 1, 2), 5e-5)))
    for stored, right in ((0.0, True), (6.2e-5, False), (2e-5, False)):
        kernel = Kernel(np.array([[[stored, 5e-5]]]), dtype="float16", flushed=2.0**-14)
        within = folding.as_stored(expected, kernel)
        assert folding.fits(kernel.weights, within.weights, within.weight_bound) is right
