"""State_dicts read without torch, against the arrays that were put in, and against torch where it is installed."""

from __future__ import annotations

import collections
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import torch_files

from bninspect import formats
from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.records import Array, BatchNorm, Statistics

ARRAYS: dict[str, Array] = {
    "conv.weight": np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3),
    "bn.weight": np.array([1.5, -2], np.float32),
    "bn.bias": np.array([0.25, 3], np.float32),
    "bn.running_mean": np.array([0.1, 0.2], np.float32),
    "bn.running_var": np.array([1, 1e-12], np.float32),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "bare.running_mean": np.array([5, 6, 7], np.float64),
    "bare.running_var": np.array([1, 2, 3], np.float64),
}


def _read(path: Path, data: bytes) -> tuple[BatchNorm, ...]:
    (path / "m.pt").write_bytes(data)
    return formats.read(path / "m.pt").layers


@pytest.mark.parametrize("path", [(), ("state_dict",), ("a", "model")])
def test_reads_what_was_saved_wherever_it_lies(tmp_path: Path, path: tuple[str, ...]) -> None:
    bn, bare = _read(tmp_path, torch_files.state_dict(ARRAYS, *path))
    assert (bn.name, bn.epsilon, bn.axis, bn.dtype, bn.location) == ("bn", None, (1,), "float32", "bn")
    assert bn.statistics is Statistics.MOVING
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for field, name in names.items():
        np.testing.assert_array_equal(bn.arrays[field], ARRAYS[f"bn.{name}"], strict=True)
    assert (bare.gamma, bare.beta, bare.dtype) == (None, None, "float64")


def test_parallel_prefix_is_no_part_of_the_name(tmp_path: Path) -> None:
    bn, bare = _read(tmp_path, torch_files.state_dict({f"module.{name}": array for name, array in ARRAYS.items()}))
    assert [(one.name, one.location) for one in (bn, bare)] == [("bn", "module.bn"), ("bare", "module.bare")]


def test_two_networks_in_one_checkpoint_are_both_there(tmp_path: Path) -> None:
    program = torch_files.pickle_of(ARRAYS)
    both = torch_files.mapping({"G": program, "D": program})
    names = [layer.name for layer in _read(tmp_path, torch_files.zipped(both, ARRAYS))]
    assert names == ["G/bn", "G/bare", "D/bn", "D/bare"]


