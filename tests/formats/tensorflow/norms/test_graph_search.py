"""Finding batch norms: in whatever order their arithmetic stands, and nothing that only resembles one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from helpers.tensorflow_files import const, graph, message, node
from hypothesis import given
from hypothesis import strategies as st

from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.tensorflow.graph.flatten import flatten, flatten_all
from bninspect.formats.tensorflow.graph.graph_def import GraphDef
from bninspect.formats.tensorflow.norms.graph_search import SearchResult, search
from bninspect.formats.tensorflow.norms.site import NormSite
from bninspect.records import Form, Statistics

FLOAT = np.dtype("float32")
C = 3


@dataclass
class Writer:
    """Writes single operations, as Python operators would, and names them."""

    nodes: list[bytes] = field(default_factory=list)

    def op(self, name: str, *inputs: str, **attributes: object) -> str:
        here = f"{name.lower()}_{len(self.nodes)}"
        self.nodes.append(node(here, name, *inputs, T=FLOAT, **attributes))
        return here

    def parameter(self, name: str) -> str:
        self.nodes.append(const(f"bn/{name}", np.linspace(0.5, 1.5, C, dtype=np.float32)))
        return f"bn/{name}"

    def number(self, value: float) -> str:
        name = f"number_{len(self.nodes)}"
        self.nodes.append(const(name, np.array(value, np.float32)))
        return name

    def data(self) -> str:
        self.nodes.append(node("x", "Placeholder", dtype=FLOAT))
        return "x"

    def found(self, *outputs: str) -> SearchResult:
        read = GraphDef.read(Message(graph(*self.nodes)))
        return search(flatten(read, outputs) if outputs else flatten_all(read))


@dataclass
class Author:
    """Writes batch norms in an order that hypothesis draws; `wrong` says what is wrong with them."""

    draw: st.DrawFn
    wrong: str
    w: Writer

    def times(self, a: str, b: str) -> str:
        return self.w.op("Mul", *self.draw(st.permutations([a, b])))

    def plus(self, a: str, b: str) -> str:
        return self.w.op(self.draw(st.sampled_from(["Add", "AddV2"])), *self.draw(st.permutations([a, b])))

    def inverse_root(self, variance: str, epsilon: float) -> str:
        w, number = self.w, self.w.number(epsilon)
        if self.wrong == "epsilon outside":
            return w.op("Reciprocal", self.plus(w.op("Sqrt", variance), number))
        total = self.plus(variance, number)
        if self.wrong == "no root":
            return w.op("Reciprocal", total)
        if self.wrong == "root, not its inverse":
            return w.op("Sqrt", total)
        match self.draw(st.sampled_from(["Rsqrt", "Reciprocal", "Inv", "Pow", "RealDiv"])):
            case "Rsqrt":
                return w.op("Rsqrt", total)
            case "Pow":
                return w.op("Pow", total, w.number(-0.5))
            case "RealDiv":
                return w.op("RealDiv", w.number(1.0), w.op("Sqrt", total))
            case way:
                return w.op(way, w.op("Sqrt", total))

    def centred(self, x: str, mean: str, inverse: str, gamma: str, beta: str) -> str:
        y = self.plus(x, mean) if self.wrong == "mean added" else self.w.op("Sub", x, mean)
        factors = [one for one in (inverse, gamma) if one]
        if gamma and self.draw(st.booleans()):
            factors = [self.times(inverse, gamma)]
        for factor in self.draw(st.permutations(factors)):
            y = self.times(y, factor)
        return self.plus(y, beta) if beta else y

    def affine(self, x: str, mean: str, inverse: str, gamma: str, beta: str) -> str:
        a = self.times(inverse, gamma) if gamma else inverse
        product = self.times(mean, a)
        if self.wrong == "mean added":
            shift = self.plus(beta, product) if beta else product
        elif beta:
            shift = self.w.op("Sub", beta, product)
        elif self.draw(st.booleans()):
            shift = self.w.op("Neg", product)
        else:
            shift = self.times(self.w.op("Neg", mean), a)
        return self.plus(self.times(x, a), shift)


@st.composite
def spelt_out(draw: st.DrawFn, wrong: str = "") -> tuple[Writer, str, set[str], float]:
    """Return a batch norm written in some order, its output, its parameters and its epsilon."""
    w = Writer()
    author = Author(draw, wrong, w)
    x, mean, variance = w.data(), w.parameter("mean"), w.parameter("variance")
    names = draw(st.sets(st.sampled_from(["gamma", "beta"])))
    gamma, beta = (w.parameter(name) if name in names else "" for name in ("gamma", "beta"))
    view = draw(st.sampled_from(["", "Identity", "StopGradient", "Snapshot"]))
    epsilon = draw(st.sampled_from([1e-3, 1e-5, 1.001e-5, 0.5]))
    inverse = author.inverse_root(w.op(view, variance) if view else variance, epsilon)
    write = author.centred if draw(st.booleans()) else author.affine
    return w, write(x, mean, inverse, gamma, beta), names | {"moving_mean", "moving_variance"}, epsilon


SOURCES = {
    "gamma": ("bn/gamma",),
    "beta": ("bn/beta",),
    "moving_mean": ("bn/mean",),
    "moving_variance": ("bn/variance",),
}


@given(spelt_out())
def test_every_order_of_the_arithmetic_is_found(case: tuple[Writer, str, set[str], float]) -> None:
    w, y, parameters, epsilon = case
    (site,) = w.found(y).sites
    assert {name: leaf.sources for name, leaf in site.parameters.items()} == {
        name: SOURCES[name] for name in parameters
    }
    assert site.epsilon == epsilon
    assert (site.x, site.y) == (("x", 0), (y, 0))
    assert site.statistics is Statistics.MOVING


@given(spelt_out("epsilon outside"))
def test_epsilon_outside_of_the_root_is_found_and_said(case: tuple[Writer, str, set[str], float]) -> None:
    w, y, _, epsilon = case
    found = w.found(y)
    (site,) = found.sites
    assert site.epsilon == epsilon
    assert "outside" in site.notes[0]
    assert found.unread == ()


def _normalised(w: Writer, axes: list[int], shape: list[int | None] | None = None) -> str:
    """Write a normalisation by moments of its own input, reshaped first if there is a shape."""
    x = w.data()
    w.nodes.append(const("axes", np.array(axes, np.int32)))
    if shape is not None:
        w.nodes.append(const("shape", np.array(shape, np.int32)))
        x = w.op("Reshape", x, "shape")
    mean = w.op("Mean", x, "axes")
    variance = w.op("Mean", w.op("SquaredDifference", x, mean), "axes")
    return w.op("Mul", w.op("Sub", x, mean), w.op("Rsqrt", w.op("AddV2", variance, w.number(1e-3))))


@pytest.mark.parametrize("axes", [[0], [0, 1, 2], [0, 2, 3], [-4, -3, -2]])
def test_moments_over_the_batch_are_a_batch_norm_without_gamma_too(axes: list[int]) -> None:
    w = Writer()
    (site,) = w.found(_normalised(w, axes)).sites
    assert (site.statistics, site.epsilon, dict(site.parameters)) == (Statistics.BATCH, 1e-3, {})


@pytest.mark.parametrize(
    ("axes", "shape"), [([-1], None), ([1, 2], None), ([0, 1, 2, 3], None), ([0, 2, 3], [1, 6, 2, 2])]
)
def test_moments_within_samples_or_over_everything_are_none(axes: list[int], shape: list[int | None] | None) -> None:
    w = Writer()
    assert w.found(_normalised(w, axes, shape)).sites == ()


@pytest.mark.parametrize("kind", ["power", "at least epsilon", "outside", "sums", "of squares"])
def test_however_the_moments_of_the_batch_are_written(kind: str) -> None:
    w = Writer()
    x = w.data()
    w.nodes.append(const("axes", np.array([0, 1, 2], np.int32)))
    reduction = "Sum" if kind == "sums" else "Mean"

    def moment(of: str) -> str:
        reduced = w.op(reduction, of, "axes")
        return w.op("RealDiv", reduced, w.number(32.0)) if kind == "sums" else reduced

    mean = moment(x)
    difference = w.op("Sub", x, mean)
    if kind == "of squares":
        variance = w.op("Sub", moment(w.op("Mul", x, x)), w.op("Square", mean))
    else:
        variance = moment(w.op("Square", difference))
    if kind == "power":
        y = w.op("Mul", difference, w.op("Pow", w.op("AddV2", variance, w.number(1e-3)), w.number(-0.5)))
    elif kind == "at least epsilon":
        y = w.op("RealDiv", difference, w.op("Sqrt", w.op("Maximum", variance, w.number(1e-3))))
    elif kind == "outside":
        y = w.op("RealDiv", difference, w.op("AddV2", w.op("Sqrt", variance), w.number(1e-3)))
    else:
        y = w.op("Mul", difference, w.op("Rsqrt", w.op("AddV2", variance, w.number(1e-3))))
    (site,) = w.found(y).sites
    assert (site.statistics, site.epsilon) == (Statistics.BATCH, 1e-3)


def test_a_feature_of_the_deviations_of_a_batch_is_none() -> None:
    w = Writer()
    x = w.data()
    w.nodes.append(const("axes", np.array([0], np.int32)))
    variance = w.op("Mean", w.op("SquaredDifference", x, w.op("Mean", x, "axes")), "axes")
    deviation = w.op("Sqrt", w.op("AddV2", variance, w.number(1e-8)))
    assert w.found(w.op("AddV2", x, w.op("Mean", deviation, "axes"))).sites == ()


@pytest.mark.parametrize("wrong", ["no root", "root, not its inverse", "mean added"])
@given(data=st.data())
def test_what_is_not_the_formula_is_not_found(wrong: str, data: st.DataObject) -> None:
    w, y, _, _ = data.draw(spelt_out(wrong=wrong))
    assert w.found(y).sites == ()


def test_gamma_squared_is_not_found() -> None:
    w = Writer()
    x, mean, variance, gamma = w.data(), w.parameter("mean"), w.parameter("variance"), w.parameter("gamma")
    a = w.op("Mul", w.op("Mul", w.op("Rsqrt", w.op("Add", variance, w.number(1e-3))), gamma), gamma)
    y = w.op("Sub", w.op("Mul", x, a), w.op("Mul", mean, a))
    assert w.found(y).sites == ()


def affine(w: Writer, x: str, scope: str = "bn") -> str:
    """Write tf.nn.batch_normalization without an offset."""
    names = [f"{scope}/{name}".lstrip("/") for name in ("mean", "variance", "gamma")]
    w.nodes += [const(name, np.ones(C, np.float32)) for name in names]
    mean, variance, gamma = names
    a = w.op("Mul", w.op("Rsqrt", w.op("AddV2", variance, w.number(1e-3))), gamma)
    return w.op("AddV2", w.op("Mul", x, a), w.op("Mul", w.op("Neg", mean), a))


@pytest.mark.parametrize(
    ("scope", "bias", "is_beta"),
    [("bn", "bn/offset", True), ("bn", "dense/bias", False), ("", "bias", False)],
)
def test_what_is_added_is_its_beta_only_if_it_is_kept_beside_its_mean(scope: str, bias: str, is_beta: bool) -> None:
    w = Writer()
    inner = affine(w, w.data(), scope)
    w.nodes.append(const(bias, np.ones(C, np.float32)))
    y = w.op("BiasAdd", inner, bias)
    (site,) = w.found(y).sites
    assert ("beta" in site.parameters) == is_beta
    assert site.y == (y if is_beta else inner, 0)


def test_a_result_that_is_used_elsewhere_ends_the_batch_norm() -> None:
    w = Writer()
    x, mean, variance, beta = w.data(), w.parameter("mean"), w.parameter("variance"), w.parameter("beta")
    plain = w.op("Mul", w.op("Sub", x, mean), w.op("Rsqrt", w.op("Add", variance, w.number(1e-3))))
    y = w.op("Add", plain, beta)
    (site,) = w.found(y, w.op("Relu", plain)).sites
    assert site.y == (plain, 0)


def test_forms() -> None:
    w = Writer()
    assert form_of(affine(w, w.data()), w) is Form.AFFINE
    w = Writer()
    x, mean, variance = w.data(), w.parameter("mean"), w.parameter("variance")
    root = w.op("Sqrt", w.op("Add", variance, w.number(1e-3)))
    assert form_of(w.op("RealDiv", w.op("Sub", x, mean), root), w) is Form.CENTRED


def form_of(y: str, w: Writer) -> Form:
    (site,) = w.found(y).sites
    return site.form


def fused(op: str = "FusedBatchNormV3", **attributes: object) -> NormSite:
    """Return the one site of a graph with a fused batch norm of these attributes."""
    w = Writer()
    names = [w.parameter(name) for name in ("gamma", "beta", "mean", "variance")]
    w.nodes.append(node("bn/fused", op, w.data(), *names, **{"T": FLOAT, **attributes}))
    (site,) = w.found("bn/fused").sites
    return site


def test_attributes_that_were_stripped_have_the_defaults_of_the_operation() -> None:
    site = fused()
    assert (site.epsilon, site.statistics, site.axis) == (1e-4, Statistics.BATCH, (-1,))


@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"])
def test_fused_operations(op: str) -> None:
    site = fused(op, epsilon=float(np.float32(1.001e-5)), is_training=False, data_format="NCHW")
    assert (site.epsilon, site.statistics, site.axis) == (1.001e-5, Statistics.MOVING, (1,))
    assert (site.form, site.arithmetic, site.output) == (Form.CENTRED, "float32", "float32")
    assert {name: leaf.sources for name, leaf in site.parameters.items()} == SOURCES


@pytest.mark.parametrize(("layout", "axis"), [("NHWC", -1), ("NDHWC", -1), ("NCDHW", 1)])
def test_layouts(layout: str, axis: int) -> None:
    assert fused(is_training=False, data_format=layout).axis == (axis,)


def test_half_precision_is_computed_in_float32() -> None:
    site = fused(is_training=False, T=np.dtype("float16"))
    assert (site.arithmetic, site.output) == ("float32", "float16")


@pytest.mark.parametrize("scaled", [True, False])
def test_the_operation_of_2016_has_its_inputs_in_another_order(scaled: bool) -> None:
    w = Writer()
    mean, variance, beta, gamma = (w.parameter(name) for name in ("mean", "variance", "beta", "gamma"))
    attributes = {"variance_epsilon": float(np.float32(1e-3)), "scale_after_normalization": scaled}
    op = "BatchNormWithGlobalNormalization"
    w.nodes.append(node("y", op, w.data(), mean, variance, beta, gamma, T=FLOAT, **attributes))
    (site,) = w.found("y").sites
    expected = {name: source for name, source in SOURCES.items() if scaled or name != "gamma"}
    assert {name: leaf.sources for name, leaf in site.parameters.items()} == expected
    assert site.epsilon == 1e-3


def test_layer_normalisation_by_the_fused_operation_is_none() -> None:
    w = Writer()
    w.nodes += [const("ln/ones", np.ones(C, np.float32)), const("ln/Const_1", np.zeros(C, np.float32))]
    w.nodes.append(const("shape", np.array([1, -1, C, 1], np.int32)))
    x = w.op("Reshape", w.data(), "shape")
    w.nodes.append(node("y", "FusedBatchNormV3", x, "ln/ones", "ln/Const_1", "ln/Const_1", "ln/Const_1"))
    assert w.found("y").sites == ()


def moments(w: Writer, x: str, axes: list[int]) -> str:
    """Write a normalisation by the statistics of its own input, with a gamma and a beta."""
    w.nodes.append(const("axes", np.array(axes, np.int32)))
    mean = w.op("Mean", x, "axes")
    variance = w.op("Mean", w.op("SquaredDifference", x, w.op("StopGradient", mean)), "axes")
    a = w.op("Mul", w.op("Rsqrt", w.op("Add", variance, w.number(1e-3))), w.parameter("gamma"))
    shift = w.op("Sub", w.parameter("beta"), w.op("Mul", mean, a))
    return w.op("Add", w.op("Mul", x, a), shift)


@pytest.mark.parametrize("axes", [[0], [0, 1, 2]])
def test_batch_statistics_are_told_apart(axes: list[int]) -> None:
    w = Writer()
    (site,) = w.found(moments(w, w.data(), axes)).sites
    assert site.statistics is Statistics.BATCH
    assert {name: leaf.sources for name, leaf in site.parameters.items()} == {
        name: SOURCES[name] for name in ("gamma", "beta")
    }


@pytest.mark.parametrize("axes", [[1], [1, 2], [-1]])
def test_statistics_of_each_sample_are_layer_or_instance_normalisation(axes: list[int]) -> None:
    w = Writer()
    assert w.found(moments(w, w.data(), axes)).sites == ()


def test_a_loop_of_tf1_hides_what_is_in_it() -> None:
    w = Writer()
    x = w.data()
    w.nodes += [
        node("enter", "Enter", x, T=FLOAT),
        node("merge", "Merge", "enter", "next", T=FLOAT),
        node("cond", "LoopCond", "merge"),
        node("switch", "Switch", "merge", "cond", T=FLOAT),
        node("exit", "Exit", "switch", T=FLOAT),
    ]
    inner = affine(w, "switch:1", "inner")
    w.nodes.append(node("next", "NextIteration", inner, T=FLOAT))
    outer = affine(w, "exit", "outer")
    found = {site.y[0]: site.hidden for site in w.found(outer).sites}
    assert found == {inner: "inside a while loop", outer: ""}


def folded(*nodes: bytes) -> Iterator[tuple[str, str]]:
    w = Writer(list(nodes))
    w.data()
    for one in w.found().folded:
        yield one.name, one.into.partition(" ")[0]


def test_what_was_folded_to_constants_is_named() -> None:
    nodes = (
        const("bn1/batchnorm/mul", np.ones(C, np.float32)),
        const("bn1/batchnorm/sub", np.ones(C, np.float32)),
        node("bn1/batchnorm/mul_1", "Mul", "x", "bn1/batchnorm/mul", T=FLOAT),
        node("bn1/batchnorm/add_1", "AddV2", "bn1/batchnorm/mul_1", "bn1/batchnorm/sub", T=FLOAT),
    )
    assert list(folded(*nodes)) == [("bn1/batchnorm/add_1", "a")]


def test_what_was_folded_into_a_convolution_is_named() -> None:
    bias = const("bias", np.ones(C, np.float32))
    assert list(folded(bias, node("bn1/FusedBatchNormV3", "BiasAdd", "x", "bias", T=FLOAT))) == [
        ("bn1/FusedBatchNormV3", "the")
    ]


def test_the_bias_of_a_layer_called_bn_is_none() -> None:
    bias = const("bn_dense/bias", np.ones(C, np.float32))
    assert list(folded(bias, node("bn_dense/BiasAdd", "BiasAdd", "x", "bn_dense/bias", T=FLOAT))) == []


def test_what_grappler_merged_with_a_convolution_is_there_and_hidden() -> None:
    w = Writer()
    names = [w.parameter(name) for name in ("gamma", "beta", "mean", "variance")]
    w.nodes.append(const("filter", np.ones((1, 1, C, C), np.float32)))
    merged = node("y", "_FusedConv2D", w.data(), "filter", *names, T=FLOAT, epsilon=float(np.float32(1e-3)))
    # AttrValue.list.s
    ops = message((1, "fused_ops"), (2, message((1, message((2, "FusedBatchNorm"), (2, "Relu"))))))
    w.nodes.append(merged + message((5, ops)))
    (site,) = w.found("y").sites
    assert "_FusedConv2D" in site.hidden
    assert {name: leaf.sources for name, leaf in site.parameters.items()} == SOURCES


def test_a_fused_operation_whose_statistics_are_computed_is_a_layer_of_these() -> None:
    w = Writer()
    x = w.data()
    w.nodes += [const("axes", np.array([0, 1, 2], np.int32)), const("bn/gamma", np.ones(C, np.float32))]
    mean, beta = w.op("Mean", x, "axes"), w.parameter("beta")
    w.nodes.append(node("y", "FusedBatchNormV3", x, "bn/gamma", beta, mean, mean, is_training=False))
    found = w.found("y")
    assert [site.statistics for site in found.sites] == [Statistics.COMPUTED]
    assert found.unread == ()


@pytest.mark.parametrize("op", ["_FusedBatchNormEx", "_MklFusedBatchNormEx", "_MklNativeFusedBatchNormV3"])
def test_what_grappler_merges_is_a_layer_that_nobody_sees(op: str) -> None:
    w = Writer()
    arrays = [w.parameter(name) for name in ("gamma", "beta", "mean", "variance")]
    w.nodes.append(node("y", op, w.data(), *arrays, T=FLOAT, epsilon=float(np.float32(1e-3)), is_training=False))
    (site,) = w.found("y").sites
    assert (site.epsilon, op in site.hidden) == (1e-3, True)
    assert {name: leaf.sources for name, leaf in site.parameters.items()} == SOURCES


@pytest.mark.parametrize("op", ["_FusedConv2D", "_FusedDepthwiseConv2dNative", "_MklNativeFusedConv2D"])
@pytest.mark.parametrize("holds", [True, False])
def test_a_convolution_that_grappler_merged_with_one_is_a_layer_only_if_it_says_so(op: str, holds: bool) -> None:
    w = Writer()
    arrays = [w.parameter(name) for name in ("gamma", "beta", "mean", "variance")]
    w.nodes.append(const("kernel", np.ones((1, 1, C, C), np.float32)))
    ops = [b"FusedBatchNorm" if holds else b"BiasAdd", b"Relu"]
    w.nodes.append(node("y", op, w.data(), "kernel", *arrays, T=FLOAT, fused_ops=ops, epsilon=0.25))
    assert [site.epsilon for site in w.found("y").sites] == ([0.25] if holds else [])


@pytest.mark.parametrize(
    "op", ["QuantizedBatchNormWithGlobalNormalization", "HorovodSyncBatchNorm", "CudnnBatchNormInference"]
)
def test_operations_that_are_called_so_and_not_known_are_counted(op: str) -> None:
    w = Writer()
    arrays = [w.parameter(name) for name in ("mean", "variance", "beta", "gamma")]
    w.nodes.append(node("y", op, w.data(), *arrays, T=FLOAT))
    found = w.found("y")
    assert found.sites == ()
    assert [calls.count for calls in found.unread] == [1]


@pytest.mark.parametrize("op", ["TRTEngineOp", "XlaCallModule"])
def test_what_was_compiled_is_not_passed_over(op: str) -> None:
    w = Writer()
    w.nodes.append(node("y", op, w.data(), T=FLOAT))
    assert [(calls.where, calls.count) for calls in w.found("y").unread] == [(f"operation {op} y", 0)]


@pytest.mark.parametrize("scope", ["Conv/BatchNorm", "resnet_v1_50/block1/unit_1/BatchNorm", "bn_1"])
def test_the_names_of_contrib_and_slim_lead_to_one_layer(scope: str) -> None:
    """tf.contrib.layers.batch_norm: gamma may be missing, and its constant of ones stands in its place."""
    w = Writer()
    w.nodes += [
        const(f"{scope}/{name}", np.linspace(0.5, 1.5, C, dtype=np.float32))
        for name in ("beta", "moving_mean", "moving_variance")
    ]
    w.nodes.append(const(f"{scope}/Const", np.ones(C, np.float32)))
    names = [f"{scope}/{name}" for name in ("Const", "beta", "moving_mean", "moving_variance")]
    y = f"{scope}/FusedBatchNorm"
    w.nodes.append(node(y, "FusedBatchNorm", w.data(), *names, T=FLOAT, epsilon=0.25, is_training=False))
    (site,) = w.found(y).sites
    assert site.parameters["moving_variance"].sources == (f"{scope}/moving_variance",)
    assert site.epsilon == 0.25
