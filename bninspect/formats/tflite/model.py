"""Tensors and operators of the main graph as plain records.

Field numbers and codes: tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.formats.encodings.flatbuffer import FlatTable, root
from bninspect.formats.encodings.protobuf import Buffer
from bninspect.formats.tflite.schema import ACTIVATIONS, COMPOSITE, CUSTOM, FUSED, OPERATIONS, TYPES
from bninspect.records import Array
from bninspect.safe_text import printable


@dataclass(frozen=True, eq=False)
class TfliteTensor:
    """A tensor. Its numbers are read when somebody asks for them."""

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int | None, ...]
    """The shape with None where a length is open."""
    dtype: str
    data: Array
    """Its bytes, if it is a constant; else empty."""
    scales: Array
    zeros: Array
    axis: int
    """Axis along which scales and zeros run, if there are several."""

    @property
    def label(self) -> str:
        """A name that no other tensor has: the file's own need not be unique."""
        return f"{self.index}:{self.name}"

    @property
    def is_constant(self) -> bool:
        """Whether the file holds its numbers."""
        return self.data.size > 0

    @cached_property
    def stored(self) -> Array:
        """The numbers as they are stored. Raises DamagedFile if they do not fit the shape."""
        kind = np.dtype(self.dtype).newbyteorder("<") if self.dtype != "unknown" else None
        if kind is None or math.prod(self.shape) * kind.itemsize != self.data.size:
            raise DamagedFile(
                "this model is damaged",
                why=f"tensor {printable(self.name)} of shape {self.shape} and {self.dtype} has {self.data.size} bytes",
            )
        return self.data.view(kind).reshape(self.shape).astype(kind.newbyteorder("="))

    @cached_property
    def values(self) -> Array:
        """The numbers that the stored ones stand for: the same ones, or (stored - zero) * scale in float64.

        Raises DamagedFile as `stored`, or if there are several scales, but not one for each place along the axis.
        """
        if self.stored.dtype.kind == "f" or not self.scales.size:
            return self.stored
        if self.steps is None:
            why = f"tensor {printable(self.name)} of shape {self.shape} has {self.scales.size} scales"
            raise DamagedFile("this model is damaged", why=f"{why} along axis {self.axis}")
        scales, zeros = self.steps
        with np.errstate(all="ignore"):
            return (self.stored.astype(np.float64) - zeros) * scales.astype(np.float64)

    @property
    def steps(self) -> tuple[Array, Array] | None:
        """Scales and zeros, shaped for the numbers; None if there are several, but not one for each place."""
        shape = [1] * len(self.shape)
        if self.scales.size > 1:
            if not 0 <= self.axis < len(shape) or self.shape[self.axis] != self.scales.size:
                return None
            shape[self.axis] = -1
        zeros = self.zeros if self.zeros.size == self.scales.size else np.zeros(self.scales.size)
        return self.scales.reshape(shape), zeros.reshape(shape)


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator of the graph."""

    index: int
    operation: str
    inputs: tuple[TfliteTensor | None, ...]
    outputs: tuple[TfliteTensor, ...]
    activation: str
    options: FlatTable | None = None
    """What the schema says of this kind of operator: padding, strides ..."""
    graphs: tuple[int, ...] = ()
    """Places of the graphs that a condition, a loop or a composite runs."""

    def takes(self, place: int) -> TfliteTensor | None:
        """Return an input; None if it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None


@dataclass(frozen=True, eq=False)
class Subgraph:
    """A graph of a model."""

    description: str
    inputs: tuple[TfliteTensor, ...]
    outputs: tuple[TfliteTensor, ...]
    operators: tuple[Operator, ...]
    others: tuple[Subgraph, ...]
    """Of the main graph all further ones, which bodies of loops and conditions are."""
    custom: tuple[str, ...]
    """Operators that are not TFLite's own."""


def parse(data: Buffer) -> Subgraph:
    """Return the main graph of a model.

    Raises:
        DamagedFile: an offset, a size or an index leads out of the file.
    """
    model = root(data)
    graphs = model.tables(2)
    if not graphs:
        raise DamagedFile("this model is damaged", why="it holds no graph")
    main, *others = (_subgraph(graph, model, data) for graph in graphs)
    return replace(main, others=tuple(others))


def _subgraph(table: FlatTable, model: FlatTable, data: Buffer) -> Subgraph:
    buffers, codes = model.tables(4), model.tables(1)
    tensors = [_tensor(index, one, buffers, data) for index, one in enumerate(table.tables(0))]
    operators = [_operator(index, one, codes, tensors) for index, one in enumerate(table.tables(3))]
    return Subgraph(
        description=model.text(3),
        inputs=tuple(_at(tensors, index) for index in table.numbers(1, "i4")),
        outputs=tuple(_at(tensors, index) for index in table.numbers(2, "i4")),
        operators=tuple(_taking_constants(operators)),
        others=(),
        custom=tuple(dict.fromkeys(code.text(1) for code in codes if _code(code) == CUSTOM)),
    )


