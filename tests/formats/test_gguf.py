"""GGUF read without the gguf package, against what it wrote and reads, and files made to harm."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bninspect import formats
from bninspect.errors import BninspectError, DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats import gguf as own

FIELDS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
GENERATOR = np.random.default_rng(11)
PARAMETERS = {name: GENERATOR.uniform(0.5, 2, 6).astype(np.float32) for name in FIELDS.values()}


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _setting(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _file(
    *,
    version: int = 3,
    tensors: int | None = None,
    settings_: list[bytes] | None = None,
    count: int | None = None,
    lengths: tuple[int, ...] = (6,),
    kind: int = 0,
    offset: int = 0,
    cut: int = 0,
    rank: int | None = None,
    names: list[str] | None = None,
) -> bytes:
    """Return a GGUF file with the parameters of one batch norm, as the specification has it."""
    names = [f"a.bn.{name}" for name in PARAMETERS] if names is None else names
    stored = [_setting("general.architecture", 8, _text("clip"))] if settings_ is None else settings_
    counts = (len(names) if tensors is None else tensors, len(stored) if count is None else count)
    head = own.MAGIC + struct.pack("<IQQ", version, *counts) + b"".join(stored)
    for place, name in enumerate(names):
        shape = struct.pack(f"<I{len(lengths)}Q", len(lengths) if rank is None else rank, *lengths)
        head += _text(name) + shape + struct.pack("<IQ", kind, offset + 32 * place)
    head += bytes(-len(head) % 32)
    body = b"".join(array.tobytes().ljust(32, b"\0") for array in PARAMETERS.values())
    return head + body[: len(body) - cut]


def _written(folder: Path, data: bytes) -> Path:
    (folder / "m.gguf").write_bytes(data)
    return folder / "m.gguf"


def test_file_by_the_specification_is_read(tmp_path: Path) -> None:
    for version in (2, 3):
        checkpoint = formats.read(_written(tmp_path, _file(version=version)))
        (layer,) = checkpoint.layers
        assert (checkpoint.writer, layer.name, layer.epsilon, layer.axis) == ("GGUF, clip", "a.bn", None, (1,))
        for name, field in FIELDS.items():
            np.testing.assert_array_equal(layer.arrays[name], PARAMETERS[field])


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_tensors_are_bit_for_bit_those_of_the_gguf_package(tmp_path: Path, kind: str) -> None:
    package = pytest.importorskip("gguf", reason="gguf is not installed: pip install gguf")
    path = tmp_path / "m.gguf"
    writer = package.GGUFWriter(path, "clip")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", ""])
    writer.add_array("clip.vision.image_mean", [0.5, 0.25, 0.125])
    writer.add_custom_alignment(64)
    given: dict[str, Any] = {f"v.bn.{name}": array for name, array in PARAMETERS.items()}
    given["v.conv.weight"] = GENERATOR.normal(size=(6, 3, 2, 2)).astype(np.float32)
    for name, array in given.items():
        if kind == "bfloat16":
            bits = package.quants.quantize(array, package.GGMLQuantizationType.BF16)
            writer.add_tensor(name, bits, raw_dtype=package.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name, array.astype(kind))
    packed = package.quants.quantize(
        GENERATOR.normal(size=(4, 32)).astype(np.float32), package.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("packed", packed, raw_dtype=package.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    found = own.parsed(path)
    library = {one.name: one for one in package.GGUFReader(path).tensors}
    assert found.architecture == "clip"
    assert found.tensors.keys() == library.keys()
    for name, array in given.items():
        tensor = found.tensors[name]
        assert (tensor.shape, tensor.dtype) == (array.shape, kind)
        assert tensor.data.tobytes() == library[name].data.tobytes()
        expected = package.quants.dequantize(library[name].data, library[name].tensor_type).reshape(tensor.shape)
        np.testing.assert_array_equal(tensor.values.astype(np.float32), expected)
    checkpoint = formats.read(path)
    assert [(one.name, one.dtype) for one in checkpoint.layers] == [("v.bn", kind)]
    assert checkpoint.notes[0] == "1 of 6 tensors are packed in blocks and not read"


HOSTILE: dict[str, tuple[bytes, type[BninspectError]]] = {
    "nothing but its first letters": (own.MAGIC, DamagedFile),
    "numbers that are cut off": (_file(cut=40), DamagedFile),
    "another version": (_file(version=1), UnreadableFile),
    "big-endian": (_file(version=0x03000000), UnreadableFile),
    "a billion tensors": (_file(tensors=10**9), UnsafeFile),
    "more tensors than there are": (_file(tensors=900), DamagedFile),
    "a billion settings": (_file(count=10**18), UnsafeFile),
    "a shape of a billion": (_file(lengths=(10**9, 10**9)), DamagedFile),
    "more axes than a tensor has": (_file(rank=10**9), DamagedFile),
    "a place beyond the file": (_file(offset=2**63), DamagedFile),
    "a text that is longer than the file": (
        _file(settings_=[struct.pack("<Q", 2**60) + b"general"]),
        DamagedFile,
    ),
    "a list of a billion texts": (_file(settings_=[_setting("k", 9, struct.pack("<IQ", 8, 10**9))]), UnsafeFile),
    "a list of 2**61 numbers": (_file(settings_=[_setting("k", 9, struct.pack("<IQ", 12, 2**61))]), DamagedFile),
    "lists of lists of lists": (
        _file(settings_=[_setting("k", 9, struct.pack("<IQ", 9, 1) * 100)]),
        DamagedFile,
    ),
    "a setting of no type": (_file(settings_=[_setting("k", 77, b"")]), DamagedFile),
    "an alignment of zero": (_file(settings_=[_setting("general.alignment", 4, bytes(4))]), DamagedFile),
    "two tensors of one name": (_file(names=["a", "a"]), DamagedFile),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_file_is_refused(tmp_path: Path, kind: str) -> None:
    data, error = HOSTILE[kind]
    with pytest.raises(error):
        formats.read(_written(tmp_path, data))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), new=st.binary(max_size=9), length=st.integers(0, 9))
def test_changed_file_is_read_or_refused(tmp_path: Path, place: int, new: bytes, length: int) -> None:
    data = _file()
    start = place % len(data)
    try:
        formats.read(_written(tmp_path, data[:start] + new + data[start + length :]))
    except BninspectError:
        return


@pytest.mark.parametrize("kind", [8, 26])
def test_a_batch_norm_whose_numbers_are_packed_is_counted(tmp_path: Path, kind: int) -> None:
    lengths = (32,) if kind == 8 else (6,)
    data = _file(kind=kind, lengths=lengths)
    checkpoint = formats.read(_written(tmp_path, data + bytes(64)))
    assert checkpoint.layers == ()
    assert [(calls.where, calls.count) for calls in checkpoint.unread] == [("a.bn.", 1)]
