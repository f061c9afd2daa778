"""What torch.save writes: a state_dict, alone or somewhere in a training checkpoint, or whole modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bninspect.errors import UnsafeFile
from bninspect.formats import named_kernels
from bninspect.formats.encodings import pickle_opcodes
from bninspect.formats.encodings.pickle_opcodes import Instance
from bninspect.formats.torch import objects, pickled_modules, running_statistics
from bninspect.formats.torch.objects import PickledTensor
from bninspect.formats.torch.storage import Storages, in_zip
from bninspect.records import Array, BatchNorm, Checkpoint, Unread
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive
    from bninspect.formats.named_kernels import NamedKernel

NAME = "torch-state-dict"
PICKLE_BYTES = 256 << 20
FLOATS = ("float16", "bfloat16", "float32", "float64")
DEPTH = 100
"""Containers in containers: two for each module in a module."""
LONGEST_PATH = 4096
_PARALLEL = "module."
"""What torch.nn.DataParallel puts before every name."""


@dataclass(frozen=True, eq=False)
class _Place:
    """Something with batch norms in it, and the keys, attributes and places that lead to it."""

    path: str
    tensors: Mapping[str, PickledTensor]
    modules: tuple[tuple[str, Instance], ...] = ()


def read(archive: Archive, folder: str) -> Checkpoint:
    """Return the batch norms of everything in the zip's pickle.

    Raises:
        UnsafeFile: the pickle is too large.
        DamagedFile, UnreadableFile: as `pickle_opcodes.interpret` and `Storages.array`.
    """
    data = archive.read(f"{folder}data.pkl", PICKLE_BYTES)
    content = pickle_opcodes.interpret(data, archive.label, objects.lookup, objects.persistent)
    return checkpoint(archive.label, content, in_zip(archive, folder, "data/"))


def checkpoint(label: str, content: Any, storages: Storages) -> Checkpoint:
    """Return the batch norms in what a pickle holds. Raises as `read`."""
    places = tuple(_places(content, "", 0, set(), label))
    layers: list[BatchNorm] = []
    for place in places:
        # A checkpoint may hold two networks, or a model and its running average: none of them is passed over.
        prefix = f"{place.path}/" if len(places) > 1 and place.path else ""
        layers += [replace(layer, name=prefix + layer.name) for layer in _layers(place, storages)]
    dictionaries = any(place.tensors for place in places)
    notes = [running_statistics.NOTE] if dictionaries else []
    notes += [] if layers else [running_statistics.NONE]
    if any(place.path for place in places):
        notes.append(f"read from {', '.join(printable(place.path) for place in places)} in the checkpoint")
    code = tuple(f"class {printable(place.class_name)}" for place in _roots(places))
    unread = tuple(calls for place in places for calls in _unread(place))
    return Checkpoint(label, NAME, "PyTorch", tuple(layers), tuple(notes), code=code, unread=unread)


def read_kernels(archive: Archive, folder: str) -> tuple[NamedKernel, ...]:
    """Return the kernels of everything in the zip's pickle. Raises as `read`."""
    data = archive.read(f"{folder}data.pkl", PICKLE_BYTES)
    content = pickle_opcodes.interpret(data, archive.label, objects.lookup, objects.persistent)
    return kernels(archive.label, content, in_zip(archive, folder, "data/"))


def kernels(label: str, content: Any, storages: Storages) -> tuple[NamedKernel, ...]:
    """Return the kernels beside the batch norms in what a pickle holds, named as these. Raises as `read`."""
    places = tuple(_places(content, "", 0, set(), label))
    found: list[NamedKernel] = []
    for place in places:
        prefix = f"{place.path}/" if len(places) > 1 and place.path else ""
        tensors = {**place.tensors, **_held(place.modules)}
        floats = {name: one.shape for name, one in tensors.items() if one.storage.dtype in FLOATS}
        read = partial(_numbers, tensors, storages)
        found += [
            replace(one, name=prefix + one.name) for one in named_kernels.of_torch(floats, read, _artefact(tensors))
        ]
    return tuple(found)


