"""How Keras 3, and the `.keras` writer of Keras 2.12 and later, lay out weights in HDF5.

Every object that was saved is a group `<path>/vars` with its arrays `0`, `1`, ... in the order in which it made them,
those that are trained first. A path holds no layer names: the layers of a model are
`layers/<class in snake case>[_<n>]`, everything else is named by attributes. From Keras 3.6 on `vars` carries the
object's name in the model as the attribute `name`.

Source: `_save_state` and `H5IOStore` in keras/src/saving/saving_lib.py, Keras 2.13 to 3.15.1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.formats.containers.hdf5_ahead import prepare
from bninspect.records import PARAMETERS, Array, BatchNorm

if TYPE_CHECKING:
    from bninspect.formats.containers.hdf5 import Group

VARS = "vars"
DEPENDENCIES = "_layer_checkpoint_dependencies"
"""What Keras 2.13 calls `layers`."""
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})


@dataclass(frozen=True)
class Saved:
    """One object that was saved."""

    path: str
    """Its group without `vars`, for instance `layers/batch_normalization_1`; empty for the model itself."""
    location: str
    """The group in the file as it is spelled there."""
    name: str | None
    """Its name in the model, where the writer put it down."""
    homes: Mapping[str, Group]
    """For each of its arrays the group that holds it: the shards of one file share them out."""

    @property
    def count(self) -> int | None:
        """How many arrays there are, or None if they are not numbered from 0 on."""
        return len(self.homes) if all(str(n) in self.homes for n in range(len(self.homes))) else None

    def shape(self, number: int) -> tuple[int, ...] | None:
        """Return the shape of an array without reading it."""
        return self.homes[str(number)].shape(str(number))

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The stored types of the arrays, which are numbered."""
        return tuple(self.homes[str(number)].dtype(str(number)) for number in range(len(self.homes)))

    def size(self, name: str) -> int:
        """Return the bytes that an array takes."""
        kind = self.homes[name].dtype(name)
        return prod(self.homes[name].shape(name) or ()) * (2 if kind == "bfloat16" else np.dtype(kind).itemsize)

    def array(self, number: int) -> Array:
        """Return an array."""
        array = self.homes[str(number)].array(str(number))
        if array is None:
            label = self.homes[str(number)].label
            raise DamagedFile(f"{label} is damaged", why=f"{self.location}/{number} is not an array")
        return array

    def parameters(self, roles: Sequence[str]) -> dict[str, Any]:
        """Return the first arrays, which play `roles` in this order, with the rest of what BatchNorm says of them.

        Raises:
            DamagedFile: an array is not of floating-point numbers.
        """
        arrays = {role: self.array(number) for number, role in enumerate(roles)}
        kinds = self.kinds[: len(roles)]  # known now, without opening each array once more
        if not FLOATS.issuperset(kinds):
            label = self.homes["0"].label
            raise DamagedFile(f"{label} is damaged", why=f"{self.location} holds {' and '.join(kinds)}")
        return {
            **dict.fromkeys(PARAMETERS),
            **arrays,
            "dtype": "+".join(dict.fromkeys(kinds)),
            "location": self.location,
        }


def collect(root: Group) -> dict[str, Saved]:
    """Return everything that was saved below `root`, by path, in natural order (`bn_2` before `bn_10`)."""
    found: dict[str, Saved] = {}
    level = [(root, "")]
    while level:  # one after the other, so that of a file elsewhere all groups of a level come at a time
        prepare(group for group, _ in level)
        prepare((arrays for group, _ in level if (arrays := group.group(VARS)) is not None), names=())
        level = [inner for group, path in level for inner in _inside(group, path, found)]
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def joined(shards: Mapping[str, Mapping[str, Saved]], label: str) -> dict[str, Saved]:
    """Return what the shards of one file hold together.

    Raises:
        DamagedFile: two shards have the same array, or disagree about a name.
    """
    found: dict[str, Saved] = {}
    for shard, objects in shards.items():
        for path, saved in objects.items():
            before = found.setdefault(path, saved)
            if before is saved:
                continue
            if before.homes.keys() & saved.homes.keys() or len({before.name, saved.name} - {None}) > 1:
                raise DamagedFile(f"{label} contradicts itself", why=f"{shard} holds {path} once more")
            found[path] = replace(before, name=before.name or saved.name, homes={**before.homes, **saved.homes})
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def named_path(path: str, objects: Mapping[str, Saved]) -> str | None:
    """Return the names of the objects around `path` and its own, joined by `/`; None if its own is not known.

    This is the layer's path in the model: the model's own name is left out, and so are containers, which have none.
    """
    own = objects[path].name
    if not own:
        return None
    steps = path.split("/")
    around = (objects.get("/".join(steps[:depth])) for depth in range(1, len(steps)))
    return "/".join([saved.name for saved in around if saved is not None and saved.name] + [own])


def distinct(layers: Iterable[BatchNorm]) -> tuple[BatchNorm, ...]:
    """Return `layers`, those of them that share a name called by where they are."""
    layers = list(layers)
    taken = Counter(layer.name for layer in layers)
    return tuple(
        layer if taken[layer.name] == 1 else replace(layer, name=layer.location.removesuffix(f"/{VARS}"))
        for layer in layers
    )


def _inside(group: Group, path: str, found: dict[str, Saved]) -> Iterator[tuple[Group, str]]:
    """Yield the groups in a group that may hold objects, with their paths; `found` takes what was saved there."""
    for name in group.names():
        child = group.group(name)
        if child is None:
            continue
        if name == VARS:
            members = child.names()
            arrays = [member for member in members if member.isdecimal() or child.group(member) is None]
            found[path] = Saved(path, child.path.strip("/"), child.text("name"), dict.fromkeys(arrays, child))
            # An attribute may be called `vars` as well, and then holds objects of its own.
            if len(arrays) == len(members):
                continue
        step = "layers" if name == DEPENDENCIES else name
        yield child, f"{path}/{step}".lstrip("/")


def _natural(path: str) -> list[tuple[str, int]]:
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", path)]
