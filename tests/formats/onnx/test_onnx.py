"""ONNX read without the onnx package: what decides the mode, what an affine map is, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import onnx_files as build
from hypothesis import given
from hypothesis import strategies as st

from bninspect import formats
from bninspect.errors import BninspectError, DamagedFile, UnsafeFile
from bninspect.formats.onnx import format as container
from bninspect.records import Array, Checkpoint, Statistics, graph

GENERATOR = np.random.default_rng(5)
BN = {name: GENERATOR.uniform(0.5, 2, 3).astype(np.float32) for name in ("s", "b", "m", "v")}
INPUTS = ("x", "s", "b", "m", "v")


def _read(path: Path, data: bytes) -> Checkpoint:
    (path / "m.onnx").write_bytes(data)
    return formats.read(path / "m.onnx")


def _norm(outputs: tuple[str, ...] = ("y",), **attributes: Any) -> bytes:
    return build.node("BatchNormalization", INPUTS, outputs, "bn", **attributes)


def test_parameters_and_defaults(tmp_path: Path) -> None:
    checkpoint = _read(tmp_path, build.model(build.graph([_norm()], BN)))
    (layer,) = checkpoint.layers
    assert (checkpoint.format, checkpoint.writer) == ("onnx", "test 1.0")
    assert (layer.name, layer.axis, layer.dtype, layer.location) == ("bn", (1,), "float32", "m")
    # onnx.defs.get_schema("BatchNormalization", version): 1e-5 and 0.9 at every version, in float32.
    assert (layer.epsilon, layer.momentum) == (float(np.float32(1e-5)), float(np.float32(0.9)))
    names = {"gamma": "s", "beta": "b", "moving_mean": "m", "moving_variance": "v"}
    for field, name in names.items():
        np.testing.assert_array_equal(layer.arrays[field], BN[name], strict=True)


@pytest.mark.parametrize("setting", ["epsilon", "momentum"])
def test_a_setting_that_is_no_number_is_damage_and_not_taken_for_unknown(tmp_path: Path, setting: str) -> None:
    settings: dict[str, Any] = {setting: float("nan")}
    with pytest.raises(DamagedFile, match="not a number"):
        _read(tmp_path, build.model(build.graph([_norm(**settings)], BN)))


def test_epsilon_is_that_of_the_node(tmp_path: Path) -> None:
    (layer,) = _read(tmp_path, build.model(build.graph([_norm(epsilon=1e-3, momentum=0.5)], BN))).layers
    assert (layer.epsilon, layer.epsilon_source, layer.momentum) == (float(np.float32(1e-3)), "file", 0.5)


FIVE = ("y", "rm", "rv", "sm", "sv")
MODES = [
    # opset, outputs, attributes, statistics: onnx/defs/nn/old.cc and defs.cc
    (1, ("y",), {"is_test": 1}, Statistics.MOVING),
    (1, FIVE, {"is_test": 0}, Statistics.BATCH),
    (6, FIVE, {}, Statistics.BATCH),
    (6, FIVE, {"is_test": 1}, Statistics.MOVING),
    (6, ("y",), {"is_test": 1}, Statistics.MOVING),
    (7, ("y",), {}, Statistics.MOVING),
    (8, FIVE, {}, Statistics.BATCH),
    (9, ("y", "", "", "", ""), {}, Statistics.MOVING),
    (13, FIVE, {}, Statistics.BATCH),
    (14, ("y",), {}, Statistics.MOVING),
    (15, ("y", "rm", "rv"), {}, Statistics.MOVING),
    (14, ("y", "rm", "rv"), {"training_mode": 1}, Statistics.BATCH),
    (22, ("y",), {"training_mode": 1}, Statistics.BATCH),
]


@pytest.mark.parametrize(("opset", "outputs", "attributes", "statistics"), MODES)
def test_mode(
    tmp_path: Path, opset: int, outputs: tuple[str, ...], attributes: Mapping[str, int], statistics: Statistics
) -> None:
    (layer,) = _read(tmp_path, build.model(build.graph([_norm(outputs, **attributes)], BN), opset)).layers
    assert layer.statistics is statistics


def test_test_mode_that_is_not_said_is_noted(tmp_path: Path) -> None:
    (layer,) = _read(tmp_path, build.model(build.graph([_norm(("y",))], BN), 6)).layers
    assert any("is_test is 0" in note for note in layer.notes)


def test_parameters_that_the_graph_computes_from_its_input_are_said(tmp_path: Path) -> None:
    nodes = [build.node("Relu", ["x"], ["w"], "relu"), build.node("BatchNormalization", (*INPUTS[:4], "w"), ["y"])]
    (layer,) = _read(tmp_path, build.model(build.graph(nodes, BN))).layers
    assert layer.moving_variance is None
    assert layer.statistics is Statistics.COMPUTED
    assert layer.notes == ("moving_variance: no constant, the graph computes it or takes it as an input",)
    assert layer.name == "y"


def test_constants_of_every_kind(tmp_path: Path) -> None:
    arrays = {name: array for name, array in BN.items() if name != "m"}
    nodes = [
        build.node("Constant", [], ["c"], value=BN["m"]),
        build.node("Identity", ["c"], ["m"]),
        _norm(),
    ]
    (layer,) = _read(tmp_path, build.model(build.graph(nodes, arrays))).layers
    np.testing.assert_array_equal(layer.arrays["moving_mean"], BN["m"], strict=True)


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    nodes = [_norm(("h",)), build.node("BatchNormalization", ("h", *INPUTS[1:]), ["y"], "bn")]
    assert [one.name for one in _read(tmp_path, build.model(build.graph(nodes, BN))).layers] == ["bn", "bn~2"]


def test_batch_norm_in_a_branch_is_there(tmp_path: Path) -> None:
    branch = build.graph([_norm()], {}, inputs=())
    nodes = [build.node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch)]
    layers = _read(tmp_path, build.model(build.graph(nodes, BN))).layers
    assert [one.name for one in layers] == ["if/then_branch/bn", "if/else_branch/bn"]
    np.testing.assert_array_equal(layers[1].arrays["gamma"], BN["s"])


@pytest.mark.parametrize("shape", [(3,), (1, 3, 1, 1), (3, 1, 1)])
def test_a_scale_and_shift_is_no_layer_but_is_counted_and_in_the_network(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    arrays = {name: array.reshape(shape) for name, array in BN.items()}
    nodes = [build.node("Mul", ["s", "x"], ["h"], "scale"), build.node("Sub", ["h", "b"], ["y"], "shift")]
    found = _read(tmp_path, build.model(build.graph(nodes, arrays)))
    assert (found.layers, found.unread) == ((), ())
    assert found.notes[0].startswith("1 scale and shift")
    assert "--against" in found.notes[0]
    (node,) = container.read_network(tmp_path / "m.onnx").nodes
    assert (node.operation, node.folded, node.inputs, node.outputs) == (graph.BATCH_NORM, True, ("x",), ("y",))
    assert node.kernel is not None
    np.testing.assert_array_equal(node.kernel.weights.ravel(), BN["s"])
    np.testing.assert_array_equal(node.kernel.bias, -BN["b"])


def test_a_scale_that_something_else_reads_is_no_pair(tmp_path: Path) -> None:
    arrays = {"s": BN["s"], "b": BN["b"]}
    mul, add = build.node("Mul", ["x", "s"], ["h"]), build.node("Add", ["h", "b"], ["y"])
    for nodes in ([mul, add, build.node("Relu", ["h"], ["z"])], [mul], [add]):
        found = _read(tmp_path, build.model(build.graph(nodes, arrays)))
        assert found.layers == ()
        assert "folded" in found.empty


def _external(tmp_path: Path, location: str, **where: str) -> bytes:
    arrays = {name: array for name, array in BN.items() if name != "v"}
    outside = build.tensor("v", BN["v"], {"location": location, **where})
    return build.model(build.graph([_norm()], arrays, tensors=[outside]))


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "m.data").write_bytes(b"before" + b"\0\0" + BN["v"].tobytes() + b"after")
    (layer,) = _read(tmp_path, _external(tmp_path, "m.data", offset="8", length="12")).layers
    np.testing.assert_array_equal(layer.arrays["moving_variance"], BN["v"], strict=True)


@pytest.mark.parametrize(
    "where",
    [
        {"offset": "14", "length": "12"},
        {"offset": "8", "length": "8"},
        {"offset": "-8"},
        {"offset": "8", "length": "1000000000000000"},
        {"offset": "x"},
    ],
)
def test_external_data_of_a_wrong_place(tmp_path: Path, where: dict[str, str]) -> None:
    (tmp_path / "m.data").write_bytes(b"\0" * 8 + BN["v"].tobytes() + b"after")
    with pytest.raises(DamagedFile):
        _read(tmp_path, _external(tmp_path, "m.data", **where))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/m.data", "..", "", "a\0b"])
def test_external_data_elsewhere(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(BN["v"].tobytes())
    (tmp_path / "in").mkdir()
    with pytest.raises(UnsafeFile, match="elsewhere"):
        _read(tmp_path / "in", _external(tmp_path, location))


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_external_data_behind_a_link(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(BN["v"].tobytes())
    if kind == "soft":
        (tmp_path / "in" / "m.data").symlink_to(tmp_path / "secret")
    else:
        os.link(tmp_path / "secret", tmp_path / "in" / "m.data")
    with pytest.raises(UnsafeFile, match="leads to something else"):
        _read(tmp_path / "in", _external(tmp_path, "m.data"))


def test_external_data_that_no_batch_norm_needs_is_looked_at_too(tmp_path: Path) -> None:
    other = build.tensor("w", BN["v"], {"location": "../secret"})
    with pytest.raises(UnsafeFile, match="elsewhere"):
        _read(tmp_path, build.model(build.graph([_norm()], BN, tensors=[other])))


def test_shape_that_its_bytes_do_not_fit(tmp_path: Path) -> None:
    short = build.tensor("v", BN["v"]).replace(build.field(1, 3), build.field(1, 4), 1)
    arrays = {name: array for name, array in BN.items() if name != "v"}
    with pytest.raises(DamagedFile, match="has 12 bytes"):
        _read(tmp_path, build.model(build.graph([_norm()], arrays, tensors=[short])))
    huge = build.tensor("v", BN["v"]).replace(build.field(1, 3), build.field(1, 2**50), 1)
    with pytest.raises(UnsafeFile, match="too large"):
        _read(tmp_path, build.model(build.graph([_norm()], arrays, tensors=[huge])))


DATA = build.model(build.graph([_norm()], BN))


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_any_changed_byte_is_an_error_or_a_model(place: int, change: int) -> None:
    from tempfile import TemporaryDirectory

    data = bytearray(DATA)
    data[place] ^= change
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(data)
        try:
            container.FORMAT.read(path)
            container.read_network(path)
        except BninspectError:
            pass


def test_every_cut_is_an_error(tmp_path: Path) -> None:
    graph_ends = len(DATA) - len(build.field(8, build.field(1, "") + build.field(2, 17)))
    for length in range(graph_ends):
        with pytest.raises(BninspectError):
            _read(tmp_path, DATA[:length])


def test_weights_in_our_order(tmp_path: Path) -> None:
    arrays = {
        "w": GENERATOR.normal(size=(6, 1, 2, 2)).astype(np.float32),
        "t": GENERATOR.normal(size=(6, 2, 1, 2)).astype(np.float32),
        "g": GENERATOR.normal(size=(5, 4)).astype(np.float32),
        "a": GENERATOR.normal(size=(5, 3)).astype(np.float32),
        "c": GENERATOR.normal(size=3).astype(np.float32),
    }
    nodes = [
        build.node("Conv", ["x", "w"], ["h1"], "conv", group=3),
        build.node("ConvTranspose", ["h1", "t"], ["h2"], "up", group=2),
        build.node("Flatten", ["h2"], ["h3"], "flat"),
        build.node("Gemm", ["h3", "g"], ["h4"], "gemm", transB=1, alpha=2.0),
        build.node("MatMul", ["h4", "a"], ["h5"], "matmul"),
        build.node("Add", ["c", "h5"], ["y"], "bias"),
    ]
    _read(tmp_path, build.model(build.graph(nodes, arrays)))
    found = container.read_network(tmp_path / "m.onnx")
    kernels = {node.name: node.kernel for node in found.nodes if node.kernel}
    assert list(kernels) == ["conv", "up", "gemm", "matmul"]
    np.testing.assert_array_equal(kernels["conv"].weights, arrays["w"].reshape(6, 1, 4).transpose(2, 1, 0))
    for i in range(6):
        for o in range(2):
            row = kernels["up"].weights[:, i % 3, i // 3 * 2 + o]
            np.testing.assert_array_equal(row, arrays["t"][i, o].ravel())
    np.testing.assert_array_equal(kernels["gemm"].weights[0], 2 * arrays["g"].T)
    np.testing.assert_array_equal(kernels["matmul"].bias, arrays["c"])
    last = next(node for node in found.nodes if node.name == "matmul")
    assert (last.outputs, found.outputs[0].name) == (("y",), "y")
    origin = graph.origin("h3", found.producers())
    assert origin is not None
    assert origin.name == "up"


def test_quantised_weights_are_multiples_of_their_step(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        "q": GENERATOR.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8),
        "ws": np.array([0.5, 0.25, 0.125, 1], np.float32),
        "z": np.zeros(4, np.int8),
    }
    nodes = [
        build.node("DequantizeLinear", ["q", "ws", "z"], ["w"], "dq", axis=0),
        build.node("Conv", ["x", "w"], ["y"], "conv"),
    ]
    _read(tmp_path, build.model(build.graph(nodes, arrays)))
    (node,) = [one for one in container.read_network(tmp_path / "m.onnx").nodes if one.kernel]
    assert node.kernel is not None
    assert node.kernel.weight_step is not None
    np.testing.assert_array_equal(node.kernel.weight_step, arrays["ws"])
    expected = arrays["q"].reshape(4, 3).T * arrays["ws"].astype(np.float64)
    np.testing.assert_array_equal(node.kernel.weights[0], expected)


@pytest.mark.parametrize("turned", [0, 1])
def test_a_quantised_gemm_and_the_integers_that_are_moved_before_it(tmp_path: Path, turned: int) -> None:
    """Of ONNX Runtime's own operators: rows of weights with a step each, a bias in products of steps."""
    weights = GENERATOR.integers(-127, 128, (6, 4)).astype(np.int8)
    arrays: dict[str, Array] = {
        "xs": np.array(0.5, np.float32),
        "xz": np.array(3, np.int8),
        "q": weights.T.copy() if turned else weights,
        "ws": np.array([0.5, 0.25, 0.125, 1], np.float32),
        "z": np.zeros(4, np.int8),
        "b": np.array([8, -16, 4, 2], np.int32),
        "shape": np.array([-1, 6], np.int64),
    }
    given = ["moved", "xs", "xz", "q", "ws", "z", "b", "xs", "xz"]
    nodes = [
        build.node("QuantizeLinear", ["x", "xs", "xz"], ["whole"], "quantise"),
        build.node("Reshape", ["whole", "shape"], ["moved"], "reshape"),
        build.of_domain(build.node("QGemm", given, ["y"], "gemm", transB=turned), "com.microsoft"),
    ]
    _read(tmp_path, build.model(build.graph(nodes, arrays)))
    found = container.read_network(tmp_path / "m.onnx")
    (node,) = [one for one in found.nodes if one.kernel]
    assert (node.operation, node.inputs) == (graph.DENSE, ("moved",))
    assert node.kernel is not None
    assert node.kernel.bias is not None
    np.testing.assert_array_equal(node.kernel.weights[0], weights * arrays["ws"].astype(np.float64))
    np.testing.assert_array_equal(node.kernel.bias, [2.0, -2.0, 0.25, 1.0])
    assert {name: (one.scale.item(), one.zero.item()) for name, one in found.quantised.items()} == dict.fromkeys(
        ("whole", "moved", "y"), (0.5, 3)
    )


