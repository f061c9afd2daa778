"""The checksum, against published values and against its definition bit by bit."""

from __future__ import annotations

import random

import pytest
from helpers import tensorflow_files as written
from hypothesis import given
from hypothesis import strategies as st

from bninspect.formats.encodings import crc32c


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xE3069283),
        (b"", 0),
        # RFC 3720, section B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, expected: int) -> None:
    assert crc32c.crc32c(data) == expected


@given(st.binary(max_size=300))
def test_short_data_is_as_defined(data: bytes) -> None:
    assert crc32c.crc32c(data) == written.crc32c(data)


@pytest.mark.parametrize("excess", [1, 2, 255, 256, 257, 1000, 65_535, 65_536, 100_001])
def test_long_data_in_lanes_is_as_defined(excess: int) -> None:
    data = random.Random(excess).randbytes(65_536 + excess)
    assert crc32c.crc32c(data) == written.crc32c(data)
    assert crc32c.crc32c(memoryview(data)) == written.crc32c(data)


@given(st.binary(min_size=1, max_size=40), st.integers(0, 319))
def test_one_bit_is_noticed(data: bytes, bit: int) -> None:
    bit %= 8 * len(data)
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    assert crc32c.masked(bytes(changed)) != crc32c.masked(data)


def test_masking_is_leveldbs() -> None:
    # util/crc32c_test.cc of LevelDB only says that masking changes the value; the constant is in the format.
    assert crc32c.masked(b"foo") == written.masked(b"foo") != written.crc32c(b"foo")
