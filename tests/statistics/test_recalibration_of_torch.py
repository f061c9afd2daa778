"""torch.export and ONNX: statistics of data by torch's own convention, and by ONNX's."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

import bninspect
from bninspect import formats
from bninspect.cli import run
from bninspect.records import Array, Estimator
from bninspect.settings import Settings
from bninspect.statistics.recalibrate_task import recalibrate_checkpoint

torch = pytest.importorskip("torch")


def module() -> torch.nn.Module:  # type: ignore[name-defined]
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 3, 3),
        torch.nn.BatchNorm2d(3),
    ).eval()


def data() -> Array:
    return (np.random.default_rng(0).standard_normal((70, 2, 9, 9)) * 3 + 1).astype(np.float32)


def export(path: Path) -> Path:
    batch = torch.export.Dim("batch", min=1, max=4096)
    example = (torch.zeros(4, 2, 9, 9),)
    torch.export.save(torch.export.export(module(), example, dynamic_shapes=({0: batch},)), path)
    return path


def test_an_exported_program_gets_the_unbiased_variance_of_what_arrives(tmp_path: Path) -> None:
    model, x = export(tmp_path / "net.pt2"), data()
    done = bninspect.recalibrate(model, x, tmp_path / "out.pt2")
    net = module()
    with torch.no_grad():
        first = net[0](torch.from_numpy(x)).double()
    after = bninspect.load(tmp_path / "out.pt2").layers
    np.testing.assert_allclose(np.asarray(after[0].moving_mean), first.mean(dim=(0, 2, 3)).numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        np.asarray(after[0].moving_variance), first.var(dim=(0, 2, 3), unbiased=True).numpy(), rtol=1e-5
    )
    assert {layer.estimator for layer in done.layers} == {Estimator.UNBIASED}
    assert all(max(layer.mean_off, layer.variance_off) <= 1e-6 for layer in done.layers)
    # torch itself loads it, its zip whole, and computes with them.
    program = torch.export.load(tmp_path / "out.pt2")
    assert np.array_equal(program.state_dict["1.running_mean"].numpy(), np.asarray(after[0].moving_mean))
    assert bninspect.drift(tmp_path / "out.pt2", x, Settings(trained_batch=70)).summary.exit_code == 0


def safetensors(path: Path, tensors: dict[str, Array]) -> Path:
    """Write tensors as the library does."""
    header, data = {}, b""
    for name, array in tensors.items():
        content = array.tobytes()
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_files_of_weights_take_what_the_model_computed(tmp_path: Path) -> None:
    model, x = export(tmp_path / "net.pt2"), data()
    state = {name: value for name, value in module().state_dict().items() if value.is_floating_point()}
    torch.save({"model": {f"module.{name}": value for name, value in module().state_dict().items()}}, tmp_path / "w.pt")
    written = safetensors(tmp_path / "w.safetensors", {name: value.numpy() for name, value in state.items()})
    bninspect.recalibrate(model, x, tmp_path / "out.pt2")
    wanted = torch.export.load(tmp_path / "out.pt2").state_dict
    bninspect.recalibrate(model, x, tmp_path / "out.pt", into=tmp_path / "w.pt")
    found = torch.load(tmp_path / "out.pt", weights_only=True)["model"]
    assert all(torch.equal(found[f"module.{name}"], wanted[name]) for name in state)
    bninspect.recalibrate(model, x, tmp_path / "out.safetensors", into=written)
    layers = bninspect.load(tmp_path / "out.safetensors").layers
    for layer in layers:
        assert np.array_equal(np.asarray(layer.moving_mean), wanted[f"{layer.name}.running_mean"].numpy())
        assert np.array_equal(np.asarray(layer.moving_variance), wanted[f"{layer.name}.running_var"].numpy())
    assert len(layers) == 2
    before, after = written.read_bytes(), (tmp_path / "out.safetensors").read_bytes()
    assert 0 < sum(one != other for one, other in zip(before, after, strict=True)) <= 2 * (4 + 3) * 4


def test_the_order_changes_no_byte_of_an_exported_program(tmp_path: Path) -> None:
    model, x = export(tmp_path / "net.pt2"), data()
    bninspect.recalibrate(model, x, tmp_path / "one.pt2")
    bninspect.recalibrate(model, x[::-1], tmp_path / "two.pt2")
    assert (tmp_path / "one.pt2").read_bytes() == (tmp_path / "two.pt2").read_bytes()


def test_an_onnx_model_gets_the_biased_variance_and_weights_of_torch_theirs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(1)
    kernel = generator.standard_normal((4, 2, 3, 3)).astype(np.float32)
    arrays = {"k": kernel, "s": np.ones(4, np.float32), "b": np.zeros(4, np.float32)}
    arrays |= {"m": np.full(4, 0.5, np.float32), "v": np.full(4, 2.0, np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], epsilon=1e-3),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 7, 7])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    x = data()
    np.save(tmp_path / "x.npy", x)
    given = ["recalibrate", str(model), "--data", str(tmp_path / "x.npy")]
    assert run([*given, "-o", str(tmp_path / "out.onnx"), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    (layer,) = bninspect.load(tmp_path / "out.onnx").layers
    with torch.no_grad():
        arrived = torch.nn.functional.conv2d(torch.from_numpy(x).double(), torch.from_numpy(kernel).double())
    np.testing.assert_allclose(np.asarray(layer.moving_mean), arrived.mean(dim=(0, 2, 3)).numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        np.asarray(layer.moving_variance), arrived.var(dim=(0, 2, 3), unbiased=False).numpy(), rtol=1e-5
    )
    assert len((tmp_path / "out.onnx").read_bytes()) == len(model.read_bytes())
    after = {one.name: numpy_helper.to_array(one) for one in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert all(np.array_equal(after[name], arrays[name]) for name in "ksb")
    names = {"bn.weight": "s", "bn.bias": "b", "bn.running_mean": "m", "bn.running_var": "v"}
    settings, few = Settings(data=str(tmp_path / "few.npy")), tmp_path / "few.onnx"
    doubts = ((x[:1], "1 sample does not show"), (x[:3], "3 samples are few"), (0 * x, "4 of 4 channels of y are"))
    for part, said in doubts:
        np.save(tmp_path / "few.npy", part)
        read = formats.read(model)
        assert said in recalibrate_checkpoint(read, read, few, settings, force=True).notes[0]
    weights = safetensors(tmp_path / "w.safetensors", {name: arrays[key] for name, key in names.items()})
    assert run([*given, "-o", str(tmp_path / "out.safetensors"), "--into", str(weights)]) == 0
    assert f"then: bninspect diff {weights} {tmp_path / 'out.safetensors'}" in capfd.readouterr().err
    (layer,) = bninspect.load(tmp_path / "out.safetensors").layers
    np.testing.assert_allclose(
        np.asarray(layer.moving_variance), arrived.var(dim=(0, 2, 3), unbiased=True).numpy(), rtol=1e-5
    )
