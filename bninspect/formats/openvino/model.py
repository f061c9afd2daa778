"""The operations of an IR as plain records, in the order in which they are computed.

The XML lists layers with ports and, apart from them, edges from port to port; constants are places in the flat file
(docs.openvino.ai, "OpenVINO IR format"; opset specifications there).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bninspect.errors import DamagedFile, UnreadableFile
from bninspect.formats.encodings.xml_text import XmlElement
from bninspect.formats.norm_names import distinct
from bninspect.formats.stored_numbers import native
from bninspect.records import Array
from bninspect.safe_text import printable

VERSIONS = ("10", "11")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_TYPES: Mapping[str, tuple[str, str]] = {
    **{f"f{bits}": (f"float{bits}", f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"i{bits}": (f"int{bits}", f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"u{bits}": (f"uint{bits}", f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    "bf16": ("bfloat16", "<u2"),
    "boolean": ("bool", "<u1"),
}
"""Name of a type in the file, our name of it, and NumPy's for its bytes."""
_PRECISIONS = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "bfloat16", "BOOL": "bool"}
_BODIES = ("body", "then_body", "else_body")


@dataclass(frozen=True, eq=False)
class StoredConstant:
    """A constant as the file holds it."""

    name: str
    kind: str
    """The file's name of its type."""
    shape: tuple[int, ...]
    data: Array
    """Its bytes."""

    @property
    def dtype(self) -> str:
        """Our name of its type; that of the file where nothing here reads it."""
        return _TYPES[self.kind][0] if self.kind in _TYPES else self.kind

    @cached_property
    def values(self) -> Array:
        """The numbers, read-only, bfloat16 widened to float32. Raises UnreadableFile for a type that is not read."""
        if self.kind not in _TYPES:
            why = f"constant {printable(self.name)} is of the type {printable(self.kind)}"
            raise UnreadableFile("a constant is of a type that is not read", why=why)
        values = self.data.view(_TYPES[self.kind][1]).reshape(self.shape)
        return native(values, bfloat16=self.kind == "bf16")


@dataclass(frozen=True, eq=False)
class IrOperation:
    """A layer of the file."""

    name: str
    """Unlike every other of its graph: a name that the file repeats is counted on."""
    kind: str
    """Its type in lower case, for instance `groupconvolution`."""
    opset: str
    attributes: Mapping[str, str]
    inputs: tuple[str, ...]
    """Values that it takes, in the order of its ports."""
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    """Of its outputs; None where a length is open."""
    dtypes: tuple[str, ...]
    stored: StoredConstant | None = None
    """Of a constant."""
    bodies: tuple[IrGraph, ...] = ()
    """Of a loop or a condition."""

    def takes(self, place: int) -> str:
        """Return an input; empty if it is left out."""
        return self.inputs[place] if place < len(self.inputs) else ""

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return an attribute that is a list of whole numbers; empty if it is not there. Raises DamagedFile."""
        return _integers(self.attributes.get(name, ""), f"{name} of {self.name}")

    def real(self, name: str, otherwise: float) -> float:
        """Return an attribute that is a number. Raises DamagedFile if it is not one."""
        try:
            return float(self.attributes.get(name, otherwise))
        except ValueError:
            raise DamagedFile("an attribute is not a number", why=f"{name} of {printable(self.name)}") from None


@dataclass(frozen=True, eq=False)
class IrGraph:
    """The operations of a net, or of the body of a loop."""

    operations: tuple[IrOperation, ...]

    def every(self, kind: str) -> Iterator[IrOperation]:
        """Yield the operations of a kind."""
        return (operation for operation in self.operations if operation.kind == kind)


def parse(net: XmlElement, weights: Array) -> IrGraph:
    """Return the graph of a `net` element.

    Args:
        net: the element, or the body of a loop.
        weights: the bytes of the flat file.

    Raises:
        DamagedFile: it contradicts itself, or its constants lie beyond the flat file.
    """
    layers: dict[str, XmlElement] = {}
    for layer in net.every("layers", "layer"):
        if layers.setdefault(layer.attributes.get("id", ""), layer) is not layer:
            raise DamagedFile("two layers have the same id", why=printable(layer.attributes.get("id", "")))
    names = dict(zip(layers, distinct(layer.attributes.get("name", "") for layer in layers.values()), strict=True))
    values = _values(layers, names)
    fed = _fed(net, layers, values)
    found = [_operation(key, layer, names[key], fed, values, weights) for key, layer in layers.items()]
    return IrGraph(_in_order(found))


def _values(layers: Mapping[str, XmlElement], names: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Return the name of the value that each output port gives: the operation's for the first one."""
    return {
        (key, port.attributes.get("id", "")): f"{names[key]}:{place}" if place else names[key]
        for key, layer in layers.items()
        for place, port in enumerate(layer.every("output", "port"))
    }


