"""Operations of real kernels are within half a step and what is derived for each, and one step further is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import kernel_runs, quantised_runs

from bninspect import formats
from bninspect.equivalence import folding, running
from bninspect.equivalence.evidence import local
from bninspect.equivalence.pairing.places import Place
from bninspect.records import graph
from bninspect.settings import Settings

SHAPE = (1, 9, 11, 6)
RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 3, 6, 5)).astype(np.float32)
B = RNG.standard_normal(12).astype(np.float32)
DENSE = RNG.standard_normal((66, 7)).astype(np.float32)


def _functions() -> dict[str, Any]:
    import tensorflow as tf

    nn = tf.nn
    return {
        "conv": lambda x: nn.relu6(nn.conv2d(x, W, (2, 2), "SAME") + B[:5]),
        "depthwise": lambda x: nn.depthwise_conv2d(x, W[..., :2], (1, 1, 1, 1), "SAME") + B,
        "transposed": lambda x: nn.conv2d_transpose(x, np.swapaxes(W, -1, -2), (1, 18, 22, 5), 2, "SAME") + B[:5],
        "dense": lambda x: tf.matmul(tf.reshape(x, (-1, 66)), DENSE) + B[:7],
        "x * c": lambda x: x * B[:6],
        "x + c": lambda x: nn.relu6(x + B[:6]),
        "x * c + c": lambda x: x * B[:6] + B[6:],
    }


def _prove(path: Path) -> None:
    """Recompute what a file has of operations with constants; each may be right, and no step further."""
    ran = running.exported(formats.read(path), Settings())
    assert ran.session is not None
    nodes = [node for node in ran.network.nodes if node.kernel is not None]
    assert nodes
    names = {name for node in nodes for name in (*node.inputs, *node.outputs, *node.rounds)}
    values = dict(ran.session.compute(ran.data, list(names)))
    for node in nodes:
        place = Place(node, folding.plain(graph.kernel_of(node)), node)
        right = local.prove(place, ran.network, values, folding.U).compared
        assert right is not None
        assert 0.3 < (right.ratio or 0.0) <= 1.0
        assert right.agrees
        y = values[node.outputs[0]]
        kind = np.iinfo(y.dtype)
        # Where the bound is less than a step and a half, so that two are too many; away from the ends of the range.
        inside = np.argwhere((y > kind.min + 3) & (y < kind.max - 3))
        moved = y.copy()
        moved[tuple(inside[len(inside) // 2])] += 2 if not node.rounds else 4
        wrong = local.prove(place, ran.network, {**values, node.outputs[0]: moved}, folding.U).compared
        assert wrong is not None
        assert not wrong.agrees


@pytest.mark.tensorflow
@pytest.mark.parametrize("run", ["int8", "per tensor", "int16x8"])
@pytest.mark.parametrize("case", ["conv", "depthwise", "transposed", "dense", "x * c", "x + c", "x * c + c"])
def test_litert_is_within_half_a_step_and_what_is_derived(case: str, run: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(len(case))
    samples = [rng.standard_normal(SHAPE).astype(np.float32) for _ in range(4)]
    options = {"int16": run == "int16x8", "per_tensor": run == "per tensor"}
    path = tmp_path / "model.tflite"
    path.write_bytes(quantised_runs.quantised_model(_functions()[case], samples, **options))
    _prove(path)


@pytest.mark.parametrize(("kind", "weight_kind"), [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
@pytest.mark.parametrize("op", ["QLinearConv", "QLinearMatMul"])
def test_onnx_runtime_is_within_half_a_step_and_what_is_derived(
    op: str, kind: str, weight_kind: str, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    rng, info = np.random.default_rng(1), np.iinfo(weight_kind)
    convolution = op == "QLinearConv"
    w = rng.integers(info.min, info.max + 1, (12, 6, 3, 3) if convolution else (100, 30)).astype(weight_kind)
    steps = (10.0 ** rng.uniform(-2.3, -1.7, 12 if convolution else ())).astype(np.float32)
    zeros = np.full(steps.shape, 117 if weight_kind == "uint8" else 0, weight_kind)
    constants = {
        "w": w, "ws": steps, "wz": zeros, "xs": np.float32(0.03), "xz": np.array(40, kind),
        "ys": np.float32(4.0), "yz": np.array(30, kind), "b": rng.integers(-5000, 5000, 12).astype(np.int32),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", *(["b"] if convolution else [])]
    options: dict[str, Any] = {"pads": [1, 0, 1, 1], "strides": [2, 1]} if convolution else {}
    node = kernel_runs.onnx_node(op, names, **options)
    info_of, kinds = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    taken = info_of("x", kinds, (2, 6, 9, 11) if convolution else (40, 100))
    arrays = [onnx.numpy_helper.from_array(np.asarray(constants[name]), name) for name in names[1:]]
    made = onnx.helper.make_graph([node], "g", [taken], [info_of("y", kinds, None)], arrays)
    opsets = [onnx.helper.make_opsetid("", 19)]
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString())
    _prove(path)