@pytest.mark.parametrize("moved", [False, True])
def test_weights_that_are_cast_from_halves_are_of_halves_and_computed_in_floats(tmp_path: Path, *, moved: bool) -> None:
    weights = GENERATOR.normal(size=(4, 3, 1, 1)).astype(np.float16)
    arrays: dict[str, Array] = {"h": weights, "shape": np.array([4, 3, 1, 1], np.int64)}
    nodes = [build.node("Cast", ["h"], ["w"], "cast", to=1)]
    nodes += [build.node("Reshape", ["w", "shape"], ["w2"], "reshape")] if moved else []
    nodes.append(build.node("Conv", ["x", "w2" if moved else "w"], ["y"], "conv"))
    _read(tmp_path, build.model(build.graph(nodes, arrays)))
    (node,) = [one for one in container.read_network(tmp_path / "m.onnx").nodes if one.kernel]
    assert node.kernel is not None
    assert (node.kernel.dtype, node.kernel.narrow) == ("float16", False)
    np.testing.assert_array_equal(node.kernel.weights[0], weights.reshape(4, 3).T.astype(np.float32))


@pytest.mark.parametrize(("steps", "axis"), [(5, 0), (4, 1), (1000, 2)])
def test_steps_that_do_not_fit_are_not_repeated(tmp_path: Path, steps: int, axis: int) -> None:
    arrays: dict[str, Array] = {
        "q": np.ones((4, 3, 1, 1), np.int8),
        "ws": np.ones(steps, np.float32),
        "z": np.zeros(steps, np.int8),
    }
    nodes = [
        build.node("DequantizeLinear", ["q", "ws", "z"], ["w"], "dq", axis=axis),
        build.node("Conv", ["x", "w"], ["y"], "conv"),
    ]
    (tmp_path / "m.onnx").write_bytes(build.model(build.graph(nodes, arrays)))
    with pytest.raises(DamagedFile, match=rf"has {steps} steps along axis {axis}"):
        container.read_network(tmp_path / "m.onnx")


