"""ncnn's files read without it: by the order in which its layers load, and files made to harm."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from helpers import mutations
from helpers import ncnn_files as build

from bninspect import formats
from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats import folder_models
from bninspect.formats.ncnn import param
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return build.write(tmp_path)


def test_batch_norm_has_its_numbers_and_epsilon(model: Path) -> None:
    checkpoint = formats.read(model)
    (layer,) = checkpoint.layers
    assert checkpoint.bytes == sum(one.stat().st_size for one in model.parent.iterdir())
    assert (layer.name, layer.epsilon, layer.axis, layer.notes) == ("norm", 0.25, (1,), ())
    for name, array in build.PARAMETERS.items():
        np.testing.assert_array_equal(layer.arrays[name], array)
    assert folder_models.search({"path": str(model.parent)}, [], lambda _: None).models == (str(model),)


def test_missing_epsilon_is_zero_and_said(model: Path) -> None:
    model.write_text(build.PARAM.replace(" 1=2.500000e-1", ""))
    (layer,) = formats.read(model).layers
    assert layer.epsilon == 0
    assert layer.notes == ("the file does not state epsilon: ncnn takes 0",)


def test_network_is_that_of_the_lines(model: Path) -> None:
    found = formats.read_network(model)
    assert [(one.name, one.shape) for one in found.inputs] == [("data", (1, 2, 5, 5))]
    assert [one.name for one in found.outputs] == ["out"]
    conv, norm, dense, _ = found.nodes
    assert conv.kernel is not None
    assert dense.kernel is not None
    np.testing.assert_array_equal(conv.kernel.weights, network.convolution(build.KERNEL))
    assert (conv.limits, conv.padded, conv.operation) == (ActivationLimits(0.0, 6.0), True, network.CONVOLUTION)
    assert conv.geometry == Geometry((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (), 1)
    assert (norm.operation, norm.layer, norm.inputs) == (network.BATCH_NORM, "norm", ("c",))
    assert dense.kernel.dtype == "float16"
    np.testing.assert_array_equal(dense.kernel.weights[0], build.DENSE.astype(np.float16).T)


@pytest.mark.parametrize(("size", "axis"), [("0=3", 1), ("0=1 1=1 2=3", -3), ("0=1 1=3", -2)])
def test_constants_that_are_multiplied_and_added_are_a_scale_and_a_shift(tmp_path: Path, size: str, axis: int) -> None:
    lines = (
        f"MemoryData a 0 1 a {size}",
        f"MemoryData b 0 1 b {size}",
        "BinaryOp m 2 1 x a y 0=2",
        "BinaryOp s 2 1 b y z 0=1",
    )
    (tmp_path / "m.param").write_text("\n".join(["7767517", "5 5", "Input x 0 1 x", *lines]))
    scale, shift = np.array([2, 3, 4], np.float32), np.array([5, 6, 7], np.float32)
    (tmp_path / "m.bin").write_bytes(scale.tobytes() + shift.tobytes())
    (node,) = formats.read_network(tmp_path / "m.param").nodes
    assert node.kernel is not None
    assert node.geometry == Geometry(channel_axis=axis)
    np.testing.assert_array_equal(node.kernel.weights.ravel(), -scale)
    np.testing.assert_array_equal(node.kernel.bias, shift)


def test_a_constant_of_negative_lengths_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "m.param").write_text("7767517\n1 1\nMemoryData a 0 1 a 0=-2 1=-3\n")
    (tmp_path / "m.bin").write_bytes(bytes(24))
    with pytest.raises(DamagedFile, match="is not read") as caught:
        formats.read_network(tmp_path / "m.param")
    assert "below zero" in caught.value.why


def test_int8_weights_are_what_they_stand_for(tmp_path: Path) -> None:
    whole = np.array([[-127, 5, 64], [1, 2, 3]], np.int8)
    scales = np.array([50, 20], np.float32)
    (tmp_path / "m.param").write_text("7767517\n2 2\nInput x 0 1 x\nInnerProduct d 1 1 x y 0=2 2=6 8=1\n")
    data = struct.pack("<I", 0x000D4B38) + whole.tobytes().ljust(8, b"\0") + scales.tobytes() + bytes(4)
    (tmp_path / "m.bin").write_bytes(data)
    (node,) = formats.read_network(tmp_path / "m.param").nodes
    assert node.kernel is not None
    assert node.kernel.weight_step is not None
    np.testing.assert_array_equal(node.kernel.weight_step, [1 / 50, 1 / 20])
    np.testing.assert_allclose(node.kernel.weights[0].T, whole / scales[:, np.newaxis].astype(np.float64), rtol=1e-15)


HOSTILE = {
    "cut off": ("Softmax          end    1 1 d out 0=0 1=1\n", "", DamagedFile),
    "another count of layers": ("5 5", "6 5", DamagedFile),
    "a billion layers": ("5 5", "1000000000 5", DamagedFile),
    "counts that are words": ("5 5", "five 5", DamagedFile),
    "more filters": ("0=4 1=3", "0=5 1=3", DamagedFile),
    "a billion weights": ("6=72", "6=1000000000", DamagedFile),
    "more digits than a size has": ("6=72", f"6={'9' * 5000}", DamagedFile),
    "a negative size": ("2=200", "2=-200", DamagedFile),
    "places that do not divide": ("1=3 11=3", "1=5 11=3", DamagedFile),
    "places that are none": ("1=3 11=3", "1=0 11=3", DamagedFile),
    "an epsilon that is a word": ("1=2.500000e-1", "1=much", DamagedFile),
    "a value from nowhere": ("1 1 c n", "1 1 z n", DamagedFile),
    "a value twice": ("1 1 n d", "1 1 n c", DamagedFile),
    "more values than the line has": ("1 1 d out", "900 900 d out", DamagedFile),
    "a list of another length": ("-23310=2,0.0,6.0", "-23310=3,0.0,6.0", DamagedFile),
    "a layer of another kind": ("Softmax ", "LSTM ", UnreadableFile),
    "a setting without a number": ("9=3", "nine=3", DamagedFile),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_lines_are_refused(model: Path, kind: str) -> None:
    mutations.is_refused(model, model, build.PARAM, HOSTILE[kind])


def test_more_layers_than_a_model_has_are_not_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(param, "MOST_LAYERS", 4)
    with pytest.raises(UnsafeFile, match="at most 4"):
        formats.read(model)


def test_weights_of_another_length_type_or_place_are_refused(model: Path) -> None:
    stored, whole = model.with_suffix(".bin"), build.weights()
    for data in (whole[:-4], whole + bytes(4), b"", whole[:7]):
        stored.write_bytes(data)
        with pytest.raises(DamagedFile):
            formats.read(model)
    stored.write_bytes(b"\x01\x02\x03\x04" + whole[4:])
    with pytest.raises(UnreadableFile, match="table"):
        formats.read(model)
    stored.unlink()
    with pytest.raises(DamagedFile, match="no file"):
        formats.read(model)
    stored.symlink_to("/etc/hostname")
    with pytest.raises(UnsafeFile):
        formats.read(model)


@mutations.exchanged
def test_changed_lines_are_read_or_refused(model: Path, place: int, new: bytes, length: int) -> None:
    mutations.is_read_or_refused(model, model, build.PARAM.encode(), place, new, length)


def test_what_pnnx_did_not_convert_is_named_for_what_it_is(model: Path) -> None:
    model.write_text(
        build.PARAM.replace("5 5\n", "6 6\n").replace("Convolution ", "Tensor.to half 1 1 data h\nConvolution ")
    )
    with pytest.raises(UnreadableFile, match=r"an operation of PyTorch that pnnx did not convert") as raised:
        formats.read(model)
    assert raised.value.hint == "call .float() on the module before it is traced"
