"""TorchScript and torch.export read without torch, against the modules that they were made from."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bninspect import formats
from bninspect.errors import DamagedFile, UnreadableFile
from bninspect.formats.torch import format as container
from bninspect.records import Checkpoint, Statistics, graph

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

from helpers.torch_nets import save, settled


def _net() -> Any:
    class Net(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 8, 3, groups=2)
            self.bn1 = torch.nn.BatchNorm2d(8, eps=1e-3, momentum=0.25)
            self.up = torch.nn.ConvTranspose2d(8, 6, 2, groups=2, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(6, affine=False)
            self.fc = torch.nn.Linear(6, 5)
            self.bn3 = torch.nn.BatchNorm1d(5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.bn1(self.conv(x)))
            return self.bn3(self.fc(self.bn2(self.up(x)).mean((2, 3))))

    return settled(Net())


X = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)


def _saved(path: Path, kind: str, net: Any) -> Checkpoint:
    return formats.read(save(net, kind, path / "m.pt2", X))


def test_sources_that_describe_no_class_say_nothing(tmp_path: Path) -> None:
    _saved(tmp_path, "traced", _net())
    with zipfile.ZipFile(tmp_path / "m.pt2") as source, zipfile.ZipFile(tmp_path / "bare.pt", "w") as target:
        for name in source.namelist():
            target.writestr(name, b"pass\n" if name.endswith(".py") else source.read(name))
    layers = formats.read(tmp_path / "bare.pt").layers
    assert [(layer.name, layer.epsilon) for layer in layers] == [("bn1", None), ("bn2", None), ("bn3", None)]


@pytest.mark.parametrize("kind", ["exported", "scripted", "traced"])
def test_parameters_epsilon_and_momentum(tmp_path: Path, kind: str) -> None:
    net = _net()
    checkpoint = _saved(tmp_path, kind, net)
    assert checkpoint.code == ()
    assert [layer.name for layer in checkpoint.layers] == ["bn1", "bn2", "bn3"]
    for layer in checkpoint.layers:
        module = getattr(net, layer.name)
        assert layer.epsilon == module.eps
        assert layer.epsilon_source == "file"
        assert layer.momentum == pytest.approx(1 - module.momentum)
        assert (layer.statistics, layer.axis) == (Statistics.MOVING, (1,))
        truth = {
            "gamma": module.weight,
            "beta": module.bias,
            "moving_mean": module.running_mean,
            "moving_variance": module.running_var,
        }
        assert layer.arrays.keys() == {name for name, tensor in truth.items() if tensor is not None}
        for name, array in layer.arrays.items():
            np.testing.assert_array_equal(array, truth[name].detach().numpy(), strict=True)


@pytest.mark.parametrize("kind", ["exported", "scripted", "traced"])
def test_training_mode_is_told(tmp_path: Path, kind: str) -> None:
    net = _net().train()
    checkpoint = _saved(tmp_path, kind, net)
    assert {layer.statistics for layer in checkpoint.layers} == {Statistics.BATCH}


def test_script_with_other_operations_is_code(tmp_path: Path) -> None:
    class Reads(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_file("/etc/hostname", size=4) + x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Reads()).save(tmp_path / "m.pt")
    assert "operation from_file" in formats.read(tmp_path / "m.pt").code


def test_network_of_an_exported_graph(tmp_path: Path) -> None:
    """The weights, put into our order, compute what torch computes: one group, tap and channel at a time."""
    net = _net()
    _saved(tmp_path, "exported", net)
    assert container.FORMAT.network is not None
    found = container.FORMAT.network(tmp_path / "m.pt2")
    kernels = {node.operation: node.kernel for node in found.nodes if node.kernel is not None and not node.layer}
    assert list(kernels) == [graph.CONVOLUTION, graph.TRANSPOSED, graph.DENSE]
    conv, up, fc = kernels.values()
    assert conv is not None
    assert up is not None
    assert fc is not None
    for o in range(8):
        for i in range(2):
            np.testing.assert_array_equal(conv.weights[:, i, o], net.conv.weight[o, i].detach().numpy().ravel())
    # torch stores (inputs, outputs per group): input 5 is the second of group 1, whose outputs are 3, 4 and 5.
    for i in range(8):
        for o in range(3):
            truth = net.up.weight[i, o].detach().numpy().ravel()
            np.testing.assert_array_equal(up.weights[:, i % 4, i // 4 * 3 + o], truth)
    np.testing.assert_array_equal(fc.weights[0], net.fc.weight.detach().numpy().T)
    assert (conv.groups, up.groups, up.bias) == (2, 2, None)
    producers = found.producers()
    norms = [node for node in found.nodes if node.operation == graph.BATCH_NORM]
    feeding = [graph.origin(node.inputs[0], producers) for node in norms]
    assert [one and one.operation for one in feeding] == [graph.CONVOLUTION, graph.TRANSPOSED, graph.DENSE]
    assert [value.shape for value in found.inputs] == [(2, 4, 6, 6)]


def _rewritten(path: Path, changes: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(path.with_name("changed.pt2"), "w") as target:
        for name in source.namelist():
            data: bytes | None = source.read(name)
            for end, change in changes.items():
                if name.endswith(end):
                    data = None if change is None or data is None else change(data)
            if data is not None:
                target.writestr(name, data)
    return path.with_name("changed.pt2")


def test_export_that_contradicts_itself(tmp_path: Path) -> None:
    _saved(tmp_path, "exported", _net())

    def larger(data: bytes) -> bytes:
        config = json.loads(data)
        config["config"]["bn1.weight"]["tensor_meta"]["sizes"] = [{"as_int": 2**40}]
        return json.dumps(config).encode()

    for change, kind in ((larger, "too large"), (lambda _: b'{"config": {}}', "damaged")):
        with pytest.raises(UnreadableFile, match=kind):
            formats.read(_rewritten(tmp_path / "m.pt2", {"model_weights_config.json": change}))
    with pytest.raises(DamagedFile):
        formats.read(_rewritten(tmp_path / "m.pt2", {"model.json": lambda data: data[:-2]}))
    with pytest.raises(UnreadableFile, match="another version"):
        formats.read(_rewritten(tmp_path / "m.pt2", {"model.json": None}))
