"""Kernels and batch norms in branches and loops are counted in what a graph computes, in every format that has them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import onnx_files as build

from bninspect import formats
from bninspect.formats import bodies
from bninspect.formats.tensorflow import kernels

GENERATOR = np.random.default_rng(3)
BN = {name: GENERATOR.uniform(0.5, 2, 3).astype(np.float32) for name in ("s", "b", "m", "v")}


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _within(path: Path) -> list[int]:
    return [node.within for node in formats.read_network(path).nodes if node.within]


@pytest.mark.parametrize(("decided", "expected"), [(False, [4]), (True, [])])
def test_of_onnx_only_what_data_chooses(tmp_path: Path, decided: bool, expected: list[int]) -> None:
    weights = np.ones((3, 3, 1, 1), np.float32)
    norm = build.node("BatchNormalization", ["h", *BN], ["y"], "bn")
    branch = build.graph([build.node("Conv", ["x", "w"], ["h"]), norm], {}, inputs=())
    nodes = [build.node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch)]
    arrays = {**BN, "w": weights, **({"c": np.array([True])} if decided else {})}
    (tmp_path / "m.onnx").write_bytes(build.model(build.graph(nodes, arrays)))
    assert _within(tmp_path / "m.onnx") == expected


@pytest.mark.parametrize(
    ("outer", "inside", "expected"),
    [
        ("Loop", ["MatMul", "Gemm"], 0),
        ("While", ["MatMul", "If", "BatchNormalization"], 2),
        ("torch.ops.higher_order.while_loop", ["torch.ops.aten.linear.default"], 0),
        ("torch.ops.higher_order.cond", ["torch.ops.aten.linear.default"], 1),
        ("StatelessCase", ["Conv2D", "Cast"], 1),
    ],
)
def test_a_loop_always_runs_its_body(outer: str, inside: list[str], expected: int) -> None:
    assert bodies.held(outer, inside) == expected


def test_of_torch_export(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

    class Choosing(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3))
            self.other = torch.nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return torch.cond(x.sum() > 0, self.one, self.other, (x,))

    with _quiet():
        torch.export.save(torch.export.export(Choosing().eval(), (torch.ones(2, 3, 4, 4),)), tmp_path / "m.pt2")
    assert _within(tmp_path / "m.pt2") == [3]


def _chosen(x: Any) -> Any:
    import tensorflow as tf

    kernel = tf.constant(np.ones((1, 1, 3, 3), np.float32))
    arrays = [tf.constant(BN[name]) for name in ("m", "v", "b", "s")]

    def normalised() -> Any:
        return tf.nn.batch_normalization(tf.nn.conv2d(x, kernel, 1, "SAME"), *arrays, 1e-3)

    return tf.cond(tf.reduce_sum(x) > 0, normalised, lambda: x)


@pytest.mark.tensorflow
def test_of_tflite(tmp_path: Path) -> None:
    import tensorflow as tf

    made = tf.function(_chosen, input_signature=[tf.TensorSpec((1, 4, 4, 3))])
    with _quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([made.get_concrete_function()])
        (tmp_path / "m.tflite").write_bytes(converter.convert())
    assert _within(tmp_path / "m.tflite") == [1]


@pytest.mark.tensorflow
def test_of_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(_chosen, input_signature=[tf.TensorSpec((None, 4, 4, 3))])
    with _quiet():
        tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.serve)
    assert [node.within for node in kernels.read_network(tmp_path / "m").nodes if node.within] == [1]


def test_of_openvino(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: pip install 'bninspect[openvino]'")
    from openvino import opset15 as ops

    def body(holds: bool) -> tuple[Any, Any]:
        x = ops.parameter([1, 3, 4, 4], np.float32)
        y = ops.convolution(x, ops.constant(np.ones((3, 3, 1, 1), np.float32)), [1, 1], [0, 0], [0, 0], [1, 1])
        return openvino.Model([ops.result(y if holds else ops.relu(x))], [x], "body"), x

    x = ops.parameter([1, 3, 4, 4], np.float32, name="x")
    total = ops.reduce_sum(x, ops.constant(np.array([0, 1, 2, 3])), keep_dims=False)
    node = ops.if_op(ops.greater(total, ops.constant(np.float32(0))).output(0))
    bodies = [body(True), body(False)]
    node.set_then_body(bodies[0][0])
    node.set_else_body(bodies[1][0])
    node.set_input(x.output(0), bodies[0][1], bodies[1][1])
    given = node.set_output(bodies[0][0].get_results()[0], bodies[1][0].get_results()[0])
    openvino.save_model(openvino.Model([ops.result(given)], [x], "m"), str(tmp_path / "m.xml"), compress_to_fp16=False)
    assert _within(tmp_path / "m.xml") == [1]