@pytest.mark.parametrize("length", [3, 5])
def test_a_bias_of_another_length_is_damage(tmp_path: Path, length: int) -> None:
    arrays = {"w": np.ones((4, 3, 1, 1), np.float32), "b": np.ones(length, np.float32)}
    conv = build.node("Conv", ["x", "w", "b"], ["y"], "conv")
    (tmp_path / "m.onnx").write_bytes(build.model(build.graph([conv], arrays)))
    with pytest.raises(DamagedFile, match=f"b has {length} of 4 numbers"):
        container.read_network(tmp_path / "m.onnx")


def test_against_the_onnx_package(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    import onnx.numpy_helper
    import onnx.parser

    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 15], producer_name: "someone">
        g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
        <float[2] s = {1.5, -2.0}, float[2] b = {0.25, 3.0}, float[2] m = {0.1, 0.2}, float[2] v = {1.0, 1e-12}>
        { y = BatchNormalization <epsilon: float = 0.01> (x, s, b, m, v) }
    """)
    # As numpy_helper and as make_tensor store them: raw bytes, and numbers in fields of their own.
    model.graph.initializer[3].CopyFrom(onnx.numpy_helper.from_array(np.array([7, 8.5]), "v"))
    half = onnx.helper.make_tensor("b", onnx.TensorProto.FLOAT16, [2], np.array([0.1, -65504], np.float16))
    model.graph.initializer[1].CopyFrom(half)
    onnx.save(model, tmp_path / "m.onnx")
    (layer,) = formats.read(tmp_path / "m.onnx").layers
    for field, tensor in zip(("gamma", "beta", "moving_mean", "moving_variance"), model.graph.initializer, strict=True):
        np.testing.assert_array_equal(layer.arrays[field], onnx.numpy_helper.to_array(tensor), strict=True)
    assert (layer.epsilon, layer.dtype) == (float(np.float32(0.01)), "float32+float16+float64")


def test_reading_imports_no_framework(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(DATA)
    code = (
        "import sys, pathlib; from bninspect import formats; formats.read(pathlib.Path(sys.argv[1]));"
        "print({'onnx', 'onnxruntime', 'google.protobuf'} & set(sys.modules))"
    )
    command = [sys.executable, "-P", "-c", code, str(tmp_path / "m.onnx")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "set()"
