"""A configuration and its weights, brought together: every batch norm of either side comes out, and only once.

Most are where the layout says. Within a custom layer the layout is a guess, because an attribute may be called
otherwise than in the configuration: there the stored name decides, or, before Keras 3.6, that all configurations in
question are alike. Where neither helps, the arrays come out without settings, and a note says so.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bninspect.errors import DamagedFile
from bninspect.formats.containers.hdf5_ahead import prepare_arrays
from bninspect.formats.keras.discovery import RENORM, discover
from bninspect.formats.keras.layout import WeightPlace, places
from bninspect.formats.keras.saved_objects import VARS, Saved, distinct, named_path
from bninspect.records import PARAMETERS, BatchNorm

if TYPE_CHECKING:
    from bninspect.formats.keras.config import Architecture
    from bninspect.formats.keras.norm_config import NormConfig

_NUMBER = re.compile(r"_\d+\Z")
BUILT_IN = frozenset({"BatchNormalization", "SyncBatchNormalization"})


def pair(
    architecture: Architecture, objects: Mapping[str, Saved], version: tuple[int, int], label: str
) -> tuple[tuple[BatchNorm, ...], tuple[str, ...]]:
    """Return the batch norms in the model's order, and notes on what could not be decided.

    Args:
        architecture: the configuration.
        objects: what the weights hold, by path.
        version: of the Keras that wrote it.
        label: what error messages call the file.

    Raises:
        DamagedFile: configuration and weights contradict each other.
    """
    full = [path for path, saved in objects.items() if saved.homes]
    everything = list(places(architecture, version, full))
    norms = {place: place.node.norm for place in everything if place.node.norm}
    homes = {place: place.path for place in norms if _fits(place, objects.get(place.path), label)}
    taken = set(homes.values())
    hidden, notes = discover(saved for path, saved in objects.items() if path not in taken)
    assigned = _assigned([place for place in norms if place not in homes], hidden, objects)
    homes |= assigned
    unassigned = {path: layer for path, layer in hidden.items() if path not in assigned.values()}
    _check_numbers(unassigned, everything, label)
    owned = _owned(unassigned, everything, objects)
    prepare_arrays((group, name) for path in homes.values() for name, group in objects[path].homes.items())
    layers: list[BatchNorm] = []
    for place in everything:
        norm = norms.get(place)
        if place in homes and norm:
            layers.append(_configured(norm, objects[homes[place]], version[0], label))
        elif norm and any(path.startswith(f"{place.around}/") for path in unassigned):
            notes += (f"{'/'.join(norm.path)}: which arrays its settings belong to is not known",)
        elif norm:
            layers.append(_without_arrays(norm, place.path, version[0]))
        if place.path:
            layers += owned.pop(place.path, [])
    return distinct([*layers, *owned.pop("", [])]), notes


def _check_numbers(unassigned: Iterable[str], everything: Iterable[WeightPlace], label: str) -> None:
    """Raise DamagedFile if a list of layers holds a batch norm under a number that is none of the configuration's.

    Then others of its class, which have no name beside them before Keras 3.6, may have changed places.
    """
    known = {place.path for place in everything}
    classes = {_NUMBER.sub("", place.path) for place in everything if place.certain and place.node.norm}
    for path in unassigned:
        if path not in known and _NUMBER.sub("", path) in classes:
            why = f"{path} is none of the layers that the configuration lists"
            raise DamagedFile(f"{label} contradicts itself", why=why)


def _fits(place: WeightPlace, saved: Saved | None, label: str) -> bool:
    """Return whether `saved` is what should be at this place."""
    if saved is None or place.node.norm is None:
        return False
    if saved.name not in {None, place.node.name}:
        if place.certain:
            raise DamagedFile(
                f"{label} contradicts itself",
                why=f"{saved.location} belongs to {saved.name!r}, to {place.node.name!r} by the configuration",
            )
        return False
    return place.certain or len(saved.homes) == _count(place.node.norm)


def _assigned(
    lost: Iterable[WeightPlace], hidden: Mapping[str, BatchNorm], objects: Mapping[str, Saved]
) -> dict[WeightPlace, str]:
    """Return paths of `hidden` for those of `lost`, parts of custom layers, for which there is no doubt."""
    homes: dict[WeightPlace, str] = {}
    around: dict[str, list[WeightPlace]] = defaultdict(list)
    for place in lost:
        if not place.certain:
            around[place.around].append(place)
    for path, group in around.items():
        paths = [candidate for candidate in hidden if candidate.startswith(f"{path}/")]
        named = [candidate for candidate in paths if objects[candidate].name]
        for place in group:
            same = [candidate for candidate in named if objects[candidate].name == place.node.name]
            if len(same) == 1 == sum(other.node.name == place.node.name for other in group):
                homes[place] = same[0]
        alike = len({replace(norm, path=()) for place in group if (norm := place.node.norm)}) == 1
        if not named and alike and len(paths) == len(group):
            homes |= zip(group, paths, strict=True)
    return homes


def _owned(
    hidden: Mapping[str, BatchNorm], everything: Iterable[WeightPlace], objects: Mapping[str, Saved]
) -> dict[str, list[BatchNorm]]:
    """Return `hidden`, named, by the path of the innermost object of the configuration that each is part of."""
    found: dict[str, list[BatchNorm]] = defaultdict(list)
    owners = {place.path: place for place in everything}
    for path, layer in hidden.items():
        steps = path.split("/")
        around = ("/".join(steps[:depth]) for depth in range(len(steps), -1, -1))
        owner = next(owners[candidate] for candidate in around if candidate in owners)
        inside = (*owner.node.path, path.removeprefix(owner.path).strip("/"))
        found[owner.path].append(replace(layer, name=named_path(path, objects) or "/".join(inside)))
    return found


def _roles(norm: NormConfig) -> tuple[str, ...]:
    present = {"gamma": norm.scale is not False, "beta": norm.center is not False}
    return tuple(role for role in PARAMETERS if present.get(role, True))


def _count(norm: NormConfig) -> int:
    return len(_roles(norm)) + (RENORM if norm.renorm else 0)


def _configured(norm: NormConfig, saved: Saved, keras: int, label: str) -> BatchNorm:
    if not saved.homes:
        return _without_arrays(norm, saved.path, keras)
    if saved.count != _count(norm):
        found = ", ".join(saved.homes)
        if norm.class_name in BUILT_IN:
            raise DamagedFile(
                f"{label} contradicts itself",
                why=f"{saved.location} holds arrays {found}; by the configuration there are {_count(norm)}",
            )
        note = f"{norm.class_name} has arrays {found}, a batch norm {_count(norm)}: which are which is not known"
        return _without_arrays(norm, saved.path, keras, note)
    return BatchNorm(**norm.settings(keras), **saved.parameters(_roles(norm)))


def _without_arrays(norm: NormConfig, path: str, keras: int, note: str = "") -> BatchNorm:
    note = note or "the file holds no arrays of it, as when a model is saved before it is built"
    layer = BatchNorm(**norm.settings(keras), dtype="", location=f"{path}/{VARS}")
    return replace(layer, notes=(*layer.notes, note))
