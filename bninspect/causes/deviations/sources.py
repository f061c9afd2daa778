"""Deviations in which numbers are used: of another axis, channel, layer or array, or statistics of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.causes.hypothesis import Deviation
from bninspect.causes.predict import NEUTRAL, ROLES, Arrays, Reading, Role, View

if TYPE_CHECKING:
    from bninspect.causes.samples import Flat, Sample, SampleMoments

Place: TypeAlias = Callable[[View], "Flat"]
"""The channel whose parameters each element gets."""

_PAIRS: Mapping[str, tuple[Role, ...]] = {
    "": ROLES,
    "statistics-": ("mean", "variance"),
    "affine-": ("gamma", "beta"),
}
_SAID = {"": "the parameters", "statistics-": "mean and variance", "affine-": "gamma and beta"}


@dataclass(frozen=True, eq=False)
class Relative:
    """Another set of parameters of the same width: of another layer, or as a runtime loaded them."""

    name: str
    arrays: Arrays
    said: str
    """Ends a sentence that begins with what is used from it."""


def sources(samples: Sequence[Sample], arrays: Arrays, relatives: Sequence[Relative]) -> Iterator[Deviation]:
    """Yield the deviations in which numbers are used.

    Args:
        samples: of the layer; the first says what shapes and statistics there are.
        arrays: the layer's parameters.
        relatives: what else might have been used in their place.
    """
    sample = samples[0]
    yield from _statistics(sample)
    yield from _axes(sample)
    yield from _channels(sample)
    yield from _roles(tuple(arrays))
    for relative in relatives:
        yield from _relatives(relative, arrays)


def placed(
    name: str, sentence: str, place: Place, roles: tuple[Role, ...] = ROLES, *, affine: bool = True
) -> Deviation:
    """Return the deviation that elements get the parameters of other channels, in the given roles."""

    def change(reading: Reading, view: View) -> Reading:
        channel = place(view)
        return reading.using({role: view.column(role, channel) for role in roles})

    return Deviation(name, "arrays", sentence, change, affine=affine)


def _axes(sample: Sample) -> Iterator[Deviation]:
    shape, axis = sample.shape, sample.axis
    if len(axis) != 1:
        return
    (own,) = axis
    channels, inner = shape[own], int(np.prod(shape[own + 1 :]))
    for other in range(len(shape)):
        if other != own and shape[other] == channels > 1:
            yield placed(
                f"axis={other}",
                f"the parameters run along axis {other} of the input instead of axis {own}",
                partial(_along, other),
                affine=False,
            )
    # Where the other end of the shape has the same length, a layout is an axis.
    outer = int(np.prod(shape[1:own]))
    if own and channels > 1 and inner * outer > 1:
        if inner > 1 and shape[-1] != channels:
            yield placed(
                "layout=channels-last",
                "the input's memory read as channels last, although the channels come first",
                lambda view: view.sample.flat % channels,
                affine=False,
            )
        if outer > 1 and shape[1] != channels:
            size = int(np.prod(shape[1:]))
            yield placed(
                "layout=channels-first",
                "the input's memory read as channels first, although the channels come last",
                lambda view: view.sample.flat % size // (size // channels),
                affine=False,
            )


def _along(axis: int, view: View) -> Flat:
    return view.sample.along((axis,))


def _channels(sample: Sample) -> Iterator[Deviation]:
    channels = int(np.prod([sample.shape[a] for a in sample.axis]))
    if channels < 2:
        return
    yield from _without_last(channels)
    for prefix, roles in _PAIRS.items():
        said = _SAID[prefix]
        yield placed(
            f"{prefix}channels=reversed",
            f"{said} of the channels in reverse order",
            lambda view: channels - 1 - view.channel,
            roles,
        )
        for step in (1, -1) if channels > 2 else ():
            yield placed(
                f"{prefix}channels=rolled {step:+d}",
                f"{said} of the {'next' if step > 0 else 'previous'} channel in each channel",
                partial(_shifted, step, channels),
                roles,
            )


_LAST: Mapping[str, tuple[str, Mapping[Role, float]]] = {
    "zero": ("its output is 0", {"gamma": 0.0, "beta": 0.0, "mean": 0.0, "variance": 1.0}),
    "neutral": ("it has gamma 1, beta 0, mean 0 and variance 1", NEUTRAL),
    "skipped": ("its input is passed on", {**NEUTRAL, "gamma": np.inf}),
}


def _without_last(channels: int) -> Iterator[Deviation]:
    """Yield that the arrays were read without their last number."""
    for name, (said, values) in _LAST.items():
        change = partial(_last_given, channels - 1, values)
        yield Deviation(f"last-channel={name}", "arrays", f"the last channel is missing: {said}", change)


def _last_given(last: int, values: Mapping[Role, float], reading: Reading, view: View) -> Reading:
    # What divides by sqrt(1 + epsilon) passes on what was multiplied by it.
    used = {role: float(np.sqrt(1.0 + reading.epsilon)) if value == np.inf else value for role, value in values.items()}
    return reading.using({role: np.where(view.channel == last, used[role], view.column(role)) for role in ROLES})


def _shifted(step: int, channels: int, view: View) -> Flat:
    return (view.channel + step) % channels


def _roles(present: tuple[Role, ...]) -> Iterator[Deviation]:
    """Yield every other way to give the arrays that are there to the four parameters."""
    for targets in permutations(ROLES, len(present)):
        if targets == present:
            continue
        taken = dict(zip(targets, present, strict=True))
        yield Deviation(
            f"roles={','.join(taken.get(role, '-') for role in ROLES)}",
            "roles",
            _said_of_roles(taken, present),
            partial(_reassigned, taken),
        )


def _said_of_roles(taken: Mapping[Role, Role], present: tuple[Role, ...]) -> str:
    moved = [target for target, source in taken.items() if target != source]
    if len(moved) == 2 and all(taken.get(taken[one]) == one for one in moved):
        first, second = sorted(moved, key=ROLES.index)
        return f"{first} and {second} exchanged"
    order = ", ".join(f"{target} from {taken[target]}" for target in moved)
    absent = [role for role in ROLES if role not in taken and role in present]
    rest = "".join(f", {role} {NEUTRAL[role]:g}" for role in absent)
    return f"the arrays taken in another order: {order}{rest}"


def _reassigned(taken: Mapping[Role, Role], reading: Reading, _view: View) -> Reading:
    neutral = {role: np.full(reading.x.shape, value) for role, value in NEUTRAL.items() if role not in taken}
    return reading.using({role: getattr(reading, source) for role, source in taken.items()} | neutral)


# The last two are what loading by position makes of a nested model's arrays, whose order in legacy HDF5 files depends
# on whether the model is trainable.
_BORROWED: tuple[tuple[str, str, Mapping[Role, Role]], ...] = (
    ("gamma", "gamma", {"gamma": "gamma"}),
    ("beta", "beta", {"beta": "beta"}),
    ("mean", "the mean", {"mean": "mean"}),
    ("variance", "the variance", {"variance": "variance"}),
    ("affine", "gamma and beta", {"gamma": "gamma", "beta": "beta"}),
    ("statistics", "mean and variance", {"mean": "mean", "variance": "variance"}),
    ("parameters", "every parameter", {role: role for role in ROLES}),
    ("affine-as-statistics", "gamma and beta as mean and variance", {"mean": "gamma", "variance": "beta"}),
    ("statistics-as-affine", "mean and variance as gamma and beta", {"gamma": "mean", "beta": "variance"}),
    *(
        (f"{source}-as-{role}", f"{source} as {role}", {role: source})
        for role in ROLES
        for source in ROLES
        if role != source
    ),
)


def _relatives(relative: Relative, own: Arrays) -> Iterator[Deviation]:
    """Yield what may be taken from another set, once each: what it has in common with the layer makes no difference."""
    seen: list[Mapping[Role, Role]] = [{}]
    for kind, said, taken in _BORROWED:
        change = {role: source for role, source in taken.items() if _differs(relative.arrays, source, own, role)}
        if change not in seen:
            seen.append(change)
            sentence = f"{said} {relative.said}"
            yield Deviation(f"{kind}-of={relative.name}", "layer", sentence, partial(_borrowed, relative, change))


def _differs(theirs: Arrays, source: Role, own: Arrays, role: Role) -> bool:
    if source not in theirs or role not in own:
        return source in theirs or (role in own and source == role)
    return not np.array_equal(theirs[source], own[role], equal_nan=True)


def _borrowed(relative: Relative, taken: Mapping[Role, Role], reading: Reading, view: View) -> Reading:
    columns = {
        role: relative.arrays[source][view.channel]
        if source in relative.arrays
        else np.full(view.channel.shape, NEUTRAL[source])
        for role, source in taken.items()
    }
    return reading.using(columns)


_WORDS = {
    "batch": "the batch itself (training mode)",
    "instance": "each sample on its own (instance normalisation)",
    "position": "all channels at each position (layer normalisation over the channels)",
    "layer": "all values of each sample (layer normalisation)",
}


def _statistics(sample: Sample) -> Iterator[Deviation]:
    for source, moments in sample.moments.items():
        words = _WORDS.get(source, f"{source.removeprefix('group ')} groups of channels (group normalisation)")
        kind = source.replace(" ", "=") if source.startswith("group") else f"{source}-statistics"
        yield _of_data(kind, f"normalised by mean and biased variance of {words}", source)
        if moments.n > 1:
            said = f"normalised by mean and unbiased variance, n/(n-1), of {words}"
            yield _of_data(f"{kind}-unbiased", said, source, unbiased=True)
    if "batch" in sample.moments:
        yield _of_data("batch-mean", "mean of the batch with the moving variance", "batch", roles=("mean",))
        yield _of_data("batch-variance", "variance of the batch with the moving mean", "batch", roles=("variance",))
    yield Deviation(
        "initial-statistics",
        "statistics",
        "mean 0 and variance 1, as before training: the moving statistics were not loaded",
        lambda r, _v: replace(r, mean=np.zeros(r.x.shape), variance=np.ones(r.x.shape)),
    )
    yield Deviation(
        "statistics-ignored",
        "statistics",
        "not normalised at all: gamma * x + beta",
        lambda r, _v: replace(r, mean=np.zeros(r.x.shape), root=lambda v, _e: np.ones(v.shape)),
    )


def _of_data(
    name: str,
    sentence: str,
    source: str,
    *,
    unbiased: bool = False,
    roles: tuple[Role, ...] = ("mean", "variance"),
) -> Deviation:
    def change(reading: Reading, view: View) -> Reading:
        moments = view.sample.moments.get(source)
        if moments is None:
            return replace(reading, x=np.full(reading.x.shape, np.nan))
        factor = moments.n / (moments.n - 1) if unbiased and moments.n > 1 else 1.0
        columns = {"mean": moments.mean, "variance": moments.variance * factor}
        error = _summation(moments, reading.arithmetic)
        return replace(reading.using({role: columns[role] for role in roles}), relative=error)

    return Deviation(name, "statistics", sentence, change, affine=source == "batch")


def _summation(moments: SampleMoments, arithmetic: str) -> float:
    """Return the relative error of moments that a kernel sums up itself.

    Rounding errors of a sum of n numbers grow like sqrt(n) rather than n (Higham and Mary, "A new approach to
    probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019).
    """
    return float((8 + 2 * np.sqrt(moments.n)) * precision(arithmetic).unit)