def _fed(
    net: XmlElement, layers: Mapping[str, XmlElement], values: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], str]:
    """Return the value that goes into each input port."""
    fed: dict[tuple[str, str], str] = {}
    for edge in net.every("edges", "edge"):
        source, start, target, end = (
            edge.attributes.get(name, "") for name in ("from-layer", "from-port", "to-layer", "to-port")
        )
        if (source, start) not in values or target not in layers or (target, end) in fed:
            raise DamagedFile("an edge leads nowhere", why=printable(f"from {source}:{start} to {target}:{end}"))
        fed[target, end] = values[source, start]
    return fed


def _operation(
    key: str,
    layer: XmlElement,
    name: str,
    fed: Mapping[tuple[str, str], str],
    values: Mapping[tuple[str, str], str],
    weights: Array,
) -> IrOperation:
    outputs = list(layer.every("output", "port"))
    kind = layer.attributes.get("type", "").lower()
    data = layer.first("data")
    attributes = data.attributes if data is not None else {}
    ports = [(key, port.attributes.get("id", "")) for port in layer.every("input", "port")]
    missing = [port for _, port in ports if (key, port) not in fed]
    if missing:
        raise DamagedFile("an operation lacks an input", why=printable(f"port {missing[0]} of {name}"))
    return IrOperation(
        name,
        kind,
        layer.attributes.get("version", ""),
        attributes,
        tuple(fed[port] for port in ports),
        tuple(values[key, port.attributes.get("id", "")] for port in outputs),
        tuple(_shape(port) for port in outputs),
        tuple(_dtype(port.attributes.get("precision", "")) for port in outputs),
        _stored(name, attributes, weights) if kind == "const" else None,
        tuple(parse(body, weights) for each in _BODIES for body in layer.every(each)),
    )


def _shape(port: XmlElement) -> tuple[int | None, ...]:
    lengths = [_integers(dimension.text, "a dimension") for dimension in port.every("dim")]
    return tuple(length[0] if length and length[0] >= 0 else None for length in lengths)


def _dtype(precision: str) -> str:
    if precision[:1] in {"I", "U"} and precision[1:].isdecimal():
        return f"{'uint' if precision[0] == 'U' else 'int'}{precision[1:]}"
    return _PRECISIONS.get(precision, precision.lower())


def _stored(name: str, attributes: Mapping[str, str], weights: Array) -> StoredConstant:
    shape = _integers(attributes.get("shape", ""), f"the shape of {name}")
    places = [_integers(attributes.get(each, ""), f"the {each} of {name}") for each in ("offset", "size")]
    if any(len(place) != 1 for place in places) or min((*shape, *places[0], *places[1])) < 0:
        raise DamagedFile("a constant has no place", why=printable(name))
    (offset,), (size,) = places
    kind = attributes.get("element_type", "")
    if offset + size > weights.size:
        why = f"constant {printable(name)} ends at {offset + size:,} of {weights.size:,} bytes"
        raise DamagedFile("the weights are cut off", why=why, hint="copy or download the .bin file again")
    if kind in _TYPES and math.prod(shape) * np.dtype(_TYPES[kind][1]).itemsize != size:
        why = f"constant {printable(name)} of shape {shape} and {kind} has {size:,} bytes"
        raise DamagedFile("a constant contradicts itself", why=why)
    return StoredConstant(name, kind, shape, weights[offset : offset + size])


def _integers(text: str, what: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(_INTEGER.fullmatch(part) for part in parts):
        raise DamagedFile("an attribute is not a list of whole numbers", why=printable(what))
    return tuple(int(part) for part in parts)


def _in_order(operations: Sequence[IrOperation]) -> tuple[IrOperation, ...]:
    """Return the operations so that each comes behind what it takes. Raises DamagedFile for a circle."""
    makers = {value: operation for operation in operations for value in operation.outputs}
    readers: dict[str, list[IrOperation]] = {}
    waiting: dict[str, int] = {}
    for operation in operations:
        before = dict.fromkeys(makers[value].name for value in operation.inputs)
        waiting[operation.name] = len(before)
        for name in before:
            readers.setdefault(name, []).append(operation)
    ready = [operation for operation in operations if not waiting[operation.name]]
    for operation in ready:  # grows while it is walked
        for reader in readers.get(operation.name, ()):
            waiting[reader.name] -= 1
            if not waiting[reader.name]:
                ready.append(reader)
    if len(ready) < len(operations):
        raise DamagedFile(
            "the operations depend on each other in a circle", why=f"{len(operations) - len(ready)} of them are in it"
        )
    return tuple(ready)
