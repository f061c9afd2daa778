"""What torch.save writes, in its zip and in the layout from before 1.6, against what torch itself loads from it."""

from __future__ import annotations

import argparse
import collections
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bninspect import formats
from bninspect.errors import UnknownFormat
from bninspect.records import BatchNorm, Statistics

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

FIELDS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
nn = torch.nn


class Renamed(torch.nn.BatchNorm2d):  # type: ignore[misc]  # torch is Any to mypy
    """A subclass that says nothing new."""


class Activated(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Keeps running statistics, and does something else with them: as in-place activated batch norm does."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum, self.affine = 3, 1e-5, 0.1, True
        self.weight = nn.Parameter(torch.ones(3))
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, torch.ones(3))


class Block(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A module of classes that a reader has not."""

    def __init__(self) -> None:
        super().__init__()
        self.bn2d = nn.BatchNorm2d(3, eps=1e-3, momentum=0.25)
        self.inner = nn.Sequential(nn.BatchNorm1d(4, eps=2e-5, affine=False), nn.ReLU(), nn.BatchNorm3d(2))
        self.sync = nn.SyncBatchNorm(3, eps=1e-4, momentum=None)
        self.instance = nn.InstanceNorm2d(3, track_running_stats=True, affine=True)
        self.none = nn.InstanceNorm2d(3)
        self.batch = nn.BatchNorm2d(3, track_running_stats=False)
        self.renamed = Renamed(3, eps=3e-4)
        self.activated = Activated()
        self.shared = self.bn2d


def _filled(module: Any) -> Any:
    torch.manual_seed(5)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return module.eval()


LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])


def _read(path: Path, content: Any, *, zipped: bool, protocol: int = 2) -> tuple[BatchNorm, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, path / "m.pt", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return formats.read(path / "m.pt").layers


@LAYOUTS
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_a_whole_module_with_what_its_layers_are_set_to(tmp_path: Path, zipped: bool, protocol: int) -> None:
    block = _filled(Block())
    layers = {layer.name: layer for layer in _read(tmp_path, block, zipped=zipped, protocol=protocol)}
    names = ["bn2d", "inner.0", "inner.2", "sync", "instance", "batch", "renamed", "activated"]
    assert list(layers) == names
    for name, layer in layers.items():
        module = block.get_submodule(name)
        assert layer.class_name == type(module).__name__
        for field, stored in FIELDS.items():
            tensor = getattr(module, stored, None)
            assert (tensor is None) == (field not in layer.arrays)
            if tensor is not None:
                np.testing.assert_array_equal(layer.arrays[field], tensor.detach().numpy(), strict=True)
        if name == "activated":
            assert (layer.epsilon, layer.momentum) == (None, None)
            assert "not a class of torch" in layer.notes[0]
            continue
        assert (layer.epsilon, layer.epsilon_source) == (module.eps, "file")
        momentum = module.momentum
        assert layer.momentum == (None if momentum is None else pytest.approx(1 - momentum))
        assert layer.scale is layer.center is module.affine
        assert layer.statistics is (Statistics.BATCH if name == "batch" else Statistics.MOVING)
    assert "has the attributes of torch's batch norm" in layers["renamed"].notes[0]
    assert layers["sync"].notes == ()


@LAYOUTS
def test_the_mode_of_a_module_is_said(tmp_path: Path, zipped: bool) -> None:
    block = _filled(nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)))
    block[1].train()
    first, second = _read(tmp_path, {"model": block, "epoch": 3}, zipped=zipped)
    assert (first.notes, second.statistics) == ((), Statistics.MOVING)
    assert "model.eval()" in second.notes[0]


@LAYOUTS
def test_a_module_is_code_and_a_state_dict_is_none(tmp_path: Path, zipped: bool) -> None:
    _read(tmp_path, {"ema": _filled(Block())}, zipped=zipped)
    assert any("Block" in one for one in formats.read(tmp_path / "m.pt").code)
    _read(tmp_path, Block().state_dict(), zipped=zipped)
    assert formats.read(tmp_path / "m.pt").code == ()


class Held:
    """An object that keeps a state_dict, as a running average of parameters does."""

    def __init__(self, state: Any) -> None:
        self.decay = 0.9
        self.shadow = state


@LAYOUTS
def test_what_stands_beside_the_parameters_does_not_matter(tmp_path: Path, zipped: bool) -> None:
    net = _filled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3, 2, 2)).sum().backward()
    optimizer.step()
    content = {
        "hyper_parameters": argparse.Namespace(lr=0.1, layers=[1, 2]),
        "optimizer": optimizer,
        "optimizer_states": [optimizer.state_dict()],
        "random": np.random.default_rng(1),
        "numbers": np.float64(3),
        "history": collections.deque([1, 2], maxlen=4),
        "names": collections.OrderedDict({("a", 1): Path("x"), frozenset((1, (2, 3))): {1, 2}}),
        "lists": collections.defaultdict(list, {"a": [1]}),
        "state_dict": net.state_dict(),
        "ema": Held(net.state_dict()),
    }
    layers = _read(tmp_path, content, zipped=zipped)
    assert [layer.name for layer in layers] == ["state_dict/1", "ema.shadow/1"]
    np.testing.assert_array_equal(layers[1].arrays["gamma"], net[1].weight.detach().numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_types_before_1_6(tmp_path: Path, dtype: str) -> None:
    net = _filled(nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 2))).to(getattr(torch, dtype))
    beside = {"complex": torch.ones(3, dtype=torch.complex64), "bytes": torch.ones(5, dtype=torch.uint8)}
    (layer,) = _read(tmp_path, {**beside, "model": net.state_dict()}, zipped=False)
    truth = torch.load(tmp_path / "m.pt", weights_only=True)["model"]
    assert layer.dtype == dtype
    for field, stored in FIELDS.items():
        np.testing.assert_array_equal(layer.arrays[field], truth[f"0.{stored}"].to(torch.float64).numpy())


@LAYOUTS
def test_views_of_one_storage(tmp_path: Path, zipped: bool) -> None:
    flat = torch.arange(40, dtype=torch.float32)
    names = ("weight", "bias", "running_mean", "running_var")
    state = {f"bn.{name}": flat[place : place + 20 : 4] for place, name in enumerate(names)}
    (layer,) = _read(tmp_path, state, zipped=zipped)
    for place, array in enumerate(layer.arrays.values()):
        np.testing.assert_array_equal(array, np.arange(place, place + 20, 4))


def test_what_python_2_wrote(tmp_path: Path) -> None:
    """Keys are texts of bytes there: SHORT_BINSTRING."""
    torch.save(_filled(nn.BatchNorm1d(3)).state_dict(), tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "m.pt").read_bytes()
    old = data
    for text in (b"running_mean", b"running_var", b"storage", b"cpu", b"weight", b"bias"):
        old = old.replace(b"X" + len(text).to_bytes(4, "little") + text, b"U" + bytes([len(text)]) + text)
    assert old != data
    (tmp_path / "old.pt").write_bytes(old)
    (new,), (layer,) = formats.read(tmp_path / "m.pt").layers, formats.read(tmp_path / "old.pt").layers
    assert layer.arrays.keys() == new.arrays.keys()
    assert torch.load(tmp_path / "old.pt", weights_only=False).keys() == torch.load(tmp_path / "m.pt").keys()


def test_a_pickle_that_torch_did_not_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(pickle.dumps({"bn.running_mean": [1.0]}, 2))
    with pytest.raises(UnknownFormat, match=r"a Python pickle that torch\.save did not write"):
        formats.read(tmp_path / "m.pt")


@pytest.mark.parametrize("name", ["wild/cifar/*.th", "wild/minifas/*.pth", "wild/ultra/*.pth"])
def test_published_files_hold_what_torch_loads(shared_models: Path, name: str) -> None:
    for path in sorted(shared_models.glob(name)):
        content = torch.load(path, weights_only=True, map_location="cpu")
        truth = content.get("state_dict", content)
        norms = [key.removesuffix(".running_mean") for key in truth if key.endswith(".running_mean")]
        layers = formats.read(path).layers
        assert [layer.location for layer in layers] == norms
        for layer in layers:
            for field, stored in FIELDS.items():
                np.testing.assert_array_equal(layer.arrays[field], truth[f"{layer.location}.{stored}"].numpy())
