"""Which change of the input brings the statistics back: tried, and proved by running the changed data.

A change is named only if the layers up to the first that differs fit the changed data, and the layers behind it come
much nearer too: a small difference, as of statistics that lag behind their weights, is not explained by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.records import BatchNorm, DataFit, InputChange
from bninspect.runtimes.runtime import Stream
from bninspect.statistics import changes
from bninspect.statistics.changes import Candidate
from bninspect.statistics.data import samples as sampling
from bninspect.statistics.data.samples import Batch, Samples
from bninspect.statistics.judgement import Question, distance, held_against

_SCREENED, _PROVED = 128, 512
"""Samples on which every change is tried, and those that do best are proved."""
_FINALISTS = 8
_NEARER = 1 / 3
"""Part of the distance that a change may leave at the first layers; twice that at all others."""
_NEAR = 1 / 5
"""Part of the distance in the whole model that what comes nearest may leave, to be worth a word."""
_SAME, _SLACK = 1.25, 0.01
"""Changes whose distances differ by less than this, or by less than that, cannot be told apart."""


@dataclass(frozen=True)
class Search:
    """What changes of the input explain."""

    changes: tuple[InputChange, ...]
    nearest: InputChange | None
    tried: int


@dataclass(frozen=True, eq=False)
class _Trial:
    candidate: Candidate
    input: str
    fits: Mapping[str, DataFit]
    distance: float


def search(
    stream: Stream,
    data: Samples,
    chosen: Sequence[int],
    size: int,
    layers: Sequence[BatchNorm],
    fits: Mapping[str, DataFit],
    question: Question,
) -> Search:
    """Return the changes that explain why layers differ, the best first; or else the one that comes nearest."""
    order = list(fits)
    first = next(name for name in order if fits[name].verdict == "differs")
    front = frozenset(order[: order.index(first) + 1])
    lab = _Laboratory(stream, data, size, layers, question)
    screened = _spread(chosen, _SCREENED)
    plain = lab.run(None, "", screened, front)
    trials = []
    tried = 0
    for name, candidate in _candidates(stream, data, screened):
        tried += 1
        trial = lab.run(candidate, name, screened, front)
        if trial is not None and plain is not None and trial.distance <= _NEARER * plain.distance:
            trials.append(trial)
    finalists = sorted(trials, key=lambda trial: trial.distance)[:_FINALISTS]
    chosen = _spread(chosen, _PROVED)
    whole_plain = lab.run(None, "", chosen, None) if finalists else None
    if whole_plain is None:
        return Search((), None, tried)
    whole = [
        trial
        for finalist in finalists
        if (trial := lab.run(finalist.candidate, finalist.input, chosen, None)) is not None
    ]
    found = tuple(_proved(lab, whole, whole_plain, front))
    nearest = next(iter(_ties(whole)), None)
    if found or nearest is None or not nearest.distance <= _NEAR * whole_plain.distance:
        return Search(found, None, tried)
    return Search((), _change(lab, nearest, whole_plain), tried)


def _proved(lab: _Laboratory, whole: Sequence[_Trial], plain: _Trial, front: frozenset[str]) -> Iterator[InputChange]:
    """Yield those that hold in the whole model, the best first, with what cannot be told from it."""
    held = [
        trial
        for trial in whole
        if all(name in trial.fits and trial.fits[name].verdict != "differs" for name in front)
        and trial.distance <= 2 * _NEARER * plain.distance
    ]
    for trial in _ties(held):
        yield _change(lab, trial, plain)


def _ties(trials: Sequence[_Trial]) -> Sequence[_Trial]:
    """Return the best trials, which cannot be told apart, the simplest first."""
    best = min((trial.distance for trial in trials), default=0.0)
    ties = [trial for trial in trials if trial.distance <= _SAME * best + _SLACK]
    return sorted(ties, key=lambda trial: (trial.candidate.steps, trial.distance))


def _change(lab: _Laboratory, trial: _Trial, plain: _Trial) -> InputChange:
    differing = [name for name, fit in plain.fits.items() if fit.verdict == "differs"]
    explained = tuple(name for name in differing if trial.fits[name].verdict != "differs")
    left = [trial.fits[name] for name in explained or differing[:1]]
    return InputChange(
        name=trial.candidate.name,
        sentence=trial.candidate.sentence + (f" (input {trial.input})" if lab.inputs > 1 else ""),
        effect=max(max(fit.mean.effect or 0, fit.variance.effect or 0) for fit in left),
        explains=explained,
        unexplained=tuple(name for name in differing if name not in explained),
    )


def _spread(chosen: Sequence[int], most: int) -> Sequence[int]:
    """Return at most so many of the samples, evenly spread: files are often in the order of their classes."""
    places = np.unique(np.linspace(0, len(chosen) - 1, min(most, len(chosen))).astype(int))
    return [chosen[place] for place in places]


def _candidates(stream: Stream, data: Samples, chosen: Sequence[int]) -> Iterator[tuple[str, Candidate]]:
    """Yield the changes to try, each with the input that it is of."""
    values = data.read(list(chosen))
    for name, array in values.items():
        described = next((source for source in stream.inputs if source.name == name), None)
        if array.dtype.kind in "fiu" and (described is None or described.below is None):
            for candidate in changes.candidates(array):
                yield name, candidate


class _Laboratory:
    """Runs changed data through the model."""

    def __init__(
        self,
        stream: Stream,
        data: Samples,
        size: int,
        layers: Sequence[BatchNorm],
        question: Question,
    ) -> None:
        self._stream, self._data, self._size = stream, data, size
        self._layers, self._question = layers, question
        self.inputs = len(stream.inputs)

    def run(
        self, candidate: Candidate | None, name: str, chosen: Sequence[int], front: frozenset[str] | None
    ) -> _Trial | None:
        """Return what the layers of `front`, or all, say of the changed data; None if it cannot be run."""
        try:
            fits, _ = held_against(
                self._stream, partial(self._batches, candidate, name, chosen), self._layers, self._question, front
            )
        except (RuntimeFailure, _Senseless):
            return None
        if not fits or (front is not None and not front <= fits.keys()):
            return None
        return _Trial(candidate or _NOTHING, name, fits, distance(fits.values()))

    def _batches(self, candidate: Candidate | None, name: str, chosen: Sequence[int]) -> Iterator[Batch]:
        for batch in sampling.batches(self._data, chosen, self._size):
            if candidate is None:
                yield batch
                continue
            changed = candidate.apply(batch.arrays[name])
            if changed is None or changed.shape != batch.arrays[name].shape:
                raise _Senseless
            yield Batch({**batch.arrays, name: changed}, batch.samples, batch.size)


class _Senseless(Exception):
    """The change makes no sense for this data."""


_NOTHING = Candidate("", "", "", lambda x: x, 0)
