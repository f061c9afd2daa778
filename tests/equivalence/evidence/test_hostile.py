"""What a file claims of kernels, attributes and steps may be nonsense: that is said, and nothing breaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.equivalence import folding
from bninspect.equivalence.evidence import local
from bninspect.equivalence.evidence.cut_off import CutOff
from bninspect.equivalence.evidence.slack import Slack
from bninspect.equivalence.judgement import claims
from bninspect.equivalence.pairing.places import Place
from bninspect.errors import BninspectError
from bninspect.records import Array, graph
from bninspect.records.graph import ActivationLimits, Geometry, Kernel, Network, Node, Quantisation

KINDS = (graph.CONVOLUTION, graph.DEPTHWISE, graph.TRANSPOSED, graph.DENSE, graph.BATCH_NORM)
NUMBERS = st.sampled_from([-1, 0, 1, 1, 1, 2, 3, 2**31 - 1, 2**40, 2**62])
STEPS = st.sampled_from([0.1, 0.0, -0.5, np.nan, np.inf, 1e-45, 1e300, 2.0])
TYPES = st.sampled_from(["float32", "float16", "float64", "int8", "uint8", "int32", "bool"])


def _several(rank: int, numbers: st.SearchStrategy[int] = NUMBERS) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[numbers] * rank)


@st.composite
def quantisations(draw: Any, channels: int) -> Quantisation:
    count = draw(st.sampled_from([1, 1, channels, 3, 0]))
    zeros = st.lists(st.sampled_from([0, 0, -128, 10**9, -(2**62)]), min_size=count, max_size=count)
    scale = draw(st.lists(STEPS, min_size=count, max_size=count))
    levels = draw(st.sampled_from([None, None, 0, 1, 256, 2**40]))
    dtype = draw(st.sampled_from(["int8", "uint8", "int16", "int32", "float32"]))
    return Quantisation(np.array(scale), np.array(draw(zeros)), dtype, draw(st.sampled_from([0, 1, -1, 7, -9])), levels)


@st.composite
def kernels(draw: Any, shape: tuple[int, int, int]) -> Kernel:
    weights = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weights.flat[0] = draw(st.sampled_from([1.0, 1.0, np.nan, np.inf]))
    of_outputs = st.none() | STEPS.map(lambda one: np.full(shape[2], one))
    groups = draw(st.sampled_from([1, 1, 1, 2, 0, -1, 7, 2**40]))
    dtype = draw(st.sampled_from(["float32", "float16", "bfloat16"]))
    flushed = draw(st.sampled_from([0.0, 1e-3, np.nan]))
    return Kernel(weights, draw(of_outputs), groups, dtype, draw(of_outputs), draw(of_outputs), flushed=flushed)


@st.composite
def claimed(draw: Any) -> tuple[Place, Network, Mapping[str, Array]]:
    """Return a place, the export that it is of, and what flowed there."""
    rank, shape = draw(st.integers(0, 3)), draw(_of_weights)
    sizes = _several(rank, st.sampled_from([1, 3, 3, 9, 0, -1, 2**31]))
    padding = draw(st.sampled_from(["same", "same lower", "nonsense"]) | st.tuples(*[_several(2)] * rank))
    several = [draw(_several(rank)) for _ in range(3)]
    geometry = Geometry(
        draw(sizes), several[0], padding, several[1], several[2], channel_axis=draw(st.sampled_from([-1, 1, 0, 5, -7]))
    )
    lengths = _several(rank, st.sampled_from([1, 4, 7]))
    odd = st.lists(st.sampled_from([0, 1, 2, 4]), max_size=5).map(tuple)
    shapes = {
        "x": draw(st.tuples(st.just(2)).flatmap(lambda _: lengths).map(lambda one: (2, *one, shape[1])) | odd),
        "y": draw(lengths.map(lambda one: (2, *one, shape[2])) | odd),
    }
    shapes |= {"factor": draw(st.just(shapes["x"]) | odd), "between": shapes["y"]}
    values = {name: np.ones(one, draw(TYPES)) for name, one in shapes.items()}
    node = Node(
        "operation",
        draw(st.sampled_from(KINDS)),
        ("x",),
        ("y",),
        draw(kernels(shape)),
        geometry=draw(st.just(geometry) | st.none()),
        limits=draw(st.sampled_from([None, ActivationLimits(0.0, 6.0), ActivationLimits(6.0, np.nan)])),
        activation=draw(st.sampled_from(["", "tanh", "gelu"])),
        quantises_input=draw(st.booleans()),
        factor=draw(st.sampled_from(["", "", "factor"])),
        rounds=draw(st.sampled_from([{}, {"between": np.ones(shape[2])}, {"nowhere": np.full(shape[2], np.nan)}])),
    )
    quantised = draw(st.dictionaries(st.sampled_from(["x", "y"]), quantisations(shape[2])))
    dequantised = draw(st.dictionaries(st.just("between"), quantisations(shape[2])))
    own = Kernel(np.random.default_rng(1).standard_normal(shape).astype(np.float32))
    return Place(node, folding.plain(own), node), Network((), (), (node,), quantised, dequantised), values


_of_weights = st.tuples(st.sampled_from([1, 3, 9]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))


@given(claimed())
@settings(max_examples=200, deadline=None)
def test_nonsense_is_refused_or_shown_and_breaks_nothing(case: tuple[Place, Network, Mapping[str, Array]]) -> None:
    place, network, values = case
    proof = local.prove(place, network, values, 2.0**-24)
    assert proof.compared is not None or proof.why
    claims.of_weights(place)
    slack = Slack(network, values, set())
    seen = {"y": CutOff("y", 1.0, 1, (0.0, 1.0))}
    for ask in (
        lambda: claims.of_range(place, proof, network, seen),
        lambda: slack.arriving("y"),
        lambda: slack.is_cut("y"),
    ):
        try:
            ask()
        except BninspectError as error:
            assert error.why  # noqa: PT017 - either is right
