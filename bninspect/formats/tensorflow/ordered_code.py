"""The keys under which checkpoints keep the slices of partitioned variables.

`EncodeTensorNameSlice` of tensorflow/core/util/saved_tensor_slice_util.cc over tensorflow/core/lib/strings/
ordered_code.cc: numbers and strings written so that they sort as bytes.
"""

from __future__ import annotations


def slice_key(name: str, extents: tuple[tuple[int, int], ...]) -> bytes:
    """Return the key of a slice, given as start and length along each axis; the length -1 is the whole axis."""
    text = name.encode().replace(b"\x00", b"\x00\xff") + b"\x00\x01"
    numbers = [_signed(number) for extent in extents for number in extent]
    return b"".join([_unsigned(0), text, _unsigned(len(extents)), *numbers])


def _unsigned(number: int) -> bytes:
    """A byte for the length, then the number without leading zeros."""
    data = number.to_bytes((number.bit_length() + 7) // 8)
    return bytes([len(data)]) + data


def _signed(number: int) -> bytes:
    """Two's complement behind a header of as many ones (zeros, if negative) as there are bytes, in few bits."""
    magnitude = ~number if number < 0 else number
    if magnitude < 64:
        return bytes([(0x80 ^ number) & 0xFF])
    # n bytes hold 7n - 1 bits beside the header of n ones and a zero, and the sign.
    length = next(n for n in range(2, 11) if magnitude < 1 << (7 * n - 1))
    header = ((1 << length) - 1) << (8 * length - length)
    mask = (1 << (8 * length)) - 1
    return ((number & mask) ^ header).to_bytes(length)
