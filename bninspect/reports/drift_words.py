"""What every output format says of data and stored statistics. All of it is plain text, names from files made inert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bninspect.records import DataFit, DataReport, Departure, LayerStatus, ModelReport
from bninspect.safe_text import printable
from bninspect.statistics.data.preparations import BY_CHANGE, PREPARATIONS

_LONGEST = 500
_MOST = 6


def verdict(model: ModelReport) -> str:
    """Return what is known of the statistics of a model, in one sentence without the verdict's word."""
    statuses = Counter(layer.status for layer in model.layers)
    fits, every = statuses[LayerStatus.VERIFIED], len(model.layers)
    told = f"the stored statistics of {fits} of {every} layer{'' if every == 1 else 's'} are those of the data"
    if statuses[LayerStatus.MISMATCH]:
        first = model.data.first if model.data else ""
        told += f"; the first that differs is {printable(first)}" if first else ""
    return f"{told}, in {printable(model.runtime or '')}"


def data(about: DataReport) -> str:
    """Return what the data was."""
    prepared = f", {printable(about.preparation, _LONGEST)}" if about.preparation else ""
    return (
        f"{about.samples:,} sample{'' if about.samples == 1 else 's'} of {printable(about.title, _LONGEST)}{prepared}"
    )


def assumptions(model: ModelReport, about: DataReport) -> str:
    """Return what was assumed, and what counts as a difference."""
    fits = [layer.fit for layer in model.layers if layer.fit is not None]
    if not fits:
        return "no layer could be held against the data"
    critical, tolerance = fits[0].critical, fits[0].tolerance
    batch = f"batches of {about.trained_batch} in training"
    batch += " (assumed; --trained-batch says it)" if about.trained_batch_assumed else ""
    momenta = sorted({fit.momentum for fit in fits})
    said = ", ".join(f"{momentum:g}" for momentum in momenta[:3]) + (" ..." if len(momenta) > 3 else "")
    guessed = " (assumed: the file does not state it)" if any(fit.momentum_assumed for fit in fits) else ""
    return (
        f"differs: off by more than {critical:.1f} standard errors and by more than {tolerance:g} deviations "
        f"(or in log variance); {batch}, momentum {said}{guessed}"
    )


def figures(fit: DataFit) -> str:
    """Return how far a layer is off."""
    return f"{_part('mean', fit.mean)}; {_part('log variance', fit.variance)}"


def _part(what: str, part: Departure) -> str:
    beyond = f", {part.beyond} beyond" if part.beyond else ""
    return f"{what} off {number(part.effect)} at most (z {number(part.z)}), median {number(part.effect_median)}{beyond}"


def number(value: float | None) -> str:
    """Return a number in as many digits as it deserves."""
    return "not finite" if value is None else f"{value:.2g}" if abs(value) < 99.5 else f"{value:,.0f}"


def cause(about: DataReport) -> Iterator[str]:
    """Yield what explains that layers differ: the change and what cannot be told from it, or what is left."""
    if not about.changes:
        yield f"none of {about.tried} changes of the input explains it. Left are:"
        yield "data that is not like that of the training, or statistics that lag behind the weights"
        yield "(still training, averaged, pruned, fine-tuned), which bninspect recalibrate cures"
        if about.nearest is not None:
            said = printable(about.nearest.sentence, _LONGEST)
            yield f"the nearest is: {said}; {number(about.nearest.effect)} is left, which is more than it should be"
        return
    for place, change in enumerate(about.changes[:_MOST]):
        layers = f"explains {_named(change.explains)}"
        layers += f"; not {_named(change.unexplained)}" if change.unexplained else ""
        yield f"{'or ' if place else ''}{printable(change.sentence, _LONGEST)} ({layers})"
    if len(about.changes) > 1:
        yield "these cannot be told apart on this data"
    if name := BY_CHANGE.get(about.changes[0].name):
        yield f"to try it on this data: --prepare {name} ({PREPARATIONS[name][0]})"


def _named(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    return printable(names[0]) + (f" to {printable(names[-1])}, {len(names)} layers" if len(names) > 1 else "")


def reserves(model: ModelReport) -> Iterator[str]:
    """Yield what the verdict depends on."""
    fits = [layer.fit for layer in model.layers if layer.fit is not None]
    shown = [fit.resolution for fit in fits if fit.resolution is not None]
    if shown and all(fit.verdict == "fits" for fit in fits):
        yield f"a shift of {max(shown):.2g} deviations would have been seen in the median channel of every layer"
    if flips := sum(fit.flips for fit in fits):
        yield f"in {flips} layers the standard errors would decide otherwise for other batch sizes: the effect decides"