def test_no_batch_norm_is_said(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(torch_files.state_dict({"w": np.ones(3, np.float32)}))
    checkpoint = formats.read(tmp_path / "m.pt")
    assert checkpoint.layers == ()
    assert "running_mean" in checkpoint.notes[0]


def test_storage_that_is_too_short(tmp_path: Path) -> None:
    short = {**ARRAYS, "bn.weight": np.array([1.5], np.float32)}
    with pytest.raises(DamagedFile, match=r"bn\.weight has 4 bytes, 8 are announced"):
        _read(tmp_path, torch_files.zipped(torch_files.pickle_of(ARRAYS), short))


@pytest.mark.parametrize("numbers", [(-1,), (2**31 - 1, 2**31 - 1)])
def test_impossible_shapes(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    program = torch_files.pickle_of(ARRAYS)
    before = torch_files.integers((2,)) + torch_files.integers((1,))
    changed = program.replace(before, torch_files.integers(numbers) + torch_files.integers((0,) * len(numbers)), 1)
    assert changed != program
    with pytest.raises((DamagedFile, UnsafeFile)):
        _read(tmp_path, torch_files.zipped(changed, ARRAYS))


def test_a_tensor_that_repeats_a_number_without_end(tmp_path: Path) -> None:
    program = torch_files.pickle_of(ARRAYS)
    before = torch_files.integers((2,)) + torch_files.integers((1,))
    changed = program.replace(before, torch_files.integers((2**20,)) + torch_files.integers((0,)), 1)
    assert changed != program
    with pytest.raises(UnsafeFile, match="1,048,576 numbers of 8 bytes"):
        _read(tmp_path, torch_files.zipped(changed, ARRAYS))


def test_real_file_without_torch(shared_models: Path) -> None:
    code = (
        "import sys, pathlib; sys.modules['torch'] = None; from bninspect import formats;"
        "found = formats.read(pathlib.Path(sys.argv[1]));"
        "print([layer.name for layer in found.layers], any(name.startswith('torch.') for name in sys.modules))"
    )
    command = [sys.executable, "-P", "-c", code, str(shared_models / "torch" / "sd.pt")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "['pre', 'b.0.bn', 'b.1.bn', 'noaff', 'bn1', 'inorm'] False"


def _norm(torch: Any, kind: str, channels: int, dtype: Any, **options: Any) -> Any:
    norm = getattr(torch.nn, kind)(channels, **options)
    with torch.no_grad():
        for tensor in norm.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.rand(tensor.shape) * 3)
    return norm.to(dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_against_torch(tmp_path: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        _norm(torch, "BatchNorm2d", 4, getattr(torch, dtype)),
        torch.nn.Sequential(_norm(torch, "BatchNorm1d", 6, getattr(torch, dtype), affine=False)),
    )
    path = tmp_path / "m.pt"
    torch.save({"epoch": 3, "nested": {"state_dict": model.state_dict()}, "lr": 0.1}, path)
    truth = torch.load(path, weights_only=True)["nested"]["state_dict"]
    layers = formats.read(path).layers
    assert [layer.name for layer in layers] == ["1", "2.0"]
    fields = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for layer in layers:
        assert layer.dtype == dtype
        for field, array in layer.arrays.items():
            expected = truth[f"{layer.name}.{fields[field]}"]
            wide = expected.float() if dtype == "bfloat16" else expected
            np.testing.assert_array_equal(array, wide.numpy(), strict=True)


def test_whatever_torch_loads_with_weights_only_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    statistics = {"bn.running_mean": torch.tensor([1.0, 2.0]), "bn.running_var": torch.tensor([3.0, 4.0])}
    saved = {
        "epochs": {1, 2},
        "counts": collections.Counter("abc"),
        "complex": 1 + 2j,
        "bytes": b"abc",
        "array": bytearray(b"abc"),
        "sparse": torch.eye(3).to_sparse(),
        "unsigned": torch.zeros(2, dtype=torch.uint16),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "device": torch.device("cpu"),
        "dtype": torch.float8_e5m2,
        "size": torch.Size((2, 3)),
        "networks": [statistics, ({"other." + name: one * 2 for name, one in statistics.items()},)],
    }
    torch.save(saved, tmp_path / "m.pt")
    assert torch.load(tmp_path / "m.pt", weights_only=True).keys() == saved.keys()
    first, second = formats.read(tmp_path / "m.pt").layers
    assert (first.name, second.name) == ("networks.0/bn", "networks.1.0/other.bn")
    np.testing.assert_array_equal(first.arrays["moving_mean"], [1, 2])
    np.testing.assert_array_equal(second.arrays["moving_variance"], [6, 8])


def test_views_of_one_storage(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    # A column: strided, in the middle of a storage that others share.
    torch.save({"bn.running_mean": whole[:, 2], "bn.running_var": whole[1:3, 4:].reshape(-1)}, tmp_path / "m.pt")
    (layer,) = formats.read(tmp_path / "m.pt").layers
    np.testing.assert_array_equal(layer.arrays["moving_mean"], [2, 8, 14, 20])
    np.testing.assert_array_equal(layer.arrays["moving_variance"], [10, 11, 16, 17])


def test_big_endian_storage(tmp_path: Path) -> None:
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in ARRAYS.items()}
    data = torch_files.zipped(torch_files.pickle_of(ARRAYS), swapped)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as target:
        (tmp_path / "little.zip").write_bytes(data)
        with zipfile.ZipFile(tmp_path / "little.zip") as source:
            for name in source.namelist():
                target.writestr(name, b"big" if name.endswith("byteorder") else source.read(name))
    bn, _ = _read(tmp_path, (tmp_path / "in.zip").read_bytes())
    np.testing.assert_array_equal(bn.arrays["gamma"], ARRAYS["bn.weight"], strict=True)
