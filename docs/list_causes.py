"""The page of what the detective can name; `generate.py` writes it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bninspect.causes.deviations.fitted import free_numbers
from bninspect.causes.deviations.kernels import kernels
from bninspect.causes.deviations.parameters import scaling
from bninspect.causes.deviations.permuted import read_beside
from bninspect.causes.deviations.sources import Relative, sources
from bninspect.causes.hypothesis import AXES, Deviation
from bninspect.causes.predict import ROLES
from bninspect.causes.samples import sample
from bninspect.records import BatchNorm, Form, Observation

_TITLES = {
    "layer": "Parameters of another layer",
    "arrays": "Axis, memory layout and order of the channels",
    "roles": "Order of the four arrays",
    "precision": "Number formats",
    "variance": "What the variance is taken for",
    "statistics": "Which statistics",
    "epsilon": "Value of epsilon",
    "gamma": "Gamma",
    "beta": "Beta",
    "mean": "Mean",
    "root": "Place of epsilon, and the denominator",
    "around": "Around the batch norm",
    "factor": "A factor on input or output",
}
_INTRODUCTION = """# Causes

What `bninspect verify` and `bninspect explain` may name as the cause of a difference. Each is a reading of the stored
parameters, and is named only if it explains every value within its own rounding bound. If none of them does, numbers
are fitted (an epsilon that nobody lists, a common factor, an order of the channels), and then pairs are tried. All that
fit are reported. Momentum and the estimator of the moving variance take no part in inference: they are never a cause.

`K` stands for a number or a name. Written by `python docs/generate.py`.
"""


def markdown() -> str:
    """Return the list as Markdown."""
    parts = [_INTRODUCTION]
    entries = _entries()
    for axis in AXES:
        rows = [f"- `{name}`: {sentence}" for name, sentence in entries[axis].items()]
        parts.append(f"## {_TITLES[axis]}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _entries() -> dict[str, dict[str, str]]:
    """Return name and sentence of every deviation, by axis; of those that differ in a number alone, the first."""
    found: dict[str, dict[str, str]] = {axis: {} for axis in AXES}
    for deviation in _every():
        family, equals, _ = deviation.name.partition("=")
        same = [name for name in found[deviation.axis] if name.startswith(f"{family}=")]
        if not (equals and same):
            found[deviation.axis][f"{family}=K" if equals else family] = deviation.sentence
    return found


def _every() -> Iterator[Deviation]:
    """Yield the deviations that apply to a layer to which all of them apply."""
    random = np.random.default_rng(0)
    arrays = {role: random.uniform(0.5, 2, 12) for role in ROLES}
    layer = BatchNorm("bn", arrays["gamma"], arrays["beta"], arrays["mean"], arrays["variance"], 1e-3)
    x = random.normal(size=(2, 12, 5, 12)).astype(np.float32)
    grid = np.resize(np.arange(-8.0, 8.0), x.shape).astype(np.float32)
    narrow = sample(layer, Observation("bn", "", x, grid, (3,), form=Form.CENTRED))
    tall = sample(layer, Observation("bn", "", x[:, :7], grid[:, :7], (3,), form=Form.CENTRED))
    yield from scaling(1e-3, has_zero=True)
    yield from sources([narrow], arrays, [Relative("K", {role: -arrays[role] for role in ROLES}, "of K used instead")])
    yield from sources([tall], arrays, [])
    yield from kernels([narrow])
    for number in free_numbers(1e-3):
        yield number.build(3.0)
    for step in (-1, 1):
        yield read_beside(step, 12, 1.0, 0.0)
