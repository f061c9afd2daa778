"""The detective: single deviations first, then those with a fitted number, then pairs. All that fit are reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bninspect.causes import remarks as wording
from bninspect.causes.deviations.fitted import fitted, free_epsilon
from bninspect.causes.deviations.kernels import kernels
from bninspect.causes.deviations.parameters import scaling
from bninspect.causes.deviations.permuted import permuted
from bninspect.causes.deviations.sources import Relative, sources
from bninspect.causes.fit import Fit, LayerViews, fit
from bninspect.causes.hypothesis import Deviation, Hypothesis
from bninspect.causes.predict import Arrays, View, arrays_of
from bninspect.errors import BninspectError
from bninspect.records import BatchNorm, Cause, Explanation
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.causes.samples import Sample

_CHANCE = 0.01
"""How likely a coincidence may be for a pair to count: thousands are tried."""

_LIKELY = 0.1
"""Number of single deviations that may be expected to fit by chance before it is said."""

_FITTED_ON = frozenset({"epsilon", "gamma", "beta", "mean", "root", "statistics", "roles", "around", "arrays"})
"""Axes whose single deviations are tried together with a fitted number."""


def explain(layer: BatchNorm, samples: Sequence[Sample], others: Iterable[BatchNorm] = ()) -> Explanation:
    """Name the convention that was broken: which readings of the stored parameters explain every output.

    Args:
        layer: the stored layer. Its epsilon may be unknown: then the epsilons that fit are the answer.
        samples: of its calls (`sample`), at least one.
        others: further layers of the model, whose parameters may have been used by mistake.

    Raises:
        BninspectError: there is no sample, or the layer's parameters are not complete or do not fit it.
    """
    views = [View.of(layer, sample) for sample in samples]
    if not views:
        raise BninspectError("there is nothing to explain")
    evidence = LayerViews.of(views)
    elements = sum(view.sample.y.size for view in views)
    if evidence.matches:
        return Explanation(matches=True, causes=(), tried=0, elements=elements)
    singles = tuple(_singles(layer, samples, views, others))
    tried, found = 0, dict[Hypothesis, Fit]()
    alone = ((single,) for single in singles)
    for stage in (alone, _with_number(evidence), _pairs(singles, evidence), _numbers(singles, evidence)):
        for hypothesis in stage:
            tried += 1
            how_well = fit(hypothesis, evidence)
            if how_well is not None:
                found[hypothesis] = how_well
        if found:
            break
    found = _narrowest(found)
    causes = _causes(found, evidence)
    doubt = _doubt(evidence, len(singles), some=bool(causes))
    remarks = (doubt,) if doubt else () if causes else wording.remarks(evidence, singles)
    return Explanation(matches=False, causes=causes, tried=tried, elements=elements, remarks=remarks, decided=not doubt)


def _doubt(evidence: LayerViews, hypotheses: int, *, some: bool) -> str:
    """Return why the elements decide nothing; empty if they do.

    Args:
        evidence: the elements.
        hypotheses: how many single deviations were tried.
        some: whether any hypothesis fits.
    """
    if some:
        return wording.FEW_DIGITS if hypotheses * _coincidence(evidence) > _LIKELY else ""
    interval = free_epsilon(evidence.views, evidence.lines)
    return "" if interval is None else wording.one_channel(*interval)


def _singles(
    layer: BatchNorm, samples: Sequence[Sample], views: Sequence[View], others: Iterable[BatchNorm]
) -> Iterator[Deviation]:
    yield from scaling(views[0].epsilon, has_zero=bool((views[0].arrays.get("variance", np.ones(1)) == 0).any()))
    yield from sources(samples, views[0].arrays, _relatives(layer, samples, others))
    yield from kernels(samples)


def _relatives(layer: BatchNorm, samples: Sequence[Sample], others: Iterable[BatchNorm]) -> tuple[Relative, ...]:
    """Return what else of the same width there is: the parameters that the runtime loaded, and the other layers'."""
    own = arrays_of(layer.arrays)
    loaded = arrays_of(dict(samples[0].loaded))
    relatives = [Relative("the runtime", loaded, "used as the runtime loaded it, which is not what the file holds")]
    for other in others:
        if other.name != layer.name:
            said = f"of {printable(other.name)} used instead of its own"
            relatives.append(Relative(printable(other.name), arrays_of(other.arrays), said))
    return tuple(relative for relative in relatives if relative.arrays and _widths(relative.arrays) == _widths(own))


