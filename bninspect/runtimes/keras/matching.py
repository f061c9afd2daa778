"""Which layer of a loaded model is which layer of its file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from bninspect.records import PARAMETERS, Array, BatchNorm
from bninspect.runtimes.keras import hook

_Item = TypeVar("_Item")
_Other = TypeVar("_Other")


@dataclass(frozen=True, eq=False)
class LoadedNorm:
    """A batch-norm layer of a loaded model."""

    path: str
    """Names of nested models and wrappers and its own, joined by `/`, as in `BatchNorm.name`."""
    layer: Any
    parameters: Mapping[str, Array]


def batch_norms(model: Any, batch_norm: type[Any]) -> tuple[LoadedNorm, ...]:
    """Return every built batch-norm layer of a model, each once, in the model's order."""
    found = _walk(model, "", set())
    return tuple(
        LoadedNorm(path, layer, hook.parameters(layer))
        for path, layer in found
        if isinstance(layer, batch_norm) and layer.built
    )


def layers(model: Any) -> tuple[Any, ...]:
    """Return every layer of a model at any depth, each once."""
    return tuple(layer for _, layer in _walk(model, "", set()))


def _walk(parent: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    # Models list their layers in public. For wrappers and custom layers only the private method does.
    children = getattr(parent, "layers", None)
    if not isinstance(children, list):
        children = parent._flatten_layers(include_self=False, recursive=False)  # noqa: SLF001
    for layer in children:
        if id(layer) not in seen:
            seen.add(id(layer))
            path = f"{prefix}{layer.name}"
            yield path, layer
            yield from _walk(layer, f"{path}/", seen)


def match(stored: Iterable[BatchNorm], loaded: Iterable[LoadedNorm]) -> Mapping[int, str]:
    """Return the name of the stored layer for `id(layer)` of each loaded one that it belongs to without doubt.

    By path; what is then left by the last part of the name, then by equality of every parameter. Names come before
    values, so that a framework that loads one layer's values into another is found out. But names that no
    configuration states, those of the parts of custom layers and of subclassed models, are numbered anew in every
    process: for such layers values alone count.
    """
    left, right = list(stored), list(loaded)
    names: dict[int, str] = {}
    for applies, key in _WAYS:
        for one, other in _unique_pairs(filter(applies, left), key, right, key):
            names[id(other.layer)] = one.name
        taken = set(names.values())
        left = [one for one in left if one.name not in taken]
        right = [one for one in right if id(one.layer) not in names]
    return names


def _unique_pairs(
    left: Iterable[_Item],
    left_key: Callable[[_Item], Hashable],
    right: Iterable[_Other],
    right_key: Callable[[_Other], Hashable],
) -> Iterator[tuple[_Item, _Other]]:
    sides: dict[Hashable, tuple[list[_Item], list[_Other]]] = defaultdict(lambda: ([], []))
    for one in left:
        sides[left_key(one)][0].append(one)
    for other in right:
        sides[right_key(other)][1].append(other)
    for ones, others in sides.values():
        if len(ones) == len(others) == 1:
            yield ones[0], others[0]


def _values(arrays: Mapping[str, Array]) -> Hashable:
    return tuple(arrays[name].ravel().astype(np.float64).tobytes() if name in arrays else None for name in PARAMETERS)


def _channels(loaded: LoadedNorm) -> int:
    return max((array.size for array in loaded.parameters.values()), default=0)


def _path(side: BatchNorm | LoadedNorm) -> Hashable:
    return (side.name, side.channels) if isinstance(side, BatchNorm) else (side.path, _channels(side))


def _leaf(side: BatchNorm | LoadedNorm) -> Hashable:
    if isinstance(side, BatchNorm):
        return (side.name.rpartition("/")[2], side.channels)
    return (side.path.rpartition("/")[2], _channels(side))


def _content(side: BatchNorm | LoadedNorm) -> Hashable:
    return _values(side.arrays if isinstance(side, BatchNorm) else side.parameters)


def _is_configured(stored: BatchNorm) -> bool:
    return bool(stored.class_name)


def _is_any(_stored: BatchNorm) -> bool:
    return True


_Key = Callable[[BatchNorm | LoadedNorm], Hashable]
_WAYS: tuple[tuple[Callable[[BatchNorm], bool], _Key], ...] = (
    (_is_configured, _path),
    (_is_configured, _leaf),
    (_is_any, _content),
)
