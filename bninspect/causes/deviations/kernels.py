"""Deviations around the batch norm, and in the number formats of the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bninspect.arithmetic.bounds import EVERY_FORM
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.rounding import narrowed
from bninspect.causes.hypothesis import Deviation
from bninspect.causes.predict import ROLES, Around, Reading
from bninspect.records import Form

if TYPE_CHECKING:
    from bninspect.causes.samples import Sample

_LEVELS = 256


def kernels(samples: Sequence[Sample]) -> Iterator[Deviation]:
    """Yield the deviations around the batch norm, and those of precision that the outputs allow."""
    yield Deviation("skipped", "around", "the batch norm skipped: y = x", lambda r, _v: replace(r, applied=0))
    yield Deviation("applied-twice", "around", "the batch norm applied twice", lambda r, _v: replace(r, applied=2))
    for name, activation in _activations().items():
        yield _around(f"{name}-after", f"followed by {name.replace('=', ' with a slope of ')}", after=activation)
    for name in ("relu", "relu6"):
        yield _around(f"{name}-before", f"preceded by {name}", before=_activations()[name])
    yield from _precisions(samples)
    if (step := _grid(np.concatenate([sample.y for sample in samples]))) is not None:
        yield _on_grid(*step)


def _around(name: str, sentence: str, *, before: Around | None = None, after: Around | None = None) -> Deviation:
    return Deviation(name, "around", sentence, lambda r, _v: replace(r, before=before, after=after), affine=False)


def _activations() -> dict[str, Around]:
    found = {
        "relu": Around(lambda y: np.maximum(y, 0.0)),
        "relu6": Around(lambda y: np.clip(y, 0.0, 6.0)),
        "sigmoid": Around(_sigmoid, 0.25, 8.0),
        "tanh": Around(np.tanh, 1.0, 8.0),
        "silu": Around(lambda y: y * _sigmoid(y), 1.1, 10.0),
        "hard-swish": Around(lambda y: y * np.clip(y + 3, 0.0, 6.0) / 6, 1.5, 8.0),
        "elu": Around(lambda y: np.where(y > 0, y, np.expm1(np.minimum(y, 0.0))), 1.0, 8.0),
    }
    for slope in (0.01, 0.1, 0.2, 0.3):
        found[f"leaky-relu={slope:g}"] = Around(partial(_leaky, slope), 1.0, 2.0)
    return found


def _leaky(slope: float, y: Float64) -> Float64:
    return np.where(y > 0, y, slope * y)


def _sigmoid(y: Float64) -> Float64:
    return np.asarray(1.0 / (1.0 + np.exp(-y)))


def _precisions(samples: Sequence[Sample]) -> Iterator[Deviation]:
    """Yield narrow types, those of the output only where every output has a value of that type."""
    for kind in ("float16", "bfloat16"):
        yield _rounded(f"parameters={kind}", f"the parameters rounded to {kind}", partial(_parameters, kind))
        yield _rounded(f"input={kind}", f"the input rounded to {kind}", partial(_input, kind), affine=False)
        yield _rounded(
            f"folded={kind}", f"scale and shift computed first, and rounded to {kind}", partial(_folded, kind)
        )
        yield _rounded(
            f"folded-apart={kind}",
            f"scale and shift computed in float32 first, and then both cast to {kind}",
            partial(_folded, kind, apart=True),
        )
        if all(_has_type(sample.y, kind) for sample in samples):
            yield _rounded(
                f"output={kind}", f"the output rounded to {kind}", partial(replace, output=kind), affine=False
            )
            yield _rounded(
                f"arithmetic={kind}",
                f"computed in {kind} throughout",
                partial(_throughout, kind),
                affine=False,
                unless=frozenset({f"output={kind}"}),
            )
    if any(Form.FOLDED not in sample.forms for sample in samples):
        yield _rounded(
            "scale-and-shift",
            "scale and shift computed first: x * scale + shift loses digits where the mean is large",
            lambda r: replace(r, forms=EVERY_FORM),
        )
    if all(sample.arithmetic == "float64" for sample in samples):
        yield _rounded("arithmetic=float32", "computed in float32", partial(_throughout, "float32"), affine=False)


def _rounded(
    name: str,
    sentence: str,
    change: Callable[[Reading], Reading],
    *,
    affine: bool = True,
    unless: frozenset[str] = frozenset(),
) -> Deviation:
    return Deviation(name, "precision", sentence, lambda r, _v: change(r), affine=affine, unless=unless)


def _parameters(kind: str, reading: Reading) -> Reading:
    return reading.using({role: narrowed(getattr(reading, role), kind) for role in ROLES})


def _input(kind: str, reading: Reading) -> Reading:
    return replace(reading, x=narrowed(reading.x, kind))


def _folded(kind: str, reading: Reading, *, apart: bool = False) -> Reading:
    return replace(reading, folded=kind, apart=apart, forms=(Form.FOLDED,))


def _throughout(kind: str, reading: Reading) -> Reading:
    """Hold every number in a narrow type; in which order a kernel works is open."""
    rounded = _input(kind, _parameters(kind, reading))
    output = reading.output if kind == "float32" else kind
    return replace(rounded, arithmetic=kind, output=output, forms=EVERY_FORM)


def _has_type(y: Float64, kind: str) -> bool:
    """Return whether all values are numbers of a narrow type, and not only because they are few or simple."""
    finite = y[np.isfinite(y)]
    return bool(finite.size and np.array_equal(narrowed(finite, kind), finite))


def _grid(y: Float64) -> tuple[float, float, float] | None:
    """Return step, lowest and highest value if all outputs lie on an even grid of at most 256 levels."""
    finite = y[np.isfinite(y)]
    levels = np.unique(finite)
    if not 4 <= levels.size <= _LEVELS or finite.size < 2 * levels.size:
        return None
    step = float(np.diff(levels).min())
    steps = (levels - levels[0]) / step
    if steps[-1] >= _LEVELS or np.abs(steps - np.rint(steps)).max() > 1e-2:
        return None
    return step, float(levels[0]), float(levels[-1])


def _on_grid(step: float, low: float, high: float) -> Deviation:
    grid = Around(lambda y: np.clip(y, low, high), blur=step * 0.51)
    return Deviation(
        "output=int8",
        "precision",
        f"the output quantised to 8 bits in steps of {step:.3g}",
        lambda r, _v: replace(r, after=grid),
        {"step": step, "minimum": low, "maximum": high},
        affine=False,
    )
