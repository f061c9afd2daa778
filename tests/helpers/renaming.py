"""A Keras HDF5 file with one of its layers called otherwise: copies of a model that can be told apart."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def renamed(source: Path, target: Path, old: str, new: str) -> Path:
    """Write `source` to `target` with the layer `old` called `new`, and return `target`."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        weights = file["model_weights"]
        weights.move(old, new)
        weights[new].move(old, new)
        _replace(file.attrs, "model_config", f'"{old}"', f'"{new}"')
        _replace(weights.attrs, "layer_names", old, new)
        _replace(weights[new].attrs, "weight_names", f"{old}/", f"{new}/")
    return target


def _replace(attributes: Any, name: str, old: str, new: str) -> None:
    value = attributes[name]
    if isinstance(value, str):
        attributes[name] = value.replace(old, new)
    else:
        texts = [one.decode() if isinstance(one, bytes) else str(one) for one in value]
        attributes[name] = np.array(
            [(new if one == old else one.replace(old, new) if "/" in old else one).encode() for one in texts]
        )
