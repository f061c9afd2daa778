"""The two files of Darknet: `model.cfg`, and `model.weights` beside it, of which either is given."""

from __future__ import annotations

import re
from pathlib import Path

from bninspect.formats import whole_file
from bninspect.formats.containers.siblings import sibling
from bninspect.formats.darknet import cfg
from bninspect.formats.darknet.layers import HEADER, DarknetLayer, Shape, read_layers
from bninspect.formats.format import Format
from bninspect.formats.tensorflow import files
from bninspect.records import Checkpoint
from bninspect.records import graph as network
from bninspect.records.graph import Network, Node, Value

NAME = "darknet"
NOTE = (
    "Darknet does not store epsilon: its CPU divides by sqrt(variance) + 1e-6, its GPU, AlexeyAB's fork and most "
    "converters by sqrt(variance + 1e-5), for which --epsilon 1e-5 stands"
)
_CFG = re.compile(rb"\s*(?:[#;][^\n]*\n\s*)*\[net(?:work)?\]")


def _matches(_path: Path, head: bytes) -> bool:
    return _CFG.match(head) is not None or HEADER.match(head) is not None


def _read(path: Path) -> Checkpoint:
    with files.counted(_pair(path)) as counted:
        _, layers = parsed(path)
        size, digest = counted()
    norms = tuple(layer.norm for layer in layers if layer.norm is not None)
    return Checkpoint(str(path), NAME, "Darknet", norms, (NOTE,) if norms else (), sha256=digest, bytes=size)


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the `.cfg` and the `.weights` of a model, of which `path` is one. Raises as `sibling`."""
    with path.open("rb") as file:
        is_cfg = _CFG.match(file.read(4096)) is not None
    if not is_cfg:
        return sibling(path.parent, f"{path.stem}.cfg", str(path)), path
    return path, sibling(path.parent, f"{path.stem}.weights", str(path))


def parsed(path: Path) -> tuple[Shape, tuple[DarknetLayer, ...]]:
    """Return the shape of the input and the layers of a model, in order. Raises as `read_layers`."""
    text, weights = _pair(path)
    sections = cfg.parse(whole_file.read(text, cfg.MOST_BYTES).decode("utf-8", "replace"))
    return read_layers(sections, whole_file.read(weights), str(weights))


def read_network(path: Path) -> Network:
    """Return what the sections compute, a batch norm behind the weights of its section. Raises as `parsed`."""
    image, layers = parsed(path)
    results = {-1: "data"}
    nodes: list[Node] = []
    for place, layer in enumerate(layers):
        taken, result = tuple(results[take] for take in layer.takes), layer.name
        if layer.kernel is not None:
            kind = _KINDS[layer.section.kind]
            if layer.kernel.groups > 1 and layer.kernel.weights.shape[1] == 1:
                kind = network.DEPTHWISE
            padded = bool(layer.section.number("pad", 0) or layer.section.number("padding", 0))
            nodes.append(Node(f"{result}.weights", kind, taken, (f"{result}.sum",), layer.kernel, padded=padded))
            taken = (f"{result}.sum",)
        if layer.norm is not None:
            nodes.append(Node(result, network.BATCH_NORM, taken, (f"{result}.norm",), layer=result))
            taken = (f"{result}.norm",)
        kind = layer.section.options.get("activation", "logistic" if layer.kernel is not None else layer.section.kind)
        nodes.append(Node(f"{result}.{kind}", "identity" if kind == "linear" else kind, taken, (result,)))
        results[place] = result
    ends = (layers[-1].name, layers[-1].shape) if layers else ("data", image)
    values = [Value(name, (None, shape[2], *shape[:2]), "float32") for name, shape in (("data", image), ends)]
    return Network((values[0],), (values[1],), tuple(nodes))


_KINDS = {
    "convolutional": network.CONVOLUTION,
    "deconvolutional": network.TRANSPOSED,
    "connected": network.DENSE,
}


FORMAT = Format(NAME, "Darknet (.cfg with .weights)", (".weights",), _matches, _read, read_network)
