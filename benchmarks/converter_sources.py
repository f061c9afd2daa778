"""Writes the models of a family with what they compute; started by converters.py, in the framework's environment.

    python converter_sources.py CACHE keras|torch

Beside each model stand the inputs, the outputs of its own framework, and by how much these change when every stored
number and every input moves by at most one rounding of a kind: the largest of so many runs. The same for the inputs
halved, which what was calibrated on the whole ones does not cut off.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from converter_cells import source_folder
from converter_patterns import BY_NAME, STORED, UNITS, generator, inputs, nudged

RUNS = 4
MEDIAN = " median"
"""Behind the name of a kind: of the median change."""
HALVED = " halved"
"""Behind the name of an array: of the inputs divided by two."""


def known(compute: Any, own: list[Any], x: Any, name: str) -> dict[str, Any]:
    """Return the inputs of a pattern, what its own arrays make of them whole and halved, and how much that changes."""
    found: dict[str, Any] = {"x": x}
    for ending, taken in (("", x), (HALVED, (x / 2).astype(x.dtype))):
        found[f"y{ending}"] = expected = compute(own, taken)
        found |= {f"{kind}{ending}": most for kind, most in spread(compute, own, taken, expected, name).items()}
    compute(own, x)
    return found


def spread(compute: Any, arrays: list[Any], x: Any, expected: Any, name: str) -> dict[str, float]:
    """Return the largest change of the outputs for each kind of rounding, and the largest of the median changes.

    Args:
        compute: takes arrays in place of the model's own, and inputs, and returns outputs.
        arrays: those of the model.
        x: the inputs.
        expected: the outputs.
        name: of the pattern, which decides the random numbers.
    """
    numbers = generator(name + " roundings")
    most = {}
    for kind in UNITS:
        changes = []
        for _ in range(RUNS):
            moved = [nudged(array, kind, numbers, STORED).astype(array.dtype) for array in arrays]
            y = compute(moved, nudged(x, kind, numbers, UNITS).astype(x.dtype))
            changes.append(np.abs(y.astype(np.float64) - expected))
        most[kind] = max(float(change.max()) for change in changes)
        most[f"{kind}{MEDIAN}"] = max(float(np.median(change)) for change in changes)
    return most


def write_keras(folder: Path, name: str) -> None:
    """Write a pattern's model of Keras as .keras (of Keras 2: .h5) and SavedModel."""
    import keras_patterns

    model = keras_patterns.build(name)
    x, every = inputs(BY_NAME[name], tuple(model.inputs[0].shape[1:]))
    own = keras_patterns.weights_of(model)

    def compute(arrays: list[Any], x: Any) -> Any:
        model.set_weights(arrays)
        return np.asarray(model(x, training=False), np.float64)

    found = known(compute, own, x, name)
    if name in keras_patterns.KERAS_2:
        model.save(folder / "model.h5")
        model.export(str(folder / "saved_model"))
    else:
        model.save(folder / "model.keras")
        model.export(str(folder / "saved_model"), verbose=False)
    np.savez(folder / "expected.npz", every=every, **found)


def write_torch(folder: Path, name: str) -> None:
    """Write a pattern's module as an exported program of a batch of one."""
    import torch
    import torch_patterns

    module = torch_patterns.build(name)
    x, every = inputs(BY_NAME[name], torch_patterns.shape(name))
    state = [(key, value) for key, value in module.state_dict().items() if value.is_floating_point()]
    own = [value.numpy().copy() for _, value in state]

    def compute(arrays: list[Any], x: Any) -> Any:
        module.load_state_dict(
            {key: torch.from_numpy(array) for (key, _), array in zip(state, arrays, strict=True)}, strict=False
        )
        return module(torch.from_numpy(x)).numpy().astype(np.float64)

    found = known(compute, own, x, name)
    torch.export.save(torch.export.export(module, (torch.from_numpy(x[:1]),)), folder / "model.pt2")
    np.savez(folder / "expected.npz", every=every, **found)


def main() -> None:
    """Write every pattern of a family that is not there yet."""
    cache, family = Path(sys.argv[1]), sys.argv[2]
    if family == "keras":
        import keras_patterns

        write, names = write_keras, list(keras_patterns.BUILDERS)
    else:
        import torch_patterns

        write, names = write_torch, list(torch_patterns.BUILDERS)
    for name in names:
        folder = source_folder(cache, family, name)
        if not (folder / "expected.npz").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write(folder, name)


if __name__ == "__main__":
    main()