def read_statistics(archive: Archive, folder: str) -> Mapping[str, Mapping[str, PickledTensor]]:
    """Return where the running statistics of the layers of `read` are, by layer and torch's name. Raises as `read`.

    Those of pickled modules are not among them.
    """
    data = archive.read(f"{folder}data.pkl", PICKLE_BYTES)
    content = pickle_opcodes.interpret(data, archive.label, objects.lookup, objects.persistent)
    places = tuple(_places(content, "", 0, set(), archive.label))
    found: dict[str, dict[str, PickledTensor]] = {}
    for place in places:
        before = f"{place.path}/" if len(places) > 1 and place.path else ""
        for prefix in running_statistics.prefixes(place.tensors):
            name = before + running_statistics.layer_name(prefix, _artefact(place.tensors))
            statistics = {key: place.tensors.get(prefix + key) for key in running_statistics.STATISTICS}
            found[name] = {key: tensor for key, tensor in statistics.items() if tensor is not None}
    return found


def _numbers(tensors: Mapping[str, PickledTensor], storages: Storages, name: str) -> tuple[Array, str]:
    return storages.array(tensors[name], name), tensors[name].storage.dtype


def _held(modules: tuple[tuple[str, Instance], ...]) -> dict[str, PickledTensor]:
    """Return the parameters of modules by the names that their state_dict would give them."""
    return {
        _joined(path, name): value
        for path, module in modules
        if isinstance(parameters := module.state.get("_parameters"), dict)
        for name, value in parameters.items()
        if isinstance(value, PickledTensor)
    }


def _artefact(tensors: Mapping[str, PickledTensor]) -> str:
    return _PARALLEL if tensors and all(name.startswith(_PARALLEL) for name in tensors) else ""


def _roots(places: tuple[_Place, ...]) -> tuple[Instance, ...]:
    """Return the modules that loading the file would make, the outermost of each place."""
    return tuple(place.modules[0][1] for place in places if place.modules)


def _unread(place: _Place) -> Iterator[Unread]:
    yield from running_statistics.unread(place.tensors)
    for path, module in place.modules:
        if pickled_modules.is_unread(module):
            reason = f"{printable(module.class_name)} keeps other statistics than torch's batch norm"
            yield Unread(printable(path) or "the root", 1, reason)


def _layers(place: _Place, storages: Storages) -> Iterator[BatchNorm]:
    for path, module in place.modules:
        if pickled_modules.is_norm(module):
            yield pickled_modules.norm_of(module, path, storages)
    numbers = partial(_numbers, place.tensors, storages)
    yield from running_statistics.layers(place.tensors, numbers, artefact=_artefact(place.tensors))


def _places(value: Any, path: str, depth: int, seen: set[int], label: str) -> Iterator[_Place]:
    """Yield every mapping with running statistics, and every module that is not in another one."""
    if not isinstance(value, (dict, list, tuple, Instance)) or id(value) in seen:
        return
    _require_small(path, depth, label)
    if isinstance(value, Instance) and pickled_modules.is_module(value):
        modules = tuple(_modules(value, "", depth, seen, label))
        if any(pickled_modules.is_norm(module) or pickled_modules.is_unread(module) for _, module in modules):
            yield _Place(path, {}, modules)
        return
    seen.add(id(value))
    tensors = {key: part for key, part in _parts(value) if isinstance(key, str) and isinstance(part, PickledTensor)}
    if running_statistics.prefixes(tensors) or running_statistics.unread(tensors):
        yield _Place(path, tensors)
    for key, part in _parts(value):
        yield from _places(part, _joined(path, key), depth + 1, seen, label)


def _modules(value: Instance, path: str, depth: int, seen: set[int], label: str) -> Iterator[tuple[str, Instance]]:
    """Yield a module and those in it, each once, by the names that lead to them."""
    _require_small(path, depth, label)
    seen.add(id(value))
    yield path, value
    for name, part in value.state["_modules"].items():
        if pickled_modules.is_module(part) and id(part) not in seen:
            yield from _modules(part, _joined(path, name), depth + 1, seen, label)


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what is in a container or a record, and the key, attribute or place of each."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, Instance):
        yield from value.state.items()
        yield from value.entries.items()
        yield from enumerate((*value.items, *value.arguments))
    else:
        yield from enumerate(value)


def _joined(path: str, key: Any) -> str:
    """Return a path; of a key that is not text or number only its type, since it may be nested without end."""
    text = str(key) if isinstance(key, (str, int, float)) else type(key).__name__
    return f"{path}.{text}" if path else text


def _require_small(path: str, depth: int, label: str) -> None:
    if depth > DEPTH or len(path) > LONGEST_PATH:
        deep = f"containers over {DEPTH} levels deep"
        why = deep if depth > DEPTH else f"a path of {len(path):,} characters, at most {LONGEST_PATH:,} are read"
        raise UnsafeFile(f"{label} is too large", why=why)