def _taking_constants(operators: list[Operator]) -> Iterator[Operator]:
    """Yield the operators, those that take a dequantised constant with the constant itself.

    Models whose weights are float16 hold a DEQUANTIZE behind each of them.
    """
    constants: dict[int, TfliteTensor] = {}
    for operator in operators:
        taken = operator.takes(0)
        if taken is not None and taken.index in constants:
            taken = constants[taken.index]
        if operator.operation == "quantize" and taken is not None and taken.is_constant and operator.outputs:
            rounded = _quantised(taken, operator.outputs[0])
            if rounded is not None:
                constants[operator.outputs[0].index] = rounded
        if operator.operation == "dequantize" and taken is not None and taken.is_constant and operator.outputs:
            constants[operator.outputs[0].index] = taken
    for operator in operators:
        yield replace(operator, inputs=tuple(each and constants.get(each.index, each) for each in operator.inputs))


def _quantised(taken: TfliteTensor, given: TfliteTensor) -> TfliteTensor | None:
    """Return a constant of floats as the integers that a QUANTIZE makes of it; None for any other tensor."""
    if taken.stored.dtype.kind != "f" or given.dtype not in {"int8", "uint8", "int16"} or not given.scales.size:
        return None
    if given.steps is None:
        return None
    scales, zeros = given.steps
    kind = np.iinfo(given.dtype)
    with np.errstate(all="ignore"):
        stored = np.clip(np.round(taken.stored / scales) + zeros, kind.min, kind.max)
    if not np.isfinite(stored).all() or stored.shape != given.shape:
        return None
    return replace(
        given, data=np.frombuffer(stored.astype(np.dtype(given.dtype).newbyteorder("<")).tobytes(), np.uint8)
    )


def _at(tensors: list[TfliteTensor], index: int) -> TfliteTensor:
    if not 0 <= index < len(tensors):
        raise DamagedFile("this model is damaged", why=f"there is no tensor {index}")
    return tensors[index]


def _code(code: FlatTable) -> int:
    # Codes beyond 127 are in a later field; the old one, a byte, then holds a placeholder.
    return max(int(code.number(0, "b")), int(code.number(3, "i")))


def _tensor(index: int, table: FlatTable, buffers: list[FlatTable], data: Buffer) -> TfliteTensor:
    shape = tuple(int(number) for number in table.numbers(0, "i4"))
    signature = tuple(int(number) for number in table.numbers(7, "i4")) or shape
    quantisation = table.table(4)
    place = int(table.number(2, "I"))
    if place >= len(buffers) or min(shape, default=0) < 0:
        raise DamagedFile("this model is damaged", why=f"tensor {index} has buffer {place} and shape {shape}")
    return TfliteTensor(
        index=index,
        name=table.text(3),
        shape=shape,
        signature=tuple(None if length < 0 else length for length in signature),
        dtype=TYPES.get(int(table.number(1, "b")), "unknown"),
        data=_bytes(buffers[place], data),
        scales=quantisation.numbers(2, "f4") if quantisation else np.empty(0, "f4"),
        zeros=quantisation.numbers(3, "i8") if quantisation else np.empty(0, "i8"),
        axis=int(quantisation.number(6, "i")) if quantisation else 0,
    )


def _bytes(buffer: FlatTable, data: Buffer) -> Array:
    """Return the bytes of a buffer, which lie in it or, in files of over 2 GB, behind the flatbuffer."""
    offset, size = int(buffer.number(1, "Q")), int(buffer.number(2, "Q"))
    if offset <= 1:
        return buffer.numbers(0, "u1")
    if offset + size > len(data):
        raise DamagedFile("this model is damaged", why=f"a buffer at {offset} leads out of the file")
    return np.frombuffer(data, np.uint8, size, offset)


def _operator(index: int, table: FlatTable, codes: list[FlatTable], tensors: list[TfliteTensor]) -> Operator:
    place = int(table.number(0, "I"))
    if place >= len(codes):
        raise DamagedFile("this model is damaged", why=f"operator {index} has no code {place}")
    code = _code(codes[place])
    operation = OPERATIONS.get(code, f"operator {code}")
    if code == CUSTOM:
        operation = f"custom operator {codes[place].text(1)}"
    if code == COMPOSITE and (composite := table.table(12)) is not None:
        operation = f"composite {composite.text(0)}"
    options = table.table(4)
    graphs: tuple[int, ...] = ()
    if operation in {"if", "while"} and options is not None:
        graphs = tuple(int(options.number(each, "i")) for each in (0, 1))
    elif code == COMPOSITE and (composite := table.table(12)) is not None:
        graphs = (int(composite.number(1, "i")),)
    field = FUSED.get(operation)
    activation = int(options.number(field, "b")) if options is not None and field is not None else 0
    inputs = tuple(None if number < 0 else _at(tensors, int(number)) for number in table.numbers(1, "i4"))
    outputs = tuple(_at(tensors, int(number)) for number in table.numbers(2, "i4") if number >= 0)
    return Operator(
        index, operation, inputs, outputs, ACTIVATIONS.get(activation, f"activation {activation}"), options, graphs
    )