def _widths(arrays: Arrays) -> set[int]:
    return {array.size for array in arrays.values()}


def _with_number(evidence: LayerViews) -> Iterator[Hypothesis]:
    for view, measured in zip(evidence.views, evidence.lines, strict=True):
        yield from ((one,) for one in permuted(view, measured))
    yield from ((one,) for one in fitted((), evidence.views, evidence.lines))


def _pairs(singles: Sequence[Deviation], evidence: LayerViews) -> Iterator[Hypothesis]:
    """Yield the pairs of deviations on different axes; what bends a line is among them where the output is bent."""
    eligible = [single for single in singles if single.axis != "layer"]
    pairs = [(a, b) for a, b in combinations(eligible, 2) if a.axis != b.axis]
    if evidence.bent:
        pairs = [(a, b) for a, b in pairs if not (a.affine and b.affine)]
    if len(pairs) * _coincidence(evidence) <= _CHANCE:
        yield from pairs


def _numbers(singles: Sequence[Deviation], evidence: LayerViews) -> Iterator[Hypothesis]:
    """Yield fitted numbers on top of single deviations: fitted on few elements, where most fail, then on all."""
    if len(singles) * _coincidence(evidence) > _CHANCE:
        return
    for single in singles:
        base = (single,)
        eligible = single.axis in _FITTED_ON and not (evidence.bent and single.affine)
        if eligible and any(True for _ in fitted(base, evidence.few, evidence.few_lines)):
            yield from ((single, number) for number in fitted(base, evidence.views, evidence.lines))


def _coincidence(evidence: LayerViews) -> float:
    """Return how likely a wrong hypothesis explains the difference by chance, from the digits that are known.

    A channel has two numbers to tell, its slope and its intercept, so at most two elements of each count.
    """
    chance = 1.0
    for view, unexplained in zip(evidence.few, evidence.few_unexplained, strict=True):
        told: dict[int, set[float]] = {}
        for place in np.flatnonzero(unexplained & np.isfinite(view.sample.y)):
            xs = told.setdefault(int(view.channel[place]), set())
            if len(xs) < 2 and float(view.sample.x[place]) not in xs:
                xs.add(float(view.sample.x[place]))
                chance *= _known_to(view, int(place))
    return chance


def _known_to(view: View, place: int) -> float:
    """Return the uncertainty of an output as a share of its size."""
    y = abs(float(view.sample.y[place]))
    half = view.sample.half_digits.get("y")
    off = 2.0**-20 * y + (0.0 if half is None else float(half[place]))
    return min(1.0, 2 * off / y) if y > 0 else 1.0


def _narrowest(found: dict[Hypothesis, Fit]) -> dict[Hypothesis, Fit]:
    """Return what fits without the readings whose wide bounds take in one that fits as well and says more."""
    names = {deviation.name for hypothesis in found for deviation in hypothesis}
    kept = {h: how_well for h, how_well in found.items() if not any(names & deviation.unless for deviation in h)}
    return kept or found


def _causes(found: dict[Hypothesis, Fit], evidence: LayerViews) -> tuple[Cause, ...]:
    names = {hypothesis: " + ".join(deviation.name for deviation in hypothesis) for hypothesis in found}
    first = next(iter(found), ())
    return tuple(
        Cause(
            name=names[hypothesis],
            sentence="; ".join(deviation.sentence for deviation in hypothesis),
            ratio=how_well.ratio,
            explains=how_well.share,
            details={key: value for deviation in hypothesis for key, value in deviation.details.items()},
            ties=tuple(name for other, name in names.items() if other != hypothesis),
            separated_by=wording.separated_by(first, hypothesis, list(found), evidence),
        )
        for hypothesis, how_well in found.items()
    )
