"""The IR on disk: `model.xml`, and `model.bin` beside it, which is mapped and not read whole."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats import whole_file
from bninspect.formats.containers import parts
from bninspect.formats.containers.siblings import sibling
from bninspect.formats.encodings import xml_text
from bninspect.formats.format import Format
from bninspect.formats.openvino import graph as operations
from bninspect.formats.openvino import model, moments, norms
from bninspect.formats.tensorflow import files
from bninspect.records import Array, Checkpoint, Unread
from bninspect.records.graph import Network
from bninspect.safe_text import printable

NAME = "openvino"
MOST_XML = 256 << 20
_EMPTY = "no BatchNormInference"
_FOLDED = "verify SOURCE --against this file finds those that are folded"
_NONE_ALONE = "no batch norms by themselves: verify SOURCE --against this file proves which of them are"
_ROOT = "the root of a stored variance was not computed ahead"
_BEGINNING = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:<\?xml[^>]{0,200}\?>)?\s*(?:<!DOCTYPE\s+net\b|<net\s[^>]{0,2000}?version=[\"'])", re.DOTALL
)


def _matches(_path: Path, head: bytes) -> bool:
    return _BEGINNING.match(head) is not None


def _read(path: Path) -> Checkpoint:
    weights = beside(path)
    with files.counted([path, weights]) as counted:
        net, graph = parsed(path)
        found = norms.find(graph)
        unread = [Unread(printable(name), count, "it is in a loop or condition") for name, count in norms.hidden(graph)]
        if roots := moments.stored_roots(graph):
            unread.append(Unread("the net", roots, _ROOT))
        pairs = len(norms.scales(graph))
        notes = [f"{pairs} scale and shift per channel, {_NONE_ALONE}"] if pairs else []
        size, digest = counted()
    return Checkpoint(
        str(path),
        NAME,
        _writer(net),
        tuple(norm.layer for norm in found),
        tuple(notes),
        sha256=digest,
        bytes=size,
        empty=f"{_EMPTY}; {notes[0] if notes else _FOLDED}",
        unread=tuple(unread),
    )


def read_network(path: Path) -> Network:
    """Return what the net of a file computes. Raises as reading it."""
    return operations.read(parsed(path)[1])


def parsed(path: Path) -> tuple[xml_text.XmlElement, model.IrGraph]:
    """Return the XML of a file and the graph that it describes. Raises as reading it."""
    data = whole_file.read(path, MOST_XML)
    weights = _mapped(beside(path))
    try:
        net = xml_text.parse(data)
        version = net.attributes.get("version", "")
        if version not in model.VERSIONS:
            why = f"it is IR version {printable(version)}, {' and '.join(model.VERSIONS)} are read"
            raise UnreadableFile(f"{path} is too old or too new", why=why, hint="convert the model again: ovc MODEL")
        return net, model.parse(net, weights)
    except (DamagedFile, UnsafeFile) as error:
        raise type(error)(f"{path} is damaged", why=f"{error.what}: {error.why}", hint=error.hint) from error


def beside(path: Path) -> Path:
    """Return the file of the weights. Raises as `sibling`."""
    return sibling(path.parent, f"{path.stem}.bin", str(path))


def _mapped(path: Path) -> Array:
    """Return the bytes of a file, read when they are looked at; a net without constants has an empty one."""
    if not path.stat().st_size:
        return np.zeros(0, np.uint8)
    if parts.is_elsewhere(path):
        return np.frombuffer(whole_file.read(path), np.uint8)
    try:
        return np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{printable(str(path))} cannot be read", why=str(error)) from error


def _writer(net: xml_text.XmlElement) -> str:
    version = net.first("rt_info", "Runtime_version")
    stated = version.attributes.get("value", "") if version is not None else ""
    return f"OpenVINO {printable(stated.partition('-')[0])}" if stated else "OpenVINO"


FORMAT = Format(NAME, "OpenVINO IR (.xml with .bin)", (".xml",), _matches, _read, read_network)
