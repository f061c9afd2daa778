"""LevelDB tables: every key is found, every damaged byte is."""

from __future__ import annotations

import io

import pytest
from helpers.tensorflow_files import table
from hypothesis import given
from hypothesis import strategies as st

from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.encodings import leveldb_table as tables
from bninspect.formats.encodings.leveldb_table import SortedTable

ITEMS = [(f"layer/{number:03d}".encode(), bytes([number]) * number) for number in range(23)]


def opened(data: bytes) -> SortedTable:
    return SortedTable(io.BytesIO(data), "x.index")


@given(st.dictionaries(st.binary(max_size=12), st.binary(max_size=30), min_size=1), st.integers(1, 5))
def test_what_is_written_comes_back(values: dict[bytes, bytes], per_block: int) -> None:
    read = opened(table(sorted(values.items()), per_block=per_block))
    assert {key: bytes(value) for key, value in read.items()} == values
    for key, value in values.items():
        found = read.get(key)
        assert found is not None
        assert bytes(found) == value
    assert read.get(b"\xff" * 20) is None


def test_every_flipped_byte_is_noticed_or_changes_nothing() -> None:
    data = table(ITEMS)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x40
        try:
            found = [(key, bytes(value)) for key, value in opened(bytes(changed)).items()]
        except UnreadableFile:
            continue
        # Only the padding of the footer, and the block of filters that there is not, are nobody's business.
        assert found == ITEMS


def test_a_table_cut_off_anywhere_is_noticed() -> None:
    data = table(ITEMS)
    for length in range(len(data)):
        with pytest.raises(DamagedFile, match="is damaged"):
            opened(data[:length])


def test_keys_out_of_order_are_refused() -> None:
    with pytest.raises(DamagedFile, match="not in order"):
        list(opened(table([(b"b", b""), (b"a", b"")])).items())


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(DamagedFile, match="not in order"):
        list(opened(table([(b"a", b"1"), (b"a", b"2")], per_block=1)).items())


def test_a_compressed_block_is_refused() -> None:
    with pytest.raises(UnsafeFile, match="compressed"):
        list(opened(table(ITEMS, compression=1)).items())


def test_a_huge_block_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_BYTES", 100)
    with pytest.raises(UnsafeFile, match="at most 100 are read"):
        list(opened(table([(b"a", bytes(200))])).items())


def test_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_ENTRIES", 5)
    with pytest.raises(UnsafeFile, match="over 5 entries"):
        list(opened(table(ITEMS)).items())
