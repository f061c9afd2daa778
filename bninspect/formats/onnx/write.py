"""Writing ONNX: protocol-buffer fields put one after the other. Field numbers: onnx/onnx.proto."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Mapping

import numpy as np

from bninspect.formats.encodings.protobuf import Message, encoded_varint, field
from bninspect.formats.onnx.model import TYPES
from bninspect.records import Array

IR_VERSION = 8
OPSET = 15
"""BatchNormalization has not changed since; every runtime of the last years has it."""
NUMBERS: Mapping[str, int] = {name: number for number, name in TYPES.items()}


def integer(number: int, value: int) -> bytes:
    """Return an integer field, `value` not negative."""
    return encoded_varint(number << 3) + encoded_varint(value)


def data(number: int, value: bytes | str) -> bytes:
    """Return a field of bytes, text or an encoded message."""
    content = value.encode() if isinstance(value, str) else value
    return field(number, content)


def real(number: int, value: float) -> bytes:
    """Return a float field."""
    return encoded_varint(number << 3 | 5) + struct.pack("<f", value)


def tensor(name: str, array: Array) -> bytes:
    """Return a TensorProto."""
    little = np.asarray(array.astype(array.dtype.newbyteorder("<"), copy=False), order="C")
    shape = b"".join(integer(1, length) for length in array.shape)
    return shape + integer(2, NUMBERS[array.dtype.name]) + data(8, name) + data(9, little.tobytes())


def value(name: str, dtype: str, shape: Iterable[int | str] | None) -> bytes:
    """Return a ValueInfoProto; a length that is a text is open, and called so; without a shape any rank will do."""
    lengths = b"".join(data(1, integer(1, size) if isinstance(size, int) else data(2, size)) for size in shape or ())
    return data(1, name) + data(2, data(1, integer(1, NUMBERS[dtype]) + (b"" if shape is None else data(2, lengths))))


def batch_norm(x: str, parameters: Iterable[str], y: str, name: str, epsilon: float, momentum: float | None) -> bytes:
    """Return a BatchNormalization node for inference; `parameters` are scale, bias, mean and variance by name."""
    taken = b"".join(data(1, one) for one in (x, *parameters))
    attributes = {"epsilon": epsilon} | ({} if momentum is None else {"momentum": momentum})
    # FLOAT is attribute type 1.
    encoded = b"".join(data(5, data(1, key) + real(2, number) + integer(20, 1)) for key, number in attributes.items())
    return taken + data(2, y) + data(3, name) + data(4, "BatchNormalization") + encoded


def graph(nodes: Iterable[bytes], tensors: Iterable[bytes], inputs: Iterable[bytes], outputs: Iterable[bytes]) -> bytes:
    """Return a GraphProto."""
    parts = ((1, nodes), (5, tensors), (11, inputs), (12, outputs))
    return data(2, "bninspect") + b"".join(data(number, one) for number, encoded in parts for one in encoded)


def model(content: bytes, version: str, notes: Mapping[str, str] | None = None) -> bytes:
    """Return a ModelProto around a GraphProto, written by bninspect `version`, with `notes` as its metadata."""
    metadata = b"".join(data(14, data(1, key) + data(2, text)) for key, text in (notes or {}).items())
    producer = data(2, "bninspect") + data(3, version)
    return integer(1, IR_VERSION) + producer + data(7, content) + data(8, data(1, "") + integer(2, OPSET)) + metadata


def with_only(stored: bytes, names: Iterable[str], casts: Mapping[str, str]) -> bytes:
    """Return the model `stored` with none but these outputs: values, and others in float32 by the name for each."""
    # INT is attribute type 2.
    to = data(5, data(1, "to") + integer(3, NUMBERS["float32"]) + integer(20, 2))
    nodes = (data(1, data(1, one) + data(2, name) + data(4, "Cast") + to) for name, one in casts.items())
    outputs = (
        *(data(12, data(1, name)) for name in names),
        *(data(12, value(name, "float32", None)) for name in casts),
    )
    model = Message(stored)
    return model.without(7) + data(7, b"".join((model.message(7).without(12), *nodes, *outputs)))


def with_outputs(stored: bytes, names: Iterable[str]) -> bytes:
    """Return the model `stored` with the values `names` as further outputs.

    A parser joins the two graphs of such a file to one: that is what a repeated message means in a protocol buffer.
    """
    return stored + data(7, b"".join(data(12, data(1, name)) for name in names))


PLAIN = "bninspect/plain/"
"""Before the name of a value that stands in blocks of channels: the same without blocks."""


def with_plain(stored: bytes, channels: Mapping[str, int]) -> bytes:
    """Return the model `stored` with `PLAIN` values: nodes that put blocked values, of so many channels, in order."""
    nodes = (
        data(1, name)
        + data(2, PLAIN + name)
        + data(4, "ReorderOutput")
        + data(5, data(1, "channels") + integer(3, count) + integer(20, 2))
        + data(7, "com.microsoft.nchwc")
        for name, count in channels.items()
    )
    return stored + data(7, b"".join(data(1, node) for node in nodes))


COMPUTED = "bninspect/computed/"
"""Before the name of a value that is given: what the model itself computed."""


def with_inputs(stored: bytes, given: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """Return the model `stored` with some of its values as inputs: what made them is called `COMPUTED` and the name.

    Args:
        stored: the model.
        given: type and shape of each value.
    """
    message = Message(stored)
    graphs = [_with_renamed(Message(part), given) for part in message.chunks(7)]
    taken = b"".join(data(11, value(name, dtype, shape)) for name, (dtype, shape) in given.items())
    return message.without(7) + b"".join(data(7, one) for one in (*graphs, taken))


def _with_renamed(message: Message, given: Container[str]) -> bytes:
    nodes = (data(1, _renamed(Message(part), given)) for part in message.chunks(1))
    return message.without(1) + b"".join(nodes)


def _renamed(node: Message, given: Container[str]) -> bytes:
    names = (data(2, COMPUTED + name if name in given else name) for name in node.texts(2))
    return node.without(2) + b"".join(names)
