"""Small `.keras` and `.weights.h5` files written as Keras writes them, without Keras."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bninspect.records import Array

Objects = Mapping[str, Sequence[Array]]


def norm(name: str, class_name: str = "BatchNormalization", **settings: Any) -> dict[str, Any]:
    """Return the configuration of a batch norm."""
    config = {"name": name, "axis": -1, "momentum": 0.99, "epsilon": 0.001, "scale": True, "center": True}
    return {"module": "keras.layers", "class_name": class_name, "config": {**config, **settings}, "name": name}


def model(name: str, *layers: Mapping[str, Any], class_name: str = "Functional") -> dict[str, Any]:
    """Return the configuration of a model."""
    return {"class_name": class_name, "config": {"name": name, "layers": list(layers)}, "name": name}


def arrays(seed: int, *, number: int = 4, channels: int = 3) -> list[Array]:
    """Return different positive arrays for every `seed`."""
    chance = np.random.default_rng(seed)
    return [chance.uniform(0.5, 2.0, channels).astype(np.float32) for _ in range(number)]


def weights(objects: Objects, names: Mapping[str, str] | None = None) -> bytes:
    """Return HDF5 with a group `<path>/vars` for every object, and their names where they are given."""
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        for path in {**objects, **(names or {})}:
            group = file.create_group(f"{path}/vars")
            if names and path in names:
                group.attrs["name"] = names[path]
            for number, array in enumerate(objects.get(path, ())):
                group.create_dataset(str(number), data=array)
    return target.getvalue()


def write(path: Path, members: Mapping[str, bytes | str], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def members(
    config: Mapping[str, Any],
    objects: Objects,
    names: Mapping[str, str] | None = None,
    version: str = "3.15.1",
) -> dict[str, bytes | str]:
    """Return the members of a `.keras` file."""
    return {
        "metadata.json": json.dumps({"keras_version": version}),
        "config.json": json.dumps(config),
        "model.weights.h5": weights(objects, names),
    }
