"""Checkpoints of version 2: what is in them comes back; what contradicts itself is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.tensorflow_files import Value, entry, header, message, shape, table, varint, write_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bninspect.errors import BninspectError, DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.tensorflow.checkpoint_v2 import Bundle
from bninspect.records import Array

BN: dict[str, Array] = {
    "bn/beta": np.array([1, 2, 3], np.float32),
    "bn/gamma": np.array([0.5, -1, 2], np.float16),
    "bn/moving_mean": np.array([1e300, -0.0, 5]),
    "step": np.array(7, np.int64),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
        st.sampled_from(["float16", "float32", "float64", "int32", "int64", "bool"]).flatmap(
            lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        ),
        max_size=6,
    )
)
def test_what_is_written_comes_back(tmp_path: Path, values: dict[str, Array]) -> None:
    with Bundle(write_bundle(tmp_path / "ck", {name: np.asarray(value) for name, value in values.items()})) as bundle:
        assert set(bundle.entries) == set(values)
        for name, value in values.items():
            found = bundle.read(name)
            assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())
            assert not found.flags.writeable


def test_a_flipped_data_byte_is_noticed_where_it_is(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "ck", BN)
    shard = tmp_path / "ck.data-00000-of-00001"
    data = bytearray(shard.read_bytes())
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        shard.write_bytes(changed)
        with Bundle(prefix) as bundle:
            damaged = [name for name in BN if not _reads(bundle, name)]
        assert len(damaged) == 1


def _reads(bundle: Bundle, name: str) -> bool:
    try:
        found = bundle.read(name)
    except DamagedFile as error:
        return "CRC" not in error.why
    assert found.tobytes() == BN[name].tobytes()
    return True


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "ck", BN)
    (tmp_path / "ck.data-00000-of-00001").unlink()
    with pytest.raises(UnreadableFile, match=r"ck\.data-00000-of-00001 cannot be opened"):
        Bundle(prefix)


def test_a_shard_that_is_cut_off_is_noticed_before_it_is_read(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "ck", BN)
    shard = tmp_path / "ck.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match="goes beyond its data file"):
        Bundle(prefix)


@pytest.mark.parametrize("length", range(0, 250, 7))
def test_an_index_that_is_cut_off_is_noticed(tmp_path: Path, length: int) -> None:
    prefix = write_bundle(tmp_path / "ck", BN)
    index = tmp_path / "ck.index"
    whole = index.read_bytes()
    assert length < len(whole)
    index.write_bytes(whole[:length])
    with pytest.raises(DamagedFile, match="cut off"):
        Bundle(prefix)


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"offset": -1}, DamagedFile, "byte -1"),
        ({"size": -12}, DamagedFile, "size -12"),
        ({"offset": 2**63 - 1}, DamagedFile, "beyond its data file"),
        ({"size": 2**62}, DamagedFile, "beyond its data file"),
        ({"shape": shape(-3)}, DamagedFile, "no valid shape"),
        ({"shape": shape(2**40, 2**40)}, DamagedFile, "in 12 bytes"),
        ({"shape": shape(4)}, DamagedFile, "in 12 bytes"),
        ({"shape": shape(*[1] * 300)}, DamagedFile, "no valid shape"),
        ({"shape": message((3, 1))}, DamagedFile, "no valid shape"),
        ({"shard": 1}, DamagedFile, "file 1"),
        ({"shard": -1}, DamagedFile, "file -1"),
        ({"dtype": 2}, DamagedFile, "in 12 bytes"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(
    tmp_path: Path, changed: dict[str, Value], kind: type[BninspectError], words: str
) -> None:
    prefix = write_bundle(tmp_path / "ck", BN, {"bn/beta": changed})
    with pytest.raises(kind, match=words):
        Bundle(prefix)


def test_only_numbers_are_read_as_numbers(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "ck", BN, {"bn/beta": {"dtype": 21}})
    with Bundle(prefix) as bundle, pytest.raises(DamagedFile, match="holds no numbers"):
        bundle.read("bn/beta")


def test_a_tensor_that_is_not_there_is_named(tmp_path: Path) -> None:
    with Bundle(write_bundle(tmp_path / "ck", BN)) as bundle, pytest.raises(DamagedFile, match="'bn/delta'"):
        bundle.read("bn/delta")


@pytest.mark.parametrize(("shards", "endianness"), [(0, 0), (-1, 0), (5000, 0), (1, 1)])
def test_headers_that_no_reader_should_follow(tmp_path: Path, shards: int, endianness: int) -> None:
    (tmp_path / "ck.index").write_bytes(table([(b"", header(shards, endianness))]))
    (tmp_path / "ck.data-00000-of-00001").write_bytes(b"")
    with pytest.raises((UnsafeFile, UnreadableFile), match=r"data files|big-endian"):
        Bundle(tmp_path / "ck")


def test_an_index_without_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ck.index").write_bytes(table([(b"x", entry(BN["bn/beta"], 0))]))
    with pytest.raises(DamagedFile, match="has no header"):
        Bundle(tmp_path / "ck")


def test_strings_with_lengths_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    data = np.frombuffer(varint(200) + bytes(4) + b"abc", np.uint8)
    changed: dict[str, Value] = {"dtype": 7, "shape": shape()}
    bare = np.zeros(len(data), np.int8)
    prefix = tmp_path / "ck"
    record = entry(bare.view(np.bool_), 0, **changed)
    (tmp_path / "ck.index").write_bytes(table([(b"", header()), (b"s", record)]))
    (tmp_path / "ck.data-00000-of-00001").write_bytes(data.tobytes())
    with Bundle(prefix) as bundle, pytest.raises(DamagedFile, match="lengths of its strings"):
        bundle.strings("s")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([(0, 2), (2, 4)], ""),
        ([(0, 2), (3, 3)], "leave a gap, or overlap"),
        ([(0, 4), (2, 4)], "leave a gap, or overlap"),
        ([(0, 2)], "leave a gap, or overlap"),
        ([(0, 2), (4, 4)], "a slice of 'v' is none|beyond the tensor"),
        ([(0, -1)], ""),
    ],
)
def test_slices_are_every_element_once(tmp_path: Path, parts: list[tuple[int, int]], words: str) -> None:
    whole = np.arange(6, dtype=np.float32)
    extents = [message((1, message((1, start), *([(2, length)] if length >= 0 else [])))) for start, length in parts]
    full = message((1, 1), (2, shape(6)), *((7, extent) for extent in extents))
    items, data = [(b"", header()), (b"v", full)], b""
    for start, length in sorted(parts):
        # OrderedCode: 0, the name, one dimension; numbers under 64 are a byte with the sign's bit turned.
        key = b"\0v\0\x01\x01\x01" + bytes([(0x80 ^ start) & 0xFF, (0x80 ^ length) & 0xFF])
        values = np.resize(whole, length) if start + length > 6 else whole[start : start + length if length >= 0 else 6]
        items.append((key, entry(values, len(data))))
        data += values.tobytes()
    (tmp_path / "ck.index").write_bytes(table(sorted(items)))
    (tmp_path / "ck.data-00000-of-00001").write_bytes(data)
    with Bundle(tmp_path / "ck") as bundle:
        if words:
            with pytest.raises(DamagedFile, match=words):
                bundle.read("v")
        else:
            assert bundle.read("v").tolist() == whole.tolist()
