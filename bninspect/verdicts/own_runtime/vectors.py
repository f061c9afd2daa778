"""Test vectors: inputs for every batch norm of a model, and what a right runtime returns for them.

They are made so that a wrong formula cannot hide: every channel gets its mean exactly, an even grid to 8 deviations
either side and random values around it, in an array whose lengths all differ, with several samples and places. What
the stored parameters themselves cannot tell apart, such as gamma from |gamma| where all are positive, the probe can: a
batch norm of distinct random parameters of both signs, with three tiny variances, in which no two of the detective's
hypotheses agree.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import PurePath

import numpy as np

from bninspect.arithmetic import bounds
from bninspect.arithmetic.formula import Parameters, normalise
from bninspect.errors import UsageError
from bninspect.exporters import npz
from bninspect.exporters.keys import keys
from bninspect.records import Array, BatchNorm, Checkpoint
from bninspect.safe_text import printable
from bninspect.version import __version__

SCHEMA = "bninspect-vectors"
VERSION = 1
DESCRIPTION = "__vectors__"
README = "__readme__"
PROBE = "__probe__"
_LENGTHS = (3, 5, 7)
"""Samples, height and width: all different, so that a wrong axis cannot fit."""

TEXT = """\
Test vectors of bninspect {version} for {file}.

  <layer>/x       float32  what to put into the layer; its channels are along `axis` of the description
  <layer>/y       float64  gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta, computed in float64
  <layer>/bound   float64  by how much a float32 runtime may differ from y, element by element
  __probe__/...   the same for one batch norm whose parameters are here as well: gamma, beta, moving_mean,
                  moving_variance and epsilon. Channels are along the last axis. It tells what a model cannot.
  __vectors__     JSON: the layers in order, with the name, key, axis and epsilon of each

Run your own batch norm on every x, write what it returns as <layer>/y with numpy.savez, and ask

  bninspect verify {file} --against outputs.npz
