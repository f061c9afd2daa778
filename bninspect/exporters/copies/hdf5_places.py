"""Places of moving statistics in HDF5: contiguous datasets, whose bytes lie in the file as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from bninspect.exporters.copies.place import ArrayPlace, refusal
from bninspect.formats.containers import hdf5
from bninspect.formats.containers.hdf5 import Group
from bninspect.records import BatchNorm

WANTED = ("moving_mean", "moving_variance")
Stored = tuple[int | None, Any, int]
"""The offset in the file, the dtype as stored, and how many numbers."""


def places(
    stream: BinaryIO, layers: tuple[BatchNorm, ...], start: int = 0, member: str = ""
) -> dict[str, dict[str, ArrayPlace]]:
    """Return the place of each statistic, by layer and parameter.

    Args:
        stream: the HDF5 file, which our reader has accepted.
        layers: what it found there.
        start: where the HDF5 file begins in the whole file.
        member: of a zip that the HDF5 file is.

    Raises:
        RuntimeFailure: an array is compressed, in pieces, or not where its name says.
    """
    with hdf5.open_file(stream, "the file to copy") as root:
        return {
            layer.name: {
                name: _place(layer, name, found, start, member) for name, found in _stored(root, layer).items()
            }
            for layer in layers
        }


def _stored(root: Group, layer: BatchNorm) -> Mapping[str, Stored]:
    group = root if layer.location == root.path else root.group(layer.location)
    if group is None:
        raise refusal(layer.name, "the file does not say where its arrays are")
    found = dict(_below(group))
    named = {
        name: [one for path, one in found.items() if path.rpartition("/")[2].partition(":")[0] in _names(name)]
        for name in WANTED
    }
    if all(len(one) == 1 for one in named.values()):
        return {name: one[0] for name, one in named.items()}
    # Keras 3 numbers the arrays of a layer, in the order gamma, beta, mean, variance of those that it has.
    numbered = {path.rpartition("/")[2]: one for path, one in found.items()}
    order = list(layer.arrays)
    if all(str(order.index(name)) in numbered for name in WANTED):
        return {name: numbered[str(order.index(name))] for name in WANTED}
    raise refusal(layer.name, "its arrays have no names that are known")


def _below(group: Group) -> Iterator[tuple[str, Stored]]:
    """Yield the path of every array below a group, and where it is stored."""
    for name in group.names():
        child = group.group(name)
        if child is not None:
            yield from _below(child)
        elif (stored := group.place(name)) is not None:
            yield f"{group.path.rstrip('/')}/{name}", stored


def _names(name: str) -> tuple[str, ...]:
    # Keras 1 called them so.
    return (name, {"moving_mean": "running_mean", "moving_variance": "running_std"}[name])


def _place(layer: BatchNorm, name: str, stored: Stored, start: int, member: str) -> ArrayPlace:
    offset, dtype, size = stored
    if offset is None or dtype.kind != "f" or size != layer.channels:
        raise refusal(layer.name, f"{name} is compressed or in pieces" if offset is None else f"{name} is {dtype}")
    return ArrayPlace(start + int(offset), dtype, size, member)
