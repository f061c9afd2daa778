"""What ONNX Runtime's optimiser puts into blocks of channels is read as it was before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import kernel_runs

from bninspect import formats
from bninspect.equivalence import running
from bninspect.records.graph import Network
from bninspect.settings import Settings

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def _written(path: Path, channels: int, groups: int) -> Path:
    """Write three convolutions in a row, and what the optimiser makes of them; return the path of that."""
    rng = np.random.default_rng(channels)
    shapes = {"a": (channels, 3, 3, 3), "b": (channels, channels // groups, 3, 3), "c": (20, channels, 1, 1)}
    constants = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    constants |= {f"{name}b": rng.standard_normal(shape[0]).astype(np.float32) for name, shape in shapes.items()}
    constants["ab"][-1] = 0.0
    constants["a"][-1] = 0.0  # a channel that is dead, and counts
    nodes = [
        kernel_runs.onnx_node("Conv", ["x", "a", "ab"], output="p"),
        kernel_runs.onnx_node("Relu", ["p"], output="q"),
        kernel_runs.onnx_node("Conv", ["q", "b", "bb"], output="r", group=groups),
        kernel_runs.onnx_node("MaxPool", ["r"], output="s", kernel_shape=[2, 2]),
        kernel_runs.onnx_node("Conv", ["s", "c", "cb"]),
    ]
    info: Any = onnx.helper.make_tensor_value_info
    arrays = [onnx.numpy_helper.from_array(one, name) for name, one in constants.items()]
    made = onnx.helper.make_graph(nodes, "g", [info("x", 1, (1, 3, 9, 9))], [info("y", 1, None)], arrays)
    opsets = [onnx.helper.make_opsetid("", 19)]
    plain, blocked = path / "plain.onnx", path / "blocked.onnx"
    plain.write_bytes(onnx.helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString())
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(blocked)
    ort.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    return blocked


def _seen(path: Path) -> tuple[Network, list[Any]]:
    ran = running.exported(formats.read(path), Settings())
    assert ran.session is not None
    nodes = [node for node in ran.network.nodes if node.kernel is not None]
    names = [name for node in nodes for name in (node.inputs[0], node.outputs[0])]
    values = ran.session.compute(ran.data, list(dict.fromkeys(names)))
    return ran.network, [values[name] for name in names]


@pytest.mark.parametrize(("channels", "groups"), [(24, 1), (32, 1), (16, 16), (64, 2)])
def test_kernels_and_values_are_those_of_the_plain_file(channels: int, groups: int, tmp_path: Path) -> None:
    blocked = _written(tmp_path, channels, groups)
    if b"nchwc" not in blocked.read_bytes():
        pytest.skip("ONNX Runtime puts nothing into blocks on this processor")
    (own, values), (other, wanted) = _seen(blocked), _seen(tmp_path / "plain.onnx")
    kernels = [[node.kernel for node in network.nodes if node.kernel is not None] for network in (own, other)]
    assert len(kernels[0]) == 3
    for one, two in zip(*kernels, strict=True):
        np.testing.assert_array_equal(one.weights, two.weights)
        np.testing.assert_array_equal(np.asarray(one.bias), np.asarray(two.bias))
        assert one.groups == two.groups
    for place in (0, 2, 4, 5):  # what goes in, and what comes out of the model; relu may have been joined to the others
        np.testing.assert_allclose(values[place], wanted[place], rtol=1e-4, atol=1e-4)
    if channels == 24:  # 20 channels fill up 24 of 8, and 32 of 16: the file alone tells
        read = [node.kernel for node in formats.read_network(blocked).nodes if node.kernel is not None]
        np.testing.assert_array_equal(read[1].weights, kernels[1][1].weights)
