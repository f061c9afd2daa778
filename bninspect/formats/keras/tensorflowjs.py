"""TensorFlow.js layers models: `model.json` with a Keras configuration, and shards of numbers beside it.

The manifest lists the names, shapes and types of the weights in the order in which they stand in the shards of their
group, joined (tfjs-core, io/types.ts and io_utils.ts). A quantised weight is `stored * scale + min`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.errors import DamagedFile, LimitExceeded, UnreadableFile
from bninspect.formats import whole_file
from bninspect.formats.containers.siblings import sibling
from bninspect.formats.encodings import json_text
from bninspect.formats.format import Format
from bninspect.formats.keras.config import CONTAINERS, TEXT_CHARACTERS, Architecture, parse
from bninspect.formats.keras.hdf5_names import pair_by_name, sites
from bninspect.formats.stored_numbers import native
from bninspect.formats.tensorflow import files
from bninspect.records import PARAMETERS, Array, BatchNorm, Checkpoint
from bninspect.safe_text import printable

NAME = "tfjs-layers"
MOST_SHARDS = 10_000
_BEGINNING = re.compile(rb'\s*\{\s*"(?:format"\s*:\s*"(?:layers|graph)-model"|modelTopology"\s*:\s*[{n])')
_TYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint16": "<u2", "uint8": "<u1", "bool": "<u1"}
_TYPES["complex64"] = "<c8"


@dataclass(frozen=True, eq=False)
class ShardedWeight:
    """A weight as the manifest describes it, with its bytes."""

    shape: tuple[int, ...]
    stored: str
    """Type of the numbers in the shard."""
    scale: float | None
    """Of a quantised weight; None of others."""
    least: float
    data: memoryview

    @property
    def values(self) -> Array:
        """The numbers, read-only; of a quantised weight those that TensorFlow.js computes of them."""
        numbers = np.frombuffer(self.data, _TYPES[self.stored]).reshape(self.shape)
        if self.scale is not None:
            with np.errstate(all="ignore"):
                numbers = (numbers * np.float64(self.scale) + self.least).astype(np.float32)
        return native(numbers)


def _matches(_path: Path, head: bytes) -> bool:
    return _BEGINNING.match(head) is not None


def _read(path: Path) -> Checkpoint:
    label = str(path)
    text = whole_file.read(path, 4 * TEXT_CHARACTERS).decode("utf-8", "replace")
    content = json_text.load(text, f"{label} has content", characters=TEXT_CHARACTERS, containers=CONTAINERS)
    content = content if isinstance(content, dict) else {}
    topology = content.get("modelTopology")
    topology = topology if isinstance(topology, dict) else {}
    config = topology.get("model_config", topology)
    if content.get("format") == "graph-model" or not isinstance(config, dict) or not config:
        why = "its modelTopology is a graph of TensorFlow, or there is none; layers models have a Keras configuration"
        raise UnreadableFile(f"{label} is not a layers model", why=why, hint="read the model that it was made from")
    groups = _groups(content.get("weightsManifest"), label)
    shards = [sibling(path.parent, name, label) for names, _ in groups for name in names]
    with files.counted([path, *shards]) as counted:
        weights = dict(_weights(path, groups))
        size, digest = counted()
    architecture = parse(json.dumps(config), label)
    version = str(topology.get("keras_version") or "")
    return Checkpoint(
        label,
        NAME,
        f"Keras {printable(version)}, TensorFlow.js" if version else "TensorFlow.js",
        tuple(_layers(architecture, weights, int(version[0]) if version[:1].isdecimal() else None)),
        architecture=json.dumps(config),
        code=architecture.code,
        sha256=digest,
        bytes=size,
    )


Group = tuple[list[str], list[Mapping[str, Any]]]
"""Names of shards, and what the manifest says of the weights in them."""


def _groups(manifest: object, label: str) -> list[Group]:
    found: list[Group] = []
    for group in manifest if isinstance(manifest, list) else ():
        match group:
            case {"paths": list(paths), "weights": list(weights)} if all(
                isinstance(path, str) for path in paths
            ) and all(isinstance(weight, dict) for weight in weights):
                found.append((paths, weights))
            case _:
                raise DamagedFile(f"{label} is damaged", why="a group of its weightsManifest has no paths and weights")
    if not found:
        raise UnreadableFile(f"{label} holds no weights", why="it has no weightsManifest")
    if sum(len(paths) for paths, _ in found) > MOST_SHARDS:
        raise LimitExceeded(f"{label} has too many shards", why=f"at most {MOST_SHARDS:,} are read")
    return found


def _weights(path: Path, groups: list[Group]) -> Iterator[tuple[str, ShardedWeight]]:
    """Yield the weights of all groups by name; together they are the bytes of the shards."""
    label, taken, room = str(path), set[str](), whole_file.LARGEST
    for names, weights in groups:
        parts = []
        for name in names:
            parts.append(whole_file.read(sibling(path.parent, name, label), room))
            room -= len(parts[-1])
        data, place = memoryview(b"".join(parts)), 0
        for described in weights:
            name, weight = _weight(described, data[place:], label)
            if name in taken:
                raise DamagedFile(f"{label} is damaged", why=f"two weights are called {printable(name)}")
            taken.add(name)
            place += len(weight.data)
            yield name, weight
        if place != len(data):
            why = f"the shards have {len(data):,} bytes, the weights take {place:,}"
            raise DamagedFile(f"{label} and its shards do not fit", why=why)


def _weight(described: Mapping[str, Any], data: memoryview, label: str) -> tuple[str, ShardedWeight]:
    """Return a weight, whose bytes are the first ones of `data`."""
    name, shape, quantised = described.get("name"), described.get("shape"), described.get("quantization") or {}
    stored = quantised.get("dtype", described.get("dtype")) if isinstance(quantised, dict) else None
    sizes = isinstance(shape, list) and all(type(length) is int and 0 <= length < 1 << 40 for length in shape)
    if not isinstance(name, str) or not isinstance(stored, str) or not isinstance(shape, list) or not sizes:
        raise DamagedFile(f"{label} is damaged", why=f"its manifest contradicts itself about {printable(str(name))}")
    if stored not in _TYPES:
        raise UnreadableFile(f"{label} holds a weight that is not read", why=f"{printable(name)} is {stored!r}")
    scale, least = None, 0.0
    if "scale" in quantised or "min" in quantised:
        try:
            scale, least = float(quantised["scale"]), float(quantised["min"])
        except (KeyError, TypeError, ValueError, OverflowError):
            why = f"{printable(name)} has no scale and minimum that are numbers"
            raise DamagedFile(f"{label} is damaged", why=why) from None
    size = math.prod(shape) * np.dtype(_TYPES[stored]).itemsize
    if size > len(data):
        why = f"{printable(name)} of shape {shape} takes {size:,} bytes, {len(data):,} are left"
        raise DamagedFile(f"the shards of {label} are cut off", why=why, hint="copy or download them again")
    return name, ShardedWeight(tuple(shape), stored, scale, least, data[:size])


def _layers(architecture: Architecture, weights: Mapping[str, ShardedWeight], keras: int | None) -> Iterator[BatchNorm]:
    """Yield the batch norms in the order of the configuration, then those that it does not mention."""
    matched, unmatched = pair_by_name(architecture.norms, sites(list(weights)))
    order = {config.path: place for place, config in enumerate(architecture.norms)}
    for site, config in sorted(matched, key=lambda one: order[one[1].path] if one[1] else len(order)):
        arrays = {role: weights[name].values for role, name in site.weights.items()}
        kinds = dict.fromkeys(weights[name].stored for name in site.weights.values())
        notes = ("its numbers are quantised",) if any(kind.startswith("uint") for kind in kinds) else ()
        settings: dict[str, Any] = {"name": site.prefix} if config is None else config.settings(keras)
        notes = (*settings.pop("notes", ()), *notes)
        dtype = "+".join(dict.fromkeys("float32" if kind.startswith("uint") else kind for kind in kinds))
        if not {"float16", "float32"}.issuperset(dtype.split("+")):
            raise DamagedFile("a batch norm is not of floating-point numbers", why=printable(f"{site.prefix}: {dtype}"))
        empty = dict.fromkeys(PARAMETERS)
        yield BatchNorm(**{**empty, **settings, **arrays, "dtype": dtype, "location": site.prefix, "notes": notes})
    for config in unmatched:
        settings = {**dict.fromkeys(PARAMETERS), **config.settings(keras), "dtype": ""}
        yield BatchNorm(**{**settings, "notes": (*settings["notes"], "the manifest lists no weights of it")})


FORMAT = Format(NAME, "TensorFlow.js layers model (model.json)", (".json",), _matches, _read)
