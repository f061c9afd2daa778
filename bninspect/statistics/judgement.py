"""From what arrived at the layers of a model to a verdict on each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bninspect.records import BatchNorm, DataFit
from bninspect.runtimes.runtime import Stream
from bninspect.statistics.data.samples import Batch
from bninspect.statistics.fit import Trained, critical, judge
from bninspect.statistics.measure import Measured, measure


@dataclass(frozen=True)
class Question:
    """What is known of the training, and what is allowed."""

    trained: Trained
    tolerance: float
    """Largest effect that does not count."""


def judged(layers: Sequence[BatchNorm], measured: Measured, question: Question) -> Mapping[str, DataFit]:
    """Return whether each layer that was reached fits, in the order in which they were reached."""
    by_name = {layer.name: layer for layer in layers}
    channels = sum(layer.channels for layer in layers)
    fits: dict[str, DataFit] = {}
    first = ""
    for name, found in measured.populations.items():
        if found.finite:
            limit = critical(channels, found.samples)
            fit = judge(by_name[name], found, question.trained, limit, question.tolerance)
            fits[name] = replace(fit, inherited=first) if fit.verdict == "differs" else fit
            first = first or (name if fit.verdict == "differs" else "")
    return fits


def held_against(
    stream: Stream,
    batches: Callable[[], Iterable[Batch]],
    layers: Sequence[BatchNorm],
    question: Question,
    until: frozenset[str] | None = None,
    began: Callable[[int], None] = lambda _: None,
) -> tuple[Mapping[str, DataFit], Measured]:
    """Run data through a model and return whether each layer that was reached fits, and what arrived.

    A layer that differs in inference mode, in a model that has dropout or augmentation, is held against what arrives
    with these as well: its statistics were made with them. If it fits so, it fits.

    Args:
        stream: the model.
        batches: the data, as often as it is asked for.
        layers: all that are tested.
        question: what is known of the training, and what is allowed.
        until: layers after which the rest of the model need not run.
        began: is told how many samples have gone through.
    """
    chosen = [layer for layer in layers if until is None or layer.name in until]
    measured = measure(stream.forward, batches(), chosen, until, began)
    fits = judged(layers, measured, question)
    if stream.noisy is None or all(fit.verdict != "differs" for fit in fits.values()):
        return fits, measured
    noisy = judged(layers, measure(stream.noisy, batches(), chosen, until, began), question)
    merged: dict[str, DataFit] = {}
    first = ""
    for name, fit in fits.items():
        other = noisy.get(name, fit)
        if fit.verdict == "differs" and distance([other]) < distance([fit]):
            fit = replace(other, noisy=True)  # noqa: PLW2901 - the nearer one
        merged[name] = replace(fit, inherited=first if fit.verdict == "differs" else "")
        first = first or (name if fit.verdict == "differs" else "")
    return merged, measured


def distance(fits: Iterable[DataFit]) -> float:
    """Return how far layers are off, all in all: the root of the mean square of their typical and largest effects."""
    parts = [part for fit in fits for part in (fit.mean, fit.variance)]
    squares = [_square(part.effect) + _square(part.effect_median) for part in parts]
    return math.sqrt(sum(squares) / max(1, len(squares)))


def _square(effect: float | None) -> float:
    return math.inf if effect is None else effect * effect
