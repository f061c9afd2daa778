"""A PyTorch state_dict, alone or somewhere in a training checkpoint: `torch.save(model.state_dict(), path)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bninspect.errors import UnsafeFile
from bninspect.formats.encodings import pickle_opcodes
from bninspect.formats.torch import objects, running_statistics
from bninspect.formats.torch.objects import PickledTensor
from bninspect.formats.torch.storage import Storages
from bninspect.records import Checkpoint
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive
    from bninspect.records import Array, BatchNorm

NAME = "torch-state-dict"
PICKLE_BYTES = 256 << 20
DEPTH = 32
_PARALLEL = "module."
"""What torch.nn.DataParallel puts before every name."""


def read(archive: Archive, folder: str) -> Checkpoint:
    """Return the batch norms of every state_dict in the zip's pickle.

    Raises:
        UnsafeFile: the pickle names anything but parameters.
        DamagedFile, UnreadableFile: as `pickled.interpret` and `Storages.array`.
    """
    content = pickle_opcodes.interpret(
        archive.read(f"{folder}data.pkl", PICKLE_BYTES), archive.label, objects.of_state_dict, objects.storage
    )
    found = {
        path: tensors for path, tensors in _mappings(content, "", 0, set()) if running_statistics.prefixes(tensors)
    }
    storages = Storages(archive, folder)
    layers: list[BatchNorm] = []
    for path, tensors in found.items():
        # A checkpoint may hold two networks, or a model and its running average: none of them is passed over.
        prefix = f"{path}/" if len(found) > 1 and path else ""
        layers += [replace(layer, name=prefix + layer.name) for layer in _layers(tensors, storages)]
    notes = [running_statistics.NOTE if layers else "no name of a tensor ends in running_mean"]
    if any(found):
        notes.append(f"read from {', '.join(printable(path) for path in found)} in the checkpoint")
    return Checkpoint(archive.label, NAME, "PyTorch", tuple(layers), tuple(notes))


def _layers(tensors: Mapping[str, PickledTensor], storages: Storages) -> tuple[BatchNorm, ...]:
    def numbers(name: str) -> tuple[Array, str]:
        return storages.array(tensors[name], name), tensors[name].storage.dtype

    artefact = _PARALLEL if all(name.startswith(_PARALLEL) for name in tensors) else ""
    return running_statistics.layers(tensors, numbers, artefact=artefact)


def _mappings(value: Any, path: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Mapping[str, PickledTensor]]]:
    """Yield every mapping that holds tensors, with the keys and places that lead to it."""
    if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
        return
    if depth > DEPTH:
        raise UnsafeFile("this checkpoint is beyond what a model needs", why=f"mappings over {DEPTH} deep")
    seen.add(id(value))
    items = tuple(value.items() if isinstance(value, dict) else enumerate(value))
    tensors = {key: one for key, one in items if isinstance(key, str) and isinstance(one, PickledTensor)}
    if tensors:
        yield path, tensors
    for key, one in items:
        yield from _mappings(one, f"{path}.{key}" if path else str(key), depth + 1, seen)
