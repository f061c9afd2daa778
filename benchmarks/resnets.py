"""Writes the networks that the benchmarks measure into a cache folder, once.

    python benchmarks/resnets.py CACHE ResNet50 .h5

builds `keras.applications.ResNet50(weights=None)`, gives every batch-norm layer random parameters, and saves
it. Nothing is downloaded; the sizes of the files and the shapes in them are those of the published networks.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SEED = 20240229


def cached(cache: Path, network: str, suffix: str) -> Path:
    """Return the path of `network` with `suffix` in `cache`; a child process builds what is missing."""
    path = cache / f"{network}{suffix}"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        print(f"building {path.name} ...", flush=True)
        subprocess.run([sys.executable, __file__, str(cache), network, suffix], check=True)
    return path


def build(path: Path, network: str) -> None:
    """Build `network` of keras.applications with random batch-norm parameters and save it to `path`."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(SEED)
    generator = np.random.default_rng(SEED)
    model = getattr(keras.applications, network)(weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            # Gamma below 1: the sum over 50 residual blocks stays finite in float32.
            gamma, beta = generator.uniform(0.2, 0.8, shape), generator.normal(0, 0.1, shape)
            mean, variance = generator.normal(0, 0.2, shape), generator.uniform(0.2, 2, shape)
            layer.set_weights([gamma, beta, mean, variance])
    unfinished = path.with_name(f"unfinished-{path.name}")
    model.save(unfinished)
    unfinished.rename(path)


if __name__ == "__main__":
    folder, name, ending = sys.argv[1:]
    build(Path(folder) / f"{name}{ending}", name)