"""


@dataclass(frozen=True, eq=False)
class Vector:
    """The test of one layer."""

    layer: BatchNorm
    key: str
    axis: tuple[int, ...]
    """Of x, each 0 <= axis < x.ndim."""
    x: Array


def vectors(checkpoint: Checkpoint, seed: int) -> tuple[Vector, ...]:
    """Return the inputs for every layer of a model, the probe last. The same model and seed give the same bytes.

    Those of a layer are the same whichever others are chosen beside it, and others for any other parameter.

    Raises:
        UsageError: a layer lacks what the formula needs, or uses other than its moving statistics.
        DamagedFile: an array is missing or of another shape.
    """
    pairs = _keyed(checkpoint.layers)
    return tuple(_vector(layer, key, seed) for layer, key in (*pairs, (probe(seed), PROBE)))


def expected(vector: Vector) -> tuple[Array, Array]:
    """Return what a right runtime returns for a vector, and by how much one may be off that computes in float32.

    Both are float64.
    """
    parameters = Parameters.of(vector.layer)
    y = normalise(parameters, vector.x, axis=vector.axis)
    allowed = [bounds.bound(parameters, vector.x, y, form=form, axis=vector.axis) for form in bounds.EVERY_FORM]
    return y, np.maximum.reduce(allowed)


def probe(seed: int) -> BatchNorm:
    """Return the batch norm in which no two hypotheses agree: numerics measured on 81 of them."""
    generator = np.random.default_rng([seed, 81])
    channels = 12
    variance = generator.uniform(0.1, 3, channels)
    mean = generator.normal(size=channels)
    tiny = [2, 5, 8]
    variance[tiny], mean[tiny] = (1e-8, 1e-6, 1e-4), mean[tiny] * 1e-3
    sign = np.where(np.arange(channels) % 2 == 0, 1.0, -1.0)
    arrays = (generator.uniform(0.5, 2, channels) * sign, generator.normal(size=channels), mean, variance)
    stored = tuple(array.astype(np.float32) for array in arrays)
    gamma, beta, moving_mean, moving_variance = stored
    return BatchNorm(
        PROBE, gamma, beta, moving_mean, moving_variance, epsilon=1e-3, axis=(-1,), scale=True, center=True
    )


def _vector(layer: BatchNorm, key: str, seed: int) -> Vector:
    if why := layer.statistics.elsewhere:
        raise UsageError(
            f"there are no vectors for layer '{printable(layer.name)}'",
            why=why,
            hint=f"--exclude-layer '{printable(layer.name)}'",
        )
    of = Parameters.of(layer)
    stated = layer.axis or (-1,)
    rank = max(of.mean.ndim, *(number + 1 for number in stated)) if len(stated) > 1 else max(4, stated[0] + 1)
    axis = tuple(sorted(number % rank for number in stated))
    lengths = {number: of.mean.shape[number] if len(axis) > 1 else layer.channels for number in axis}
    free = chain(_LENGTHS, repeat(1))
    shape = tuple(lengths[place] if place in lengths else next(free) for place in range(rank))
    return Vector(layer, key, axis, _inputs(of, shape, axis, (seed, *_identity(layer, key))))


def _identity(layer: BatchNorm, key: str) -> bytes:
    """Return a number that another layer, other parameters or another epsilon do not have.

    The inputs lie so many deviations off the mean, so that what is right for them hardly depends on either: were they
    in the same order for all, outputs for the vectors of another epsilon would be right here, too.
    """
    parts = [key.encode(), repr((layer.epsilon, layer.axis)).encode()]
    parts += [name.encode() + np.ascontiguousarray(array).tobytes() for name, array in layer.arrays.items()]
    return hashlib.sha256(b"\0".join(parts)).digest()


def _inputs(of: Parameters, shape: tuple[int, ...], axis: tuple[int, ...], seed: tuple[int, ...]) -> Array:
    """Return the values of x: per channel a shuffled grid with the mean in it, and random ones around."""
    generator = np.random.default_rng(seed)
    channels = of.mean.size
    count = int(np.prod([length for place, length in enumerate(shape) if place not in axis]))
    # An odd number of steps, so that one of them is the mean.
    even = np.linspace(-8, 8, min(33, count - 1 + count % 2))
    grid = np.concatenate([even, [-1e-3, 1e-3, -100, 100]])[:count]
    steps = np.concatenate([grid, 2 * generator.normal(size=count - grid.size)])
    order = np.stack([generator.permutation(count) for _ in range(channels)], axis=1)
    with np.errstate(all="ignore"):
        deviation = np.where(np.isfinite(of.root) & (of.root > 0), of.root, 1.0).reshape(-1)
    mean = np.where(np.isfinite(of.mean), of.mean, 0.0).reshape(-1)
    values = (mean + steps[order] * deviation).astype(np.float32)
    others = [length for place, length in enumerate(shape) if place not in axis]
    lengths = [shape[place] for place in axis]
    x = np.moveaxis(values.reshape(*others, *lengths), range(len(others), len(shape)), axis)
    x = np.ascontiguousarray(x)
    x.flags.writeable = False
    return x


def of_layers(arrays: Mapping[str, Array], which: str, layers: Iterable[BatchNorm]) -> dict[str, Array]:
    """Return the arrays `<layer>/x` or `<layer>/y` of these layers by name; `arrays` themselves if there are none."""
    names = {layer.name: f"{key}/{which}" for layer, key in _keyed(layers)}
    found = {name: arrays[key] for name, key in names.items() if key in arrays}
    return found or dict(arrays)


def _keyed(layers: Iterable[BatchNorm]) -> Iterator[tuple[BatchNorm, str]]:
    every = tuple(layers)
    return zip(every, keys(layer.name for layer in every), strict=True)


def encode(checkpoint: Checkpoint, seed: int) -> bytes:
    """Return the vectors of a model as a .npz file. Raises as `vectors`."""
    found = vectors(checkpoint, seed)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in _arrays(checkpoint, found, seed):
            npz.add(archive, name, array)
    return buffer.getvalue()


def _arrays(checkpoint: Checkpoint, found: tuple[Vector, ...], seed: int) -> Iterator[tuple[str, Array]]:
    file = PurePath(checkpoint.path).name
    yield README, np.array(TEXT.format(version=__version__, file=printable(file)))
    yield DESCRIPTION, np.array(json.dumps(_description(checkpoint, found, seed), separators=(",", ":")))
    for vector in found:
        y, bound = expected(vector)
        if vector.key == PROBE:
            for name, array in vector.layer.arrays.items():
                yield f"{PROBE}/{name}", array
            yield f"{PROBE}/epsilon", np.array(vector.layer.epsilon)
        yield f"{vector.key}/x", vector.x
        yield f"{vector.key}/y", y
        yield f"{vector.key}/bound", bound


def _description(checkpoint: Checkpoint, found: tuple[Vector, ...], seed: int) -> Mapping[str, object]:
    return {
        "schema": SCHEMA,
        "schema_version": VERSION,
        "tool": {"name": "bninspect", "version": __version__},
        "source": {"file": PurePath(checkpoint.path).name, "sha256": checkpoint.sha256},
        "seed": seed,
        "layers": [_described(vector) for vector in found if vector.key != PROBE],
        "probe": next((_described(vector) for vector in found if vector.key == PROBE), None),
    }


def _described(vector: Vector) -> Mapping[str, object]:
    return {
        "name": vector.layer.name,
        "key": vector.key,
        "axis": list(vector.axis),
        "epsilon": vector.layer.epsilon,
        "channels": vector.layer.channels,
    }
