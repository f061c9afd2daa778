"""Places of moving statistics in HDF5: contiguous datasets, whose bytes lie in the file as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from bninspect.exporters.copies.place import ArrayPlace, refusal
from bninspect.records import BatchNorm

WANTED = ("moving_mean", "moving_variance")


def places(stream: BinaryIO, layers: tuple[BatchNorm, ...], start: int = 0) -> dict[str, dict[str, ArrayPlace]]:
    """Return the place of each statistic, by layer and parameter.

    Args:
        stream: the HDF5 file, which our reader has accepted.
        layers: what it found there.
        start: where the HDF5 file begins in the whole file.

    Raises:
        RuntimeFailure: an array is compressed, in pieces, or not where its name says.
    """
    import h5py

    with h5py.File(stream, "r") as file:
        return {
            layer.name: {name: _place(layer, name, dataset, start) for name, dataset in _datasets(file, layer).items()}
            for layer in layers
        }


def _datasets(file: Any, layer: BatchNorm) -> Mapping[str, Any]:
    import h5py

    found: dict[str, Any] = {}

    def visit(_name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[item.name] = item

    if layer.location not in file:
        raise refusal(layer.name, "the file does not say where its arrays are")
    file[layer.location].visititems(visit)
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


def _names(name: str) -> tuple[str, ...]:
    # Keras 1 called them so.
    return (name, {"moving_mean": "running_mean", "moving_variance": "running_std"}[name])


def _place(layer: BatchNorm, name: str, dataset: Any, start: int) -> ArrayPlace:
    offset, dtype = dataset.id.get_offset(), np.dtype(dataset.dtype)
    if offset is None or dtype.kind != "f" or dataset.size != layer.channels:
        raise refusal(layer.name, f"{name} is compressed or in pieces" if offset is None else f"{name} is {dtype}")
    return ArrayPlace(start + int(offset), dtype, int(dataset.size))
