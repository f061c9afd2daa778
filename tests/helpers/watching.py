"""What the tests of runtimes share: saving live layers as a Checkpoint, and running one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from bninspect import runtimes
from bninspect.arithmetic import compare
from bninspect.records import PARAMETERS, Array, BatchNorm, Checkpoint, Evidence, Observation, Run

Save: TypeAlias = Callable[..., Checkpoint]


POLICIES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")


def bn(k: Any, name: str, **options: Any) -> Any:
    return k.layers.BatchNormalization(name=name, **options)


def of_type(k: Any, save: Save, policy: str) -> Checkpoint:
    """Return a saved model with a batch norm of images and a flat one, both of a dtype policy."""
    options = {"dtype": policy if k.__name__ == "keras" else k.mixed_precision.Policy(policy)}
    image, flat = bn(k, "image", **options), bn(k, "flat", **options)
    x = k.Input((4, 4, 3))
    y = flat(k.layers.GlobalAveragePooling2D(**options)(image(x)))
    return save(k.Model(x, y), {"image": image, "flat": flat})


@dataclass(frozen=True, eq=False)
class Watched:
    """A run and what its last attempt observed."""

    run: Run
    observations: tuple[Observation, ...]
    attempts: int

    def of(self, layer: str, observed: str = "in-model") -> tuple[Observation, ...]:
        return tuple(one for one in self.observations if (one.layer, one.observed) == (layer, observed))

    def calls(self) -> dict[str, int]:
        """Calls of each layer in the model."""
        names = [one.layer for one in self.observations if one.observed == "in-model"]
        return {name: names.count(name) for name in dict.fromkeys(names)}


def watch(checkpoint: Checkpoint, **settings: Any) -> Watched:
    attempts: list[list[Observation]] = []

    def begin() -> runtimes.Sink:
        attempts.append([])
        return attempts[-1].append

    run = runtimes.run(checkpoint, runtimes.RunSettings(**settings), begin)
    return Watched(run, tuple(attempts[-1]), len(attempts))


def assert_all_verified(checkpoint: Checkpoint, watched: Watched, evidence: Evidence = Evidence.MODEL) -> None:
    """Every layer was seen in the model and alone, with the parameters of the file, and equals the formula."""
    assert watched.run.evidence is evidence, watched.run
    assert watched.run.unobserved == {}
    for layer in checkpoint.layers:
        for observed in ("in-model", "probed") if evidence is Evidence.MODEL else ("probed",):
            assert watched.of(layer.name, observed), f"{layer.name} was not {observed}"
        for observation in (one for one in watched.observations if one.layer == layer.name):
            assert_same_parameters(layer, observation)
            assert not observation.training
            assert observation.x.shape == observation.y.shape
            comparison = compare.judge(observation, layer)
            assert comparison.agrees, comparison


def assert_same_parameters(layer: BatchNorm, observation: Observation) -> None:
    assert observation.loaded.keys() == layer.arrays.keys()
    for name, array in layer.arrays.items():
        assert np.array_equal(observation.loaded[name], array), name
    assert observation.epsilon == layer.epsilon


def saved(path: Path, layers: Mapping[str, Any], writer: str, code: tuple[str, ...] = ()) -> Checkpoint:
    """Return the Checkpoint of a saved model whose live batch norms are `layers`, by the names that they should get."""
    return Checkpoint(
        path=str(path),
        format="keras-zip" if zipfile.is_zipfile(path) else "keras-h5",
        writer=writer,
        layers=tuple(stored(name, layer) for name, layer in layers.items()),
        architecture=_architecture(path),
        code=code,
    )


def stored(name: str, layer: Any) -> BatchNorm:
    """Return a live, built layer as a reader would find it."""
    variables = {one: getattr(layer, one) for one in PARAMETERS}
    arrays = {one: _array(variable) for one, variable in variables.items() if variable is not None}
    axis = tuple(layer.axis) if isinstance(layer.axis, (list, tuple)) else (layer.axis,)
    gamma, beta, mean, variance = (arrays.get(one) for one in PARAMETERS)
    return BatchNorm(
        name,
        gamma,
        beta,
        mean,
        variance,
        float(layer.epsilon),
        float(layer.momentum),
        axis,
        class_name="BatchNormalization",
    )


def _array(variable: Any) -> Array:
    values = variable.numpy()
    return np.asarray(values, np.float32 if values.dtype.name == "bfloat16" else values.dtype)


def _architecture(path: Path) -> str:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return archive.read("config.json").decode()
    with h5py.File(path) as file:
        text = file.attrs["model_config"]
    return json.dumps(json.loads(text))


def randomise(layers: Mapping[str, Any], seed: int = 0) -> None:
    """Give live batch norms parameters of a trained kind."""
    generator = np.random.default_rng(seed)
    for layer in layers.values():
        for name, low, high in (
            ("gamma", -2.0, 2.0),
            ("beta", -1.0, 1.0),
            ("moving_mean", -1.0, 1.0),
            ("moving_variance", 0.1, 3.0),
        ):
            variable = getattr(layer, name)
            if variable is not None:
                variable.assign(generator.uniform(low, high, tuple(variable.shape)).astype(np.float32))
