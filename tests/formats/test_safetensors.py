"""Our safetensors read back: what is not ours or not whole is called so. Whole ones: test_round_trips.py."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from bninspect.errors import BninspectError, DamagedFile, LimitExceeded, UnreadableFile, UnsafeFile
from bninspect.exporters.safetensors import encode
from bninspect.formats import FORMATS, whole_file
from bninspect.formats.safetensors import FORMAT
from bninspect.records import Array, BatchNorm, Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALUES = np.array([0.5, 1, 3], dtype=np.float32)
LAYER = BatchNorm("bn", VALUES, None, VALUES * 2, VALUES * 3, epsilon=0.001, momentum=0.99, axis=(-1,), scale=True)
CHECKPOINT = Checkpoint("m.h5", "keras-h5", "Keras 2.4.0", (LAYER,))
DATA = encode(CHECKPOINT, folded=False)


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _join(header: object, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _read(path: Path, data: bytes) -> Checkpoint:
    (path / "x.safetensors").write_bytes(data)
    return FORMAT.read(path / "x.safetensors")


def _assert_whole(found: Checkpoint) -> None:
    (layer,) = found.layers
    assert (layer.name, layer.epsilon, layer.momentum, layer.axis) == ("bn", 0.001, 0.99, (-1,))
    assert layer.arrays.keys() == LAYER.arrays.keys()
    for name, array in layer.arrays.items():
        np.testing.assert_array_equal(array, LAYER.arrays[name], strict=True)


def test_format_is_registered() -> None:
    assert FORMAT in FORMATS


def test_packed_again_by_the_library(tmp_path: Path) -> None:
    data = encode(replace(CHECKPOINT, layers=(LAYER, replace(LAYER, name="a"))), folded=False)
    (tmp_path / "ours").write_bytes(data)
    with safetensors.safe_open(tmp_path / "ours", framework="np") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load(data)
    again = safetensors.numpy.save(tensors, metadata=metadata)
    assert list(_split(again)[0]) != list(_split(data)[0])  # the library sorts tensors by name, we by layer
    first, second = _read(tmp_path, again).layers
    _assert_whole(replace(CHECKPOINT, layers=(first,)))
    assert second.name == "a"

    tensors["bn/gamma"][1] += 1
    with pytest.raises(DamagedFile, match="changed by another program"):
        _read(tmp_path, safetensors.numpy.save(tensors, metadata=metadata))


def test_file_of_another_program(tmp_path: Path) -> None:
    """A state_dict: what it holds is read, what it does not hold, epsilon above all, stays unknown."""
    tensors: dict[str, Array] = {
        "block.bn.weight": VALUES,
        "block.bn.running_mean": VALUES.astype(np.float16),
        "block.bn.running_var": VALUES + 1,
        "block.bn.num_batches_tracked": np.array(3),
        "block.conv.weight": np.ones((3, 2), np.float32),
    }
    for metadata in (None, {"format": "pt"}):
        data = safetensors.numpy.save(tensors, metadata=metadata)
        assert FORMAT.matches(tmp_path, data[:4096])
        (layer,) = _read(tmp_path, data).layers
        assert (layer.name, layer.axis, layer.epsilon, layer.scale) == ("block.bn", (1,), None, None)
        assert (layer.beta, layer.dtype) == (None, "float32+float16")
        names = {"gamma": "weight", "moving_mean": "running_mean", "moving_variance": "running_var"}
        assert layer.arrays.keys() == names.keys()
        for field, name in names.items():
            np.testing.assert_array_equal(layer.arrays[field], tensors[f"block.bn.{name}"], strict=True)


def test_types_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    body = VALUES.tobytes() + VALUES.tobytes() + b"\x01\x02\x03"
    header = {
        "bn.running_mean": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        "bn.running_var": {"dtype": "F32", "shape": [3], "data_offsets": [12, 24]},
        "w": {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [24, 27]},
    }
    (layer,) = _read(tmp_path, _join(header, body)).layers
    np.testing.assert_array_equal(layer.arrays["moving_variance"], VALUES)


def test_no_batch_norm_in_a_file_of_another_program(tmp_path: Path) -> None:
    found = _read(tmp_path, safetensors.numpy.save({"bn.weight": VALUES, "bn.running_mean": VALUES}))
    assert found.layers == ()
    assert "running_mean" in found.notes[0]


def test_folded_export(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="scale and shift"):
        _read(tmp_path, encode(CHECKPOINT, folded=True))


def test_matches_is_not_fooled_by_other_files(tmp_path: Path) -> None:
    for head in (
        b"",
        b"PK\x03\x04" * 10,
        b"\x89HDF\r\n\x1a\n{}",
        b"\x93NUMPY\x01\0{",
        struct.pack("<Q", 2),
        b'{"a": "{"}',
    ):
        assert not FORMAT.matches(tmp_path, head)


def _move(name: str, begin: int, end: int) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[name].update(data_offsets=[begin, end])


@pytest.mark.parametrize(
    "change",
    [
        _move("bn/gamma", 0, 8),
        _move("bn/gamma", 12, 24),
        _move("bn/gamma", -12, 0),
        _move("bn/gamma", 24, 36),
        _move("bn/gamma", 36, 48),
        _move("bn/gamma", 12, 0),
        _move("bn/gamma", 0, 1 << 70),
        lambda header: header.pop("bn/gamma"),
        lambda header: header.update({"bn/gamma": 7}),
        lambda header: header["bn/gamma"].pop("shape"),
        lambda header: header["bn/gamma"].update(more=1),
        lambda header: header["bn/gamma"].update(dtype="F8_E4M3"),
        lambda header: header["bn/gamma"].update(dtype=["F32"]),
        lambda header: header["bn/gamma"].update(dtype="F16"),
        lambda header: header["bn/gamma"].update(dtype="I32"),
        lambda header: header["bn/gamma"].update(shape=[4]),
        lambda header: header["bn/gamma"].update(shape=[3.0]),
        lambda header: header["bn/gamma"].update(shape=[-1, -3]),
        lambda header: header["bn/gamma"].update(shape=[1, 3]),
        lambda header: header["bn/gamma"].update(shape=[True, 3]),
        lambda header: header["bn/gamma"].update(data_offsets=[0, 12.0]),
        lambda header: header["bn/gamma"].update(data_offsets=[0]),
        lambda header: header["__metadata__"].pop("sha256"),
        lambda header: header["__metadata__"].update(sha256=7),
        lambda header: header["__metadata__"].update(bninspect="{}"),
        lambda header: header.update({"bn/beta": header.pop("bn/gamma")}),
        lambda header: header.update({"bn/\ud800": header.pop("bn/gamma")}),
        lambda header: header["__metadata__"].update(bninspect="\ud800"),
    ],
)
def test_contradictions(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    header, body = _split(DATA)
    assert header["bn/gamma"]["data_offsets"] == [0, 12]
    _assert_whole(_read(tmp_path, _join(header, body)))
    change(header)
    with pytest.raises(DamagedFile):
        _read(tmp_path, _join(header, body))


@pytest.mark.parametrize("begin", [0, 12, 16, 36])
def test_holes_and_overlaps(tmp_path: Path, begin: int) -> None:
    header, body = _split(DATA)
    assert header["bn/moving_variance"]["data_offsets"] == [24, 36]
    header["bn/moving_variance"]["data_offsets"] = [begin, begin + 12]
    with pytest.raises(DamagedFile, match="overlaps another tensor or leaves a hole"):
        _read(tmp_path, _join(header, body + bytes(24)))


def test_empty_tensors_may_stand_anywhere(tmp_path: Path) -> None:
    layer = BatchNorm("bn", VALUES[:0], None, VALUES[:0], None)
    (found,) = _read(tmp_path, encode(Checkpoint("m", "f", "", (layer,)), folded=False)).layers
    assert found.gamma is not None
    assert found.gamma.shape == (0,)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a": 1, "a": 1}',
        b'{"__metadata__": NaN}',
        b"\xff\xfe",
        b'{"__metadata__": {"bninspect": "\xff"}}',
        b'{"a": ' + b"1" * 5000 + b"}",
    ],
    ids=lambda header: repr(header[:10]),
)
def test_header_that_is_no_json(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(DamagedFile):
        _read(tmp_path, _join(header, b""))


def test_header_that_is_nested_too_deep(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFile, match="nested too deep"):
        _read(tmp_path, _join(b"[" * 100_000, b""))


def test_header_of_many_objects_is_not_parsed(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFile, match="too large"):
        _read(tmp_path, _join(b'{"a": [' + b"[]," * 2_000_000 + b"0]}", b""))


def test_description_of_another_kind(tmp_path: Path) -> None:
    for metadata in (7, {"bninspect": 7}, {"format": ["pt"]}):
        with pytest.raises(DamagedFile, match="not text"):
            _read(tmp_path, _join({"__metadata__": metadata}, b""))


def test_export_without_its_description(tmp_path: Path) -> None:
    tensors = safetensors.numpy.load(DATA)
    with pytest.raises(DamagedFile, match="which would hold epsilon"):
        _read(tmp_path, safetensors.numpy.save(tensors))


def test_sizes_are_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsafeFile, match="header of 100,000,001 bytes"):
        _read(tmp_path, struct.pack("<Q", 100_000_001) + DATA[8:])
    with pytest.raises(DamagedFile, match="cut off"):
        _read(tmp_path, struct.pack("<Q", 100_000_000) + DATA[8:])
    # The tensors that are read count, not the header, which has a limit of its own, and not what is passed over.
    size = sum(tensor.nbytes for tensor in safetensors.numpy.load(DATA).values())
    monkeypatch.setattr(whole_file, "LARGEST", size)
    _read(tmp_path, DATA)
    monkeypatch.setattr(whole_file, "LARGEST", size - 1)
    with pytest.raises(LimitExceeded):
        _read(tmp_path, DATA)
    with pytest.raises(UnreadableFile, match="No such file"):
        FORMAT.read(tmp_path / "missing")


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    for size in range(len(DATA)):
        with pytest.raises(BninspectError):
            _read(tmp_path, DATA[:size])
    with pytest.raises(DamagedFile):
        _read(tmp_path, DATA + b"\0")


def test_a_flipped_bit_never_changes_a_value(tmp_path: Path) -> None:
    for position in range(len(DATA)):
        for bit in (1, 1 << (position % 8)):
            changed = bytearray(DATA)
            changed[position] ^= bit
            try:
                found = _read(tmp_path, bytes(changed))
            except BninspectError:
                continue
            _assert_whole(found)


def _of_torch(path: Path, tensors: dict[str, Any]) -> Checkpoint:
    return _read(path, safetensors.numpy.save(tensors))


STATE = {f"bn.{name}": VALUES for name in ("weight", "bias", "running_mean", "running_var")}


def test_a_batch_norm_of_a_type_that_is_not_read_is_counted(tmp_path: Path) -> None:
    header, body = _split(safetensors.numpy.save({**STATE, "bn.running_var": np.zeros(3, np.uint8)}))
    header["bn.running_var"]["dtype"] = "F8_E4M3"
    found = _read(tmp_path, _join(header, body))
    assert found.layers == ()
    assert [(calls.where, calls.count) for calls in found.unread] == [("bn.", 1)]


def test_a_batch_norm_without_one_of_its_statistics_is_seen(tmp_path: Path) -> None:
    half = {name: array for name, array in STATE.items() if name != "bn.running_var"}
    found = _of_torch(tmp_path, half)
    assert (found.layers, [calls.where for calls in found.unread]) == ((), ["bn."])
    found = _of_torch(tmp_path, {**half, "bn.num_batches_tracked": np.array(7)})
    assert [(one.name, one.moving_variance) for one in found.layers] == [("bn", None)]
    assert found.unread == ()
