"""Every way in which an ONNX graph has a batch norm: a layer, or counted as not read; and what is none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import onnx_files as build

from bninspect import formats
from bninspect.errors import UnsafeFile
from bninspect.formats.onnx import inlining
from bninspect.records import Checkpoint, Statistics

GENERATOR = np.random.default_rng(11)
NAMES = ("s", "b", "m", "v")
BN = {name: GENERATOR.uniform(0.5, 2, 3).astype(np.float32) for name in NAMES}
MAPS = {name: array.reshape(3, 1, 1) for name, array in BN.items()}
EPSILON = {"e": np.array([1e-3], np.float32)}
NORM = build.node("BatchNormalization", ("x", *NAMES), ["y"], "bn")


def _read(path: Path, nodes: Sequence[bytes], arrays: dict[str, Any] | None = None, opset: int = 17) -> Checkpoint:
    return _written(path, build.model(build.graph(nodes, BN if arrays is None else arrays), opset))


def _written(path: Path, data: bytes) -> Checkpoint:
    (path / "m.onnx").write_bytes(data)
    return formats.read(path / "m.onnx")


def _calls(name: str, count: int = 1) -> list[bytes]:
    values = ["x", *(f"h{place}" for place in range(1, count)), "y"]
    return [
        build.of_domain(build.node(name, (values[place], *NAMES), [values[place + 1]], f"call{place}"), "my")
        for place in range(count)
    ]


def _function(name: str, nodes: Sequence[bytes], opset: int = 17) -> bytes:
    return build.function("my", name, ("x", *NAMES), ("y",), nodes, opset)


def test_batch_norms_in_functions_are_layers_however_deep(tmp_path: Path) -> None:
    inner = _function(
        "Block", [build.node("Relu", ["x"], ["h"]), build.node("BatchNormalization", ("h", *NAMES), ["y"])]
    )
    twice = [build.of_domain(build.node("Block", (x, *NAMES), [y], y), "my") for x, y in (("x", "h"), ("h", "y"))]
    data = build.model(build.graph(_calls("Outer", 2), BN))
    found = _written(tmp_path, build.with_functions(data, "my", _function("Outer", twice), inner))
    assert [one.name for one in found.layers] == ["call0/h/y", "call0/y/y", "call1/h/y", "call1/y/y"]
    for layer in found.layers:
        np.testing.assert_array_equal(layer.arrays["moving_variance"], BN["v"], strict=True)
    assert found.unread == ()


def test_a_function_takes_the_settings_of_its_call(tmp_path: Path) -> None:
    refers = build.field(5, build.field(1, "epsilon") + build.field(20, 1) + build.field(21, "eps"))
    body = build.node("BatchNormalization", ("x", *NAMES), ["y"], "bn") + refers
    calls = [
        build.of_domain(build.node("Norm", (x, *NAMES), [y], f"call{y}", eps=epsilon), "my")
        for x, y, epsilon in (("x", "h", 0.5), ("h", "y", 0.25))
    ]
    data = build.with_functions(build.model(build.graph(calls, BN)), "my", _function("Norm", [body]))
    assert [(one.name, one.epsilon) for one in _written(tmp_path, data).layers] == [
        ("callh/bn", 0.5),
        ("cally/bn", 0.25),
    ]


def test_functions_that_multiply_each_other_without_end_are_refused(tmp_path: Path) -> None:
    functions = [
        _function(f"F{depth}", [build.of_domain(build.node(f"F{depth + 1}", ("x", *NAMES), ["y"]), "my")] * 30)
        for depth in range(10)
    ]
    data = build.model(build.graph(_calls("F0"), BN))
    with pytest.raises(UnsafeFile):
        _written(tmp_path, build.with_functions(data, "my", *functions))
    circle = _function("F", _calls("F"))
    with pytest.raises(UnsafeFile):
        _written(tmp_path, build.with_functions(build.model(build.graph(_calls("F"), BN)), "my", circle))


@pytest.mark.parametrize(
    ("body", "opset", "count"),
    [
        ([build.node("Relu", ["x"], ["y"])], 17, 1),
        ([build.node("BatchNormalization", ("x", *NAMES), ["y"])] * 3, 15, 6),
    ],
)
def test_functions_called_so_that_hold_none_or_cannot_be_put_in_place_are_not_read(
    tmp_path: Path, body: list[bytes], opset: int, count: int
) -> None:
    calls = _calls("BatchNorm2d", 1 if count == 1 else 2)
    data = build.with_functions(build.model(build.graph(calls, BN)), "my", _function("BatchNorm2d", body, opset))
    (unread,) = _written(tmp_path, data).unread
    assert (unread.count, "BatchNorm2d" in unread.where) == (count, True)


def test_a_model_without_functions_stays_as_it_is() -> None:
    data = build.model(build.graph([NORM], BN))
    assert inlining.inline(data).data is data


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("BatchNormalization", {}),
        ("BatchNormInternal", {}),
        ("SyncBN", {}),
        ("InplaceABN", {}),
        ("SpatialBN", {}),
        ("QLinearBatchNormalization", {}),
        ("ATen", {"operator": "native_batch_norm"}),
    ],
)
def test_operators_of_other_domains_that_are_called_so_are_not_read(
    tmp_path: Path, operator: str, attributes: dict[str, str]
) -> None:
    texts = b"".join(
        build.field(5, build.field(1, name) + build.field(4, text) + build.field(20, 3))
        for name, text in attributes.items()
    )
    stranger = build.of_domain(build.node(operator, ("h", *NAMES), ["y"], "bn2") + texts, "com.example")
    found = _read(tmp_path, [build.node("BatchNormalization", ("x", *NAMES), ["h"], "bn"), stranger])
    assert [one.name for one in found.layers] == ["bn"]
    (unread,) = found.unread
    assert (unread.count, operator in unread.where) == (1, True)


@pytest.mark.parametrize("operator", ["LayerNorm", "Subnet", "Absent", "RMSNormalization", "SUBNET"])
def test_other_operators_are_none(tmp_path: Path, operator: str) -> None:
    found = _read(tmp_path, [build.of_domain(build.node(operator, ["x"], ["y"]), "com.example")])
    assert (found.layers, found.unread) == ((), ())


ROOT = [build.node("Add", ["v", "e"], ["ve"]), build.node("Sqrt", ["ve"], ["sd"])]
CENTRED = [
    *ROOT,
    build.node("Sub", ["x", "m"], ["d"]),
    build.node("Div", ["d", "sd"], ["n"]),
    build.node("Mul", ["n", "s"], ["k"]),
    build.node("Add", ["k", "b"], ["y"], "last"),
]
AFFINE = [
    *ROOT,
    build.node("Reciprocal", ["sd"], ["i"]),
    build.node("Mul", ["s", "i"], ["k"]),
    build.node("Mul", ["m", "k"], ["mk"]),
    build.node("Sub", ["b", "mk"], ["c"]),
    build.node("Mul", ["k", "x"], ["kx"]),
    build.node("Add", ["kx", "c"], ["y"], "last"),
]


@pytest.mark.parametrize("nodes", [CENTRED, AFFINE], ids=["centred", "affine"])
def test_one_that_is_spelt_out_with_its_root_is_a_layer(tmp_path: Path, nodes: list[bytes]) -> None:
    (layer,) = _read(tmp_path, nodes, {**MAPS, **EPSILON}).layers
    assert (layer.name, layer.statistics, layer.axis) == ("last", Statistics.MOVING, (-3,))
    assert layer.epsilon == float(EPSILON["e"][0])
    for field, name in {"gamma": "s", "beta": "b", "moving_mean": "m", "moving_variance": "v"}.items():
        np.testing.assert_array_equal(layer.arrays[field], BN[name], strict=True)


def test_epsilon_outside_of_the_root_is_said(tmp_path: Path) -> None:
    outside = [build.node("Sqrt", ["v"], ["r"]), build.node("Add", ["r", "e"], ["sd"])]
    found = _read(tmp_path, [*outside, *CENTRED[2:]], {**MAPS, **EPSILON})
    assert found.unread == ()
    (layer,) = found.layers
    assert layer.epsilon == float(EPSILON["e"][0])
    assert any("outside" in note for note in layer.notes)
    assert layer.outside_root


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1)])
@pytest.mark.parametrize("nodes", [CENTRED, AFFINE], ids=["centred", "affine"])
def test_one_of_a_single_channel_is_a_layer(tmp_path: Path, nodes: list[bytes], shape: tuple[int, ...]) -> None:
    arrays = {name: array[:1].reshape(shape) for name, array in BN.items()}
    (layer,) = _read(tmp_path, nodes, {**arrays, **EPSILON}).layers
    assert (layer.channels, layer.epsilon) == (1, float(EPSILON["e"][0]))
    for field, name in {"gamma": "s", "beta": "b", "moving_mean": "m", "moving_variance": "v"}.items():
        np.testing.assert_array_equal(layer.arrays[field], BN[name][:1], strict=True)


def test_single_numbers_around_a_norm_are_none_of_its_parameters(tmp_path: Path) -> None:
    nodes = [*CENTRED[:-1], build.node("Add", ["k", "b"], ["z"], "last"), build.node("Mul", ["z", "half"], ["y"])]
    (layer,) = _read(tmp_path, nodes, {**MAPS, **EPSILON, "half": np.array([0.5], np.float32)}).layers
    np.testing.assert_array_equal(layer.arrays["gamma"], BN["s"], strict=True)


def _moments(axes: list[int]) -> list[bytes]:
    return [
        build.node("ReduceMean", ["x"], ["mu"], "mean", axes=axes),
        build.node("Sub", ["x", "mu"], ["d"]),
        build.node("Mul", ["d", "d"], ["d2"]),
        build.node("ReduceMean", ["d2"], ["var"], axes=axes),
        build.node("Add", ["var", "e"], ["ve"]),
        build.node("Sqrt", ["ve"], ["sd"], "root"),
        build.node("Div", ["d", "sd"], ["n"]),
        build.node("Mul", ["n", "s"], ["k"]),
        build.node("Add", ["k", "b"], ["y"]),
    ]


def test_moments_over_the_batch_are_a_batch_norm_in_training_mode(tmp_path: Path) -> None:
    (layer,) = _read(tmp_path, _moments([0, 2, 3]), {**MAPS, **EPSILON}, 13).layers
    assert (layer.name, layer.statistics) == ("root", Statistics.BATCH)


@pytest.mark.parametrize("axes", [[0, 2, 3], [-4, -2, -1], [0, 1, 2], [0]])
def test_moments_over_the_batch_without_gamma_and_beta_are_one_too(tmp_path: Path, axes: list[int]) -> None:
    found = _read(tmp_path, [*_moments(axes)[:-3], build.node("Div", ["d", "sd"], ["y"])], EPSILON, 13)
    assert [layer.statistics for layer in found.layers] == [Statistics.BATCH]


SHAPED = {"to": np.array([1, 6, 4, 4]), **{name: np.tile(array, 2) for name, array in BN.items()}}


@pytest.mark.parametrize(("batch", "count"), [(None, 0), (2, 0), (1, 1)])
def test_only_samples_among_the_channels_make_a_norm_of_samples(tmp_path: Path, batch: int | None, count: int) -> None:
    """Whatever gamma and beta are: 1 and 0 here, as those of a batch norm that was never trained are."""
    arrays = {**SHAPED, "s": np.ones(6, np.float32), "b": np.zeros(6, np.float32)}
    nodes = [
        build.node("Reshape", ["x", "to"], ["r"]),
        build.node("BatchNormalization", ("r", *NAMES), ["y", "", ""], "bn", training_mode=1),
    ]
    shape = (1, 6, 16) if batch == 1 else (batch or "N", 3, 4, 4)
    found = _written(tmp_path, build.model(build.graph(nodes, arrays, [build.value("x", *shape)]), 17))
    assert len(found.layers) == count
    assert all(layer.statistics is Statistics.SAMPLE for layer in found.layers)


def test_of_a_batch_of_one_gamma_behind_it_tells(tmp_path: Path) -> None:
    """LayerNormalization of tf.keras, whose gamma runs along the axis that its moments were taken over."""
    arrays = {
        "to": np.array([1, 5, 6, 1]),
        "back": np.array([1, 5, 6]),
        **{name: np.ones(5, np.float32) for name in NAMES},
        "gamma": np.arange(1, 7, dtype=np.float32),
        "wide": np.ones((5, 1), np.float32),
    }
    for gamma, count in (("gamma", 0), ("wide", 1)):
        nodes = [
            build.node("Reshape", ["x", "to"], ["r"]),
            build.node("BatchNormalization", ("r", *NAMES), ["n", "", ""], "bn", training_mode=1),
            build.node("Reshape", ["n", "back"], ["k"]),
            build.node("Mul", ["k", gamma], ["y"]),
        ]
        found = _written(tmp_path, build.model(build.graph(nodes, arrays, [build.value("x", 1, 5, 6)]), 17))
        assert len(found.layers) == count


def test_moments_that_divide_nothing_are_none(tmp_path: Path) -> None:
    nodes = [*_moments([0])[:-3], build.node("ReduceMean", ["sd"], ["s1"]), build.node("Mul", ["s1", "s"], ["y"])]
    found = _read(tmp_path, nodes, {**MAPS, **EPSILON}, 13)
    assert (found.layers, found.unread) == ((), ())


@pytest.mark.parametrize(
    "axes", [[2, 3], [-1], [1, 2, 3], [0, 1, 2, 3]], ids=["instance", "layer", "layer-of-maps", "all"]
)
def test_moments_within_a_sample_are_none(tmp_path: Path, axes: list[int]) -> None:
    found = _read(tmp_path, _moments(axes), {**MAPS, **EPSILON}, 13)
    assert (found.layers, found.unread) == ((), ())


def test_a_norm_that_is_given_the_moments_of_its_input_uses_those_of_the_batch(tmp_path: Path) -> None:
    """As PyTorch exports track_running_stats=False."""
    axes: dict[str, Any] = {"axes": [0, 2, 3], "keepdims": 0}
    nodes = [
        build.node("ReduceMean", ["x"], ["m"], **axes),
        build.node("Mul", ["x", "x"], ["x2"]),
        build.node("ReduceMean", ["x2"], ["v"], **axes),
        NORM,
    ]
    (layer,) = _read(tmp_path, nodes, {"s": BN["s"], "b": BN["b"]}, 13).layers
    assert layer.statistics is Statistics.BATCH


def test_parameters_behind_operators_that_only_move_them_are_read(tmp_path: Path) -> None:
    """As PyTorch exports an InstanceNorm with stored statistics, and what is expanded to a shape with -1 in it."""
    arrays = {**{f"{name}0": array for name, array in BN.items()}, "two": np.array([2]), "one": np.array([1])}
    nodes = [
        build.node("ConstantOfShape", ["one"], ["ones"], value=np.array([1])),
        build.node("Equal", ["one", "two"], ["told"]),
        build.node("Where", ["told", "two", "ones"], ["shape"]),
        *(build.node("Expand", [f"{name}0", "shape"], [f"{name}1"]) for name in NAMES),
        *(build.node("Tile", [f"{name}1", "two"], [name]) for name in NAMES),
        NORM,
    ]
    (layer,) = _read(tmp_path, nodes, arrays).layers
    assert (layer.channels, layer.statistics, layer.location) == (6, Statistics.MOVING, "m0")
    np.testing.assert_array_equal(layer.arrays["gamma"], np.tile(BN["s"], 2), strict=True)


def test_gamma_and_beta_that_repeat_one_number_are_read(tmp_path: Path) -> None:
    """As PyTorch exports affine=False without optimisation."""
    nodes = [build.node("Shape", ["x"], ["length"], start=1, end=2)]
    for name, number in (("s", 1.0), ("b", 0.0)):
        nodes += [
            build.node("Constant", [], [f"{name}0"], value=np.array([number], np.float32)),
            build.node("CastLike", [f"{name}0", "x"], [f"{name}1"]),
            build.node("Expand", [f"{name}1", "length"], [name]),
        ]
    (layer,) = _read(tmp_path, [*nodes, NORM], {"m": BN["m"], "v": BN["v"]}).layers
    assert layer.statistics is Statistics.MOVING
    np.testing.assert_array_equal(layer.arrays["gamma"], np.ones(3, np.float32), strict=True)
    np.testing.assert_array_equal(layer.arrays["beta"], np.zeros(3, np.float32), strict=True)


def _exported(path: Path, dynamo: bool, **options: Any) -> Path:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript, by which torch exports, is not installed: pip install it")
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.Sequential(
        nn.BatchNorm2d(3, **options),
        nn.Sigmoid(),
        nn.BatchNorm2d(3, eps=1e-3, **options),
        nn.Tanh(),
        nn.InstanceNorm2d(3, affine=True),
        nn.GroupNorm(3, 3),
        nn.LayerNorm(8),
    )
    model(torch.randn(4, 3, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (torch.randn(2, 3, 8, 8),), str(path / "m.onnx"), dynamo=dynamo, verbose=False)
    return path / "m.onnx"


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("affine", [True, False])
def test_what_pytorch_exports(tmp_path: Path, affine: bool, dynamo: bool) -> None:
    found = formats.read(_exported(tmp_path, dynamo, affine=affine))
    assert [one.statistics for one in found.layers] == [Statistics.MOVING] * 2
    assert [one.epsilon for one in found.layers] == [float(np.float32(1e-5)), float(np.float32(1e-3))]
    assert found.unread == ()


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_what_pytorch_exports_without_running_statistics(tmp_path: Path, dynamo: bool) -> None:
    found = formats.read(_exported(tmp_path, dynamo, track_running_stats=False))
    assert [one.statistics for one in found.layers] == [Statistics.BATCH] * 2


@pytest.mark.tensorflow
def test_what_tf2onnx_makes_of_keras(tmp_path: Path) -> None:
    """Behind an activation a BatchNormalization stays; the one that LayerNormalization runs on is none."""
    tf2onnx = pytest.importorskip("tf2onnx", reason="tf2onnx is not installed: pip install tf2onnx")
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    x = inputs = layers.Input((8, 8, 3), batch_size=2)
    x = layers.BatchNormalization(epsilon=0.25)(layers.Activation("sigmoid")(x))
    x = layers.Flatten()(layers.Activation("sigmoid")(x))
    x = layers.BatchNormalization()(layers.Activation("sigmoid")(layers.Dense(4)(x)))
    built = tf_keras.Model(inputs, layers.LayerNormalization()(layers.Activation("tanh")(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf2onnx.convert.from_keras(built, [tf.TensorSpec((2, 8, 8, 3))], opset=15, output_path=str(tmp_path / "m.onnx"))
    found = formats.read(tmp_path / "m.onnx")
    assert [one.epsilon for one in found.layers] == [0.25]
    assert "LayerNorm" in found.notes[-1]
    assert found.unread == ()


def test_constants_that_double_are_computed_once_and_not_beyond_a_size(tmp_path: Path) -> None:
    doubled = [build.node("Add", [f"v{place}"] * 2, [f"v{place + 1}"]) for place in range(60)]
    grown = [build.node("Tile", [f"g{place}", "many"], [f"g{place + 1}"]) for place in range(40)]
    last = build.node("BatchNormalization", ("x", "g40", "b", "m", "v60"), ["y"], "bn")
    arrays = {**BN, "v0": BN["v"] * np.float32(1e-10), "g0": BN["s"], "many": np.array([1000])}
    (layer,) = _read(tmp_path, [*doubled, *grown, last], arrays).layers
    np.testing.assert_array_equal(layer.arrays["moving_variance"], arrays["v0"] * np.float32(2.0**60), strict=True)
    assert layer.gamma is None
    assert layer.statistics is Statistics.COMPUTED


@pytest.mark.parametrize(("operator", "body"), [("Loop", "body"), ("Scan", "body"), ("If", "then_branch")])
def test_batch_norms_in_bodies_are_layers(tmp_path: Path, operator: str, body: str) -> None:
    inner = build.graph([NORM], {}, inputs=())
    outer = build.node(operator, ["c"], ["z"], "outer", **{body: inner})
    layers = _read(tmp_path, [outer]).layers
    assert [one.name for one in layers] == [f"outer/{body}/bn"]
    np.testing.assert_array_equal(layers[0].arrays["moving_variance"], BN["v"], strict=True)


@pytest.mark.parametrize("axes", [[0, 2, 3], [2, 3]])
def test_moments_in_bodies_are_seen_too(tmp_path: Path, axes: list[int]) -> None:
    inner = build.graph(_moments(axes), {}, inputs=())
    found = _read(tmp_path, [build.node("Loop", ["c"], ["z"], "outer", body=inner)], {**MAPS, **EPSILON}, 13)
    assert [one.statistics for one in found.layers] == [Statistics.BATCH] * (0 in axes)
    assert found.unread == ()


@pytest.mark.parametrize("opset", [1, 6, 7, 8, 9, 13, 14, 15, 21, 23])
def test_the_operator_of_every_opset_is_a_layer(tmp_path: Path, opset: int) -> None:
    tested = {"is_test": 1} if opset < 7 else {}
    norm = build.node("BatchNormalization", ("x", *NAMES), ["y"], "bn", epsilon=0.25, **tested)
    (layer,) = _read(tmp_path, [norm], opset=opset).layers
    assert (layer.epsilon, layer.statistics, layer.axis) == (0.25, Statistics.MOVING, (1,))


@pytest.mark.parametrize("operator", ["BatchNormInternal", "BatchNormalizationGrad", "FusedBatchNormalization"])
def test_operators_of_onnx_runtime_that_are_called_so_are_counted(tmp_path: Path, operator: str) -> None:
    node = build.of_domain(build.node(operator, ("x", *NAMES), ["y"], "bn"), "com.microsoft")
    found = _read(tmp_path, [node])
    assert (found.layers, [calls.count for calls in found.unread]) == ((), [1])


def test_every_operator_of_onnx_runtime(tmp_path: Path) -> None:
    """Of all that the installed one knows beside ONNX's, one is a batch norm, and two hide what was compiled."""
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state", reason="onnxruntime is not installed")
    schemas = {(found.domain, found.name) for found in state.get_all_operator_schema()}
    known = sorted((domain, name) for domain, name in schemas if domain.startswith("com."))
    nodes = [
        build.of_domain(build.node(name, ("x", *NAMES), [f"y{place}"]), domain)
        for place, (domain, name) in enumerate(known)
    ]
    found = _read(tmp_path, nodes)
    assert found.layers == ()
    assert len(known) > 100
    assert {calls.where.removeprefix("operator com."): calls.count for calls in found.unread} == {
        "ms.internal.nhwc::BatchNormalization": 1,
        "microsoft::EPContext": 0,
        "microsoft::Snpe": 0,
    }


@pytest.mark.parametrize("operator", ["BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"])
def test_batch_norms_in_the_graphs_that_onnx_runtime_searches_with_are_layers(tmp_path: Path, operator: str) -> None:
    decoder = build.graph([NORM], {}, inputs=())
    node = build.of_domain(build.node(operator, ["x"], ["y"], "search", decoder=decoder), "com.microsoft")
    assert [layer.name for layer in _read(tmp_path, [node]).layers] == ["search/decoder/bn"]
