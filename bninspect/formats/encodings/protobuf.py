"""The wire format of protocol buffers, as https://protobuf.dev/programming-guides/encoding/ describes it.

Why not the `protobuf` package: it would be one more dependency with a native part that parses what strangers wrote,
it needs generated classes that we would have to ship, and it parses a message whole, while we want ten of a thousand
functions and no weight. Nothing here recurses: a message is split into its fields when somebody asks for one of
them, and each reader of a known message goes only as deep as that message's definition.

Where a file is unusual, what counts is how TensorFlow's own parser understands it, so that both see the same model:
of a repeated scalar field the last counts, repeated sub-messages of a singular field are merged, which is the same as
parsing them joined, and a field of another wire type than expected is unknown and passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from bninspect.errors import DamagedFile, UnsafeFile

Buffer: TypeAlias = bytes | memoryview

MOST_FIELDS = 2_000_000
"""In one message, and so also of functions in a library or nodes in a graph."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class Message:
    """A message, split into its fields at first use. Field numbers are those of the .proto file."""

    __slots__ = ("_data", "_fields")

    def __init__(self, data: Buffer = b"") -> None:
        self._data = data
        self._fields: dict[int, list[int | memoryview]] | None = None

    def _values(self, number: int, wire_type: int) -> list[int | memoryview]:
        if self._fields is None:
            self._fields = _split(self._data)
        return self._fields.get(number << 3 | wire_type, [])

    def has(self, number: int) -> bool:
        """Return whether the field is there, of whatever type."""
        return any(self._values(number, wire) for wire in (_VARINT, _LENGTH, _FIXED32, _FIXED64))

    def integer(self, number: int, default: int = 0) -> int:
        """Return an int32, int64, bool or enum."""
        values = self._values(number, _VARINT)
        return _signed(int(values[-1])) if values else default

    def integers(self, number: int) -> list[int]:
        """Return a repeated integer, packed or not."""
        single = [_signed(int(value)) for value in self._values(number, _VARINT)]
        packed = [value for part in self._parts(number) for value in varints(part)]
        return [*single, *packed]

    def real(self, number: int, default: float = 0.0) -> float:
        """Return a float."""
        values = self._values(number, _FIXED32)
        return float(struct.unpack("<f", _view(values[-1]))[0]) if values else default

    def data(self, number: int) -> memoryview:
        """Return bytes or an encoded sub-message; empty if the field is missing."""
        parts = self._parts(number)
        return parts[-1] if parts else memoryview(b"")

    def chunks(self, number: int) -> list[memoryview]:
        """Return repeated bytes, or encoded sub-messages."""
        return self._parts(number)

    def fixed32(self, number: int) -> bytes:
        """Return a repeated float, packed or not, as its little-endian bytes."""
        single = b"".join(_view(value) for value in self._values(number, _FIXED32))
        return single + b"".join(self._parts(number))

    def fixed64(self, number: int) -> bytes:
        """Return a repeated double, packed or not, as its little-endian bytes."""
        single = b"".join(_view(value) for value in self._values(number, _FIXED64))
        return single + b"".join(self._parts(number))

    def unsigned32(self, number: int) -> int:
        """Return a fixed32; 0 if there is none."""
        values = self._values(number, _FIXED32)
        return int.from_bytes(_view(values[-1]), "little") if values else 0

    def text(self, number: int) -> str:
        """Return a string."""
        return decoded(self.data(number))

    @property
    def encoded(self) -> bytes:
        """The message as it is written."""
        return bytes(self._data)

    def without(self, *numbers: int) -> bytes:
        """Return the message as it is written, some fields left out; the order is kept among fields of one number."""
        self._values(0, _VARINT)
        assert self._fields is not None  # noqa: S101 - asking for a field has split them
        kept = ((tag, value) for tag, values in self._fields.items() if tag >> 3 not in numbers for value in values)
        return b"".join(_written(tag, one) for tag, one in kept)

    def texts(self, number: int) -> list[str]:
        """Return a repeated string."""
        return [decoded(part) for part in self._parts(number)]

    def message(self, number: int) -> Message:
        """Return a sub-message; an empty one if the field is missing."""
        parts = self._parts(number)
        return Message(parts[0] if len(parts) == 1 else b"".join(parts))

    def messages(self, number: int) -> list[Message]:
        """Return a repeated sub-message."""
        return [Message(part) for part in self._parts(number)]

    def entries(self, number: int) -> dict[str, memoryview]:
        """Return a map from strings to encoded values. Of entries of one key the last counts."""
        return {entry.text(1): entry.data(2) for entry in self.messages(number)}

    def _parts(self, number: int) -> list[memoryview]:
        return [_view(value) for value in self._values(number, _LENGTH)]


def varints(data: Buffer) -> Iterator[int]:
    """Yield the signed numbers of a packed field."""
    position = 0
    while position < len(data):
        value, position = varint(data, position)
        yield _signed(value)


def varint(data: Buffer, position: int) -> tuple[int, int]:
    """Return the unsigned number at `position` and the position after it.

    Raises:
        DamagedFile: it is longer than 64 bits, or the data ends before it.
    """
    value = shift = 0
    while shift < 70:
        if position >= len(data):
            raise _damaged("a number is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise _damaged("a number has more than 64 bits")


def field(number: int, data: bytes) -> bytes:
    """Return a field of bytes, text or an encoded sub-message, as it is written."""
    return encoded_varint(number << 3 | _LENGTH) + encoded_varint(len(data)) + data


def _written(tag: int, value: int | memoryview) -> bytes:
    if isinstance(value, int):
        return encoded_varint(tag) + encoded_varint(value)
    length = encoded_varint(len(value)) if tag & 7 == _LENGTH else b""
    return b"".join((encoded_varint(tag), length, value))


def encoded_varint(value: int) -> bytes:
    """Return a number that is not negative as it is written."""
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def decoded(data: Buffer) -> str:
    """Return text. TensorFlow's parser refuses a string that is not UTF-8, and so do we."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise _damaged("a name is not UTF-8") from error


def _split(data: Buffer) -> dict[int, list[int | memoryview]]:
    view = memoryview(data)
    fields: dict[int, list[int | memoryview]] = {}
    position, end, count = 0, len(view), 0
    while position < end:
        tag = view[position]
        position += 1
        if tag >= 0x80:
            tag, position = varint(view, position - 1)
        wire = tag & 7
        value: int | memoryview
        if wire == _LENGTH:
            # Most lengths take one byte: no call for those.
            length = view[position] if position < end else 0x80
            position += 1
            if length >= 0x80:
                length, position = varint(view, position - 1)
            value = view[position : position + length]
            position += length
        elif wire == _VARINT:
            value, position = varint(view, position)
        elif wire in (_FIXED32, _FIXED64):
            width = 4 if wire == _FIXED32 else 8
            value = view[position : position + width]
            position += width
        else:
            raise _damaged(f"wire type {wire}, which TensorFlow never writes")
        if position > end or tag < 8:
            raise _damaged("a field goes beyond its message" if position > end else "field number 0")
        fields.setdefault(tag, []).append(value)
        count += 1
        if count > MOST_FIELDS:
            raise UnsafeFile("this graph is too large", why=f"a message has over {MOST_FIELDS:,} fields")
    return fields


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _view(value: int | memoryview) -> memoryview:
    assert isinstance(value, memoryview)  # noqa: S101 - narrows the type: only varints are numbers
    return value


def _damaged(why: str) -> DamagedFile:
    return DamagedFile("this is not a well-formed protocol buffer", why=why, hint="copy or download the file again")
