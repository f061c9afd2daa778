"""TFLite: one MUL and one ADD per layer, which is all that TFLite has of a batch norm, ready to run.

Field numbers: tensorflow/compiler/mlir/lite/schema/schema.fbs; the layout of a flatbuffer: https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from bninspect.exporters.entries import entries
from bninspect.records import Array, Checkpoint
from bninspect.version import __version__

_MUL, _ADD = 18, 0
_OPTIONS = {_MUL: 21, _ADD: 11}
"""BuiltinOptions of the two operators; their tables are empty, which means no activation."""


@dataclass(frozen=True)
class _Scalar:
    form: str
    value: int


@dataclass(frozen=True)
class _Vector:
    """Numbers, aligned so that their first byte is at a multiple of `align`."""

    form: str
    values: Sequence[int] | bytes
    align: int = 4


@dataclass(frozen=True)
class _Tables:
    tables: Sequence[_Table]


@dataclass(frozen=True)
class _Table:
    fields: dict[int, _Field]


_Field: TypeAlias = "_Scalar | _Vector | _Tables | _Table"


def encode(checkpoint: Checkpoint, *, folded: bool) -> bytes:  # noqa: ARG001 - TFLite holds scale and shift only
    """Return a TFLite model with `<layer>/x` -> MUL scale -> ADD shift -> `<layer>/y` for each layer.

    Channels are last. Scale and shift are those of `--folded`, rounded once to float32. Raises as `entries.fold`.
    """
    listed = entries(checkpoint, folded=True)
    buffers = [_Table({})]  # the first one is empty by convention
    tensors: list[_Table] = []
    operators, inputs, outputs = [], [], []
    for entry in listed:
        scale, shift = (entry.arrays[name].reshape(-1).astype(np.float32) for name in ("scale", "shift"))
        first = len(tensors)
        tensors += [_variable(f"{entry.key}/x", scale.size), _constant(f"{entry.key}/scale", scale, len(buffers))]
        tensors += [
            _variable(f"{entry.key}/scaled", scale.size),
            _constant(f"{entry.key}/shift", shift, len(buffers) + 1),
        ]
        tensors.append(_variable(f"{entry.key}/y", scale.size))
        buffers += [_buffer(scale), _buffer(shift)]
        operators += [
            _operator(0, _MUL, (first, first + 1), first + 2),
            _operator(1, _ADD, (first + 2, first + 3), first + 4),
        ]
        inputs.append(first)
        outputs.append(first + 4)
    graph = _Table(
        {
            0: _Tables(tensors),
            1: _Vector("i", inputs),
            2: _Vector("i", outputs),
            3: _Tables(operators),
            4: _text("main"),
        }
    )
    codes = [_Table({0: _Scalar("b", code), 2: _Scalar("i", 1), 3: _Scalar("i", code)}) for code in (_MUL, _ADD)]
    model = _Table(
        {
            0: _Scalar("I", 3),
            1: _Tables(codes),
            2: _Tables([graph]),
            3: _text(f"bninspect {__version__}"),
            4: _Tables(buffers),
        }
    )
    writer = _Writer()
    writer.patch(0, writer.table(model))
    return bytes(writer.data)


def _text(text: str) -> _Vector:
    return _Vector("s", text.encode("utf-8", "surrogateescape"))


def _variable(name: str, channels: int) -> _Table:
    signature = _Vector("i", (-1, -1, -1, channels))
    return _Table({0: _Vector("i", (1, 1, 1, channels)), 2: _Scalar("I", 0), 3: _text(name), 7: signature})


def _constant(name: str, values: Array, buffer: int) -> _Table:
    return _Table({0: _Vector("i", (values.size,)), 2: _Scalar("I", buffer), 3: _text(name)})


def _buffer(values: Array) -> _Table:
    return _Table({0: _Vector("B", values.astype("<f4").tobytes(), align=16)})


def _operator(index: int, code: int, inputs: tuple[int, int], output: int) -> _Table:
    return _Table(
        {
            0: _Scalar("I", index),
            1: _Vector("i", inputs),
            2: _Vector("i", (output,)),
            3: _Scalar("B", _OPTIONS[code]),
            4: _Table({}),
        }
    )


class _Writer:
    """Writes tables front to back: what a table refers to comes behind it."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0\0\0\0TFL3")

    def patch(self, place: int, target: int) -> None:
        """Write at `place` the distance to `target`."""
        struct.pack_into("<I", self.data, place, target - place)

    def table(self, table: _Table) -> int:
        """Write a table and all that it refers to; return where it is."""
        sizes = {number: _size(field) for number, field in table.fields.items()}
        places, end = {}, 4
        for number in sorted(sizes, key=lambda one: -sizes[one]):
            end = -(-end // sizes[number]) * sizes[number]
            places[number] = end
            end += sizes[number]
        count = max(sizes, default=-1) + 1
        self._align(4, before=4 + 2 * count)
        vtable = len(self.data)
        offsets = (places.get(number, 0) for number in range(count))
        self.data += struct.pack(f"<HH{count}H", 4 + 2 * count, end, *offsets)
        start = len(self.data)
        self.data += struct.pack("<i", start - vtable) + bytes(end - 4)
        later = []
        for number, field in table.fields.items():
            place = start + places[number]
            if isinstance(field, _Scalar):
                struct.pack_into("<" + field.form, self.data, place, field.value)
            else:
                later.append((place, field))
        for place, field in later:
            self.patch(place, self._write(field))
        return start

    def _write(self, field: _Vector | _Tables | _Table) -> int:
        if isinstance(field, _Table):
            return self.table(field)
        if isinstance(field, _Tables):
            self._align(4)
            start = len(self.data)
            self.data += struct.pack("<I", len(field.tables)) + bytes(4 * len(field.tables))
            for place, one in enumerate(field.tables):
                self.patch(start + 4 + 4 * place, self.table(one))
            return start
        self._align(field.align, before=4)
        start = len(self.data)
        self.data += struct.pack("<I", len(field.values))
        if isinstance(field.values, bytes):
            self.data += field.values + b"\0" * (field.form == "s")
        else:
            self.data += struct.pack(f"<{len(field.values)}{field.form}", *field.values)
        return start

    def _align(self, to: int, before: int = 0) -> None:
        """Pad so that what comes `before` bytes further on is at a multiple of `to`."""
        self.data += bytes(-(len(self.data) + before) % to)


def _size(field: _Field) -> int:
    return struct.calcsize("<" + field.form) if isinstance(field, _Scalar) else 4
