"""Flax's MessagePack, against arrays that were put in, packed as every packer does: in the shortest form."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect import formats
from bninspect.errors import BninspectError, DamagedFile, UnsafeFile
from bninspect.formats.encodings import msgpack

VALUES = np.array([0.5, 1, 3], np.float32)


def _pack(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        inner = _pack([list(value.shape), value.dtype.name, value.tobytes()])
        return b"\xc7" + struct.pack(">Bb", len(inner), 1) + inner
    if isinstance(value, dict):
        return bytes([0x80 | len(value)]) + b"".join(_pack(key) + _pack(one) for key, one in value.items())
    if isinstance(value, list):
        return bytes([0x90 | len(value)]) + b"".join(map(_pack, value))
    if isinstance(value, str):
        return bytes([0xA0 | len(value)]) + value.encode()
    if isinstance(value, bytes):
        return b"\xc4" + bytes([len(value)]) + value
    return bytes([value])


STATE = {
    "params": {"block": {"bn": {"scale": VALUES, "bias": VALUES + 1}}, "dense": {"kernel": np.ones((2, 2))}},
    "batch_stats": {"block": {"bn": {"mean": VALUES + 2, "var": VALUES + 3}}, "bare": {"mean": VALUES, "var": VALUES}},
}


@pytest.mark.parametrize("state", [STATE, {"step": 3, **STATE}, {"params": {}, "model": STATE}])
def test_batch_norms(tmp_path: Path, state: dict[str, Any]) -> None:
    (tmp_path / "m.msgpack").write_bytes(_pack(state))
    checkpoint = formats.read(tmp_path / "m.msgpack")
    bn, bare = checkpoint.layers
    prefix = "model/" if "model" in state else ""
    assert (checkpoint.format, bn.name, bn.axis, bn.epsilon) == ("flax", f"{prefix}block/bn", (-1,), None)
    for field, more in (("gamma", 0), ("beta", 1), ("moving_mean", 2), ("moving_variance", 3)):
        np.testing.assert_array_equal(bn.arrays[field], VALUES + more, strict=True)
    assert (bare.name, bare.gamma, bare.beta, bare.dtype) == (f"{prefix}bare", None, None, "float32")


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    upper = (VALUES.view(np.uint32) >> 16).astype(np.uint16)
    stored = b"\xc7" + struct.pack(">Bb", len(inner := _pack([[3], "bfloat16", upper.tobytes()])), 1) + inner
    data = _pack({"params": {}, "batch_stats": {"bn": {"mean": VALUES, "var": VALUES}}}).replace(_pack(VALUES), stored)
    (tmp_path / "m.msgpack").write_bytes(data)
    (layer,) = formats.read(tmp_path / "m.msgpack").layers
    assert layer.dtype == "bfloat16"
    np.testing.assert_array_equal(layer.arrays["moving_mean"], VALUES, strict=True)


@pytest.mark.parametrize("wrong", [[[4], "float32", b"\0" * 12], [[3], "object", b""], [[-1], "float32", b""], [3]])
def test_arrays_that_contradict_themselves(tmp_path: Path, wrong: list[Any]) -> None:
    inner = b"\x93\x91\xff\xa7float32\xc4\0" if wrong[0] == [-1] else _pack(wrong)
    data = _pack(STATE).replace(_pack(VALUES + 3), b"\xc7" + struct.pack(">Bb", len(inner), 1) + inner)
    (tmp_path / "m.msgpack").write_bytes(data)
    with pytest.raises(DamagedFile):
        formats.read(tmp_path / "m.msgpack")


def test_every_cut_is_an_error(tmp_path: Path) -> None:
    data = _pack(STATE)
    for length in range(len(data)):
        (tmp_path / "m.msgpack").write_bytes(data[:length])
        with pytest.raises(BninspectError):
            formats.read(tmp_path / "m.msgpack")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=40,
)


@given(PLAIN)
def test_what_the_msgpack_package_packs(value: Any) -> None:
    packer = pytest.importorskip("msgpack", reason="msgpack is not installed")
    assert msgpack.unpack(packer.packb(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    with contextlib.suppress(BninspectError):
        msgpack.unpack(data)


def test_depth_and_repeated_keys() -> None:
    with pytest.raises(UnsafeFile):
        msgpack.unpack(b"\x91" * 100 + b"\x01")
    with pytest.raises(DamagedFile, match="a key twice"):
        msgpack.unpack(b"\x82\xa1a\x01\xa1a\x02")
    with pytest.raises(DamagedFile, match="goes on"):
        msgpack.unpack(b"\x01\x01")
    with pytest.raises(DamagedFile, match="cut off"):
        msgpack.unpack(b"\xdd\xff\xff\xff\xff\x01")
