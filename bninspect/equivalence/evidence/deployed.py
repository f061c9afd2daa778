"""The outputs as the runtime computes them for everybody, against those that were proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bninspect.arithmetic.bounds import PRECISIONS, precision
from bninspect.equivalence import measuring, tensors
from bninspect.equivalence.evidence.nudges import nudge
from bninspect.equivalence.evidence.replay import FLOOR, MARGIN, RUNS
from bninspect.equivalence.evidence.rounds import Subject
from bninspect.equivalence.folding import U
from bninspect.records import Array, Comparison
from bninspect.records.graph import Network


def deployed(
    subject: Subject, given: Mapping[str, Array], values: Mapping[str, Array], rough: Mapping[str, float]
) -> tuple[Comparison, ...]:
    """Compare the outputs as the runtime computes them for everybody with those that were proved.

    Both are roundings of the same numbers. What two runtimes that compute the same differ by is what rounding does to
    this model; where there is nothing to go by, or that is not enough, the input is moved by one rounding, again and
    again.
    """
    export = subject.export
    fast = {
        name: tensors.real(array, export.quantised.get(name))
        for name, array in subject.session.optimised(given).items()
        if name in values
    }
    declared = subject.session.deployed
    unit = precision(declared.dtype).unit if declared is not None else U
    found = _held(fast, values, rough, export, unit)
    if all(one.agrees for one in found):
        return found
    moved = _moved(subject, given, values, list(fast), unit)
    return _held(fast, values, {name: max(rough.get(name, 0.0), moved[name]) for name in fast}, export, unit)


def _moved(
    subject: Subject, given: Mapping[str, Array], values: Mapping[str, Array], names: Sequence[str], unit: float
) -> dict[str, float]:
    """Return the largest change of each output when the input is moved by one rounding."""
    generator = np.random.default_rng(subject.seed)
    found = dict.fromkeys(names, 0.0)
    for _ in range(RUNS):
        nudged = {name: nudge(one, max(tensors.unit(one), unit), generator) for name, one in given.items()}
        for name, array in subject.session.compute(nudged, names).items():
            real = tensors.real(array, subject.export.quantised.get(name))
            with np.errstate(all="ignore"):
                change = np.abs(real.astype(np.float64) - values[name])
            found[name] = max(found[name], float(np.nanmax(change, initial=0.0)))
    return found


def _held(
    fast: Mapping[str, Array], values: Mapping[str, Array], rough: Mapping[str, float], export: Network, unit: float
) -> tuple[Comparison, ...]:
    compared = []
    for name, array in fast.items():
        plain = values[name]
        if array.shape != plain.shape or not plain.ndim:
            continue
        wide = plain.astype(np.float64)
        largest = float(np.abs(wide).max(initial=0.0))
        # Whole numbers may be rounded the other way, also where the file turns them back into floats at the end.
        off = MARGIN * rough.get(name, 0.0) + tensors.largest_step(tensors.grid(name, export))
        allowed = off + FLOOR * max(tensors.unit(plain), unit) * largest + 1e-37
        bound = np.full((1,) * wide.ndim, allowed)
        compared.append(
            measuring.measured(array, wide, bound, observed="optimised output", reference="plain", axis=wide.ndim - 1)
        )
    return tuple(compared)


def coarsest(export: Network, stored: Mapping[str, Array]) -> str:
    """Return the coarsest type in which operations of the export compute: of what they take and give, as they store it.

    Whole numbers are coarser than floats. What an operation rounds on its way to 8 bits counts as int8.
    """
    whole = sorted({one.dtype for name, one in export.quantised.items() if name in stored})
    if whole or any(node.quantises_input for node in export.nodes):
        return whole[0] if whole else "int8"
    floats = [array.dtype.name for array in stored.values() if array.dtype.name in PRECISIONS]
    return max(floats, key=lambda one: precision(one).unit, default="float32")
