"""A loaded model taken apart: which value comes of which, and any values computed from others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bninspect.records import Array, Arrival


@dataclass(frozen=True)
class DissectedStep:
    """An operation on values that depend on the data."""

    takes: tuple[str, ...]
    """Names of the values that it takes, of those that depend on the data."""
    gives: tuple[str, ...]
    """Names of the values that it computes."""
    layers: tuple[str, ...] = ()
    """Batch norms whose moving statistics it takes."""


@dataclass(frozen=True, eq=False)
class Arriving:
    """A value that arrives at a batch norm."""

    layer: str
    x: str
    axis: Callable[[int], tuple[int, ...]]
    """From the rank of the value to the axes of the channels, counted from the front."""
    mask: str = ""
    """Value that says what counts; empty if all does."""

    @property
    def values(self) -> tuple[str, ...]:
        """Names of all that arrives."""
        return (self.x, self.mask) if self.mask else (self.x,)

    def arrival(self, values: Mapping[str, Array]) -> Arrival:
        """Return what has arrived, of computed values by name."""
        x, mask = values[self.x], values[self.mask][..., None] if self.mask else None
        return Arrival(self.layer, x, self.axis(x.ndim), mask)


@dataclass(frozen=True, eq=False)
class Dissection:
    """A loaded model, of whose values any can be computed from others in front of it.

    It computes with the statistics that `Stream.assign` has given it last.
    """

    steps: tuple[DissectedStep, ...]
    """In an order in which they can run; none that nothing wanted depends on."""
    arriving: tuple[Arriving, ...]
    """In the order in which the model computes them."""
    feed: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    """From data by the names of the inputs to the values that the first steps take."""
    run: Callable[[Mapping[str, Array], Sequence[str]], Mapping[str, Array]]
    """Compute values by name from given ones, which lie in front of all of them. Raises RuntimeFailure."""

    def compute(self, given: Mapping[str, Array], names: Iterable[str]) -> Mapping[str, Array]:
        """Return values by name; those that are given already are not computed again. Raises RuntimeFailure."""
        wanted = tuple(dict.fromkeys(name for name in names if name not in given))
        if not wanted:
            return given
        taken = needed(self.steps, given, wanted)
        return {**given, **self.run({name: given[name] for name in taken}, wanted)}


def dependent(
    operations: Iterable[tuple[Sequence[str], Sequence[str]]], inputs: Iterable[str], statistics: Mapping[str, str]
) -> Iterator[DissectedStep]:
    """Yield the steps of a model: those of its operations that depend on data.

    Args:
        operations: names of the values that each takes and gives, in an order in which they can run.
        inputs: names of the values that the data is fed to.
        statistics: by the name of a value, the layer whose moving mean or variance it is.
    """
    live = set(inputs)
    layers: dict[str, tuple[str, ...]] = {name: (layer,) for name, layer in statistics.items()}
    for takes, gives in operations:
        of_layers = tuple(dict.fromkeys(layer for name in takes if name not in live for layer in layers.get(name, ())))
        if live.intersection(gives):
            continue
        if live.intersection(takes):
            live.update(gives)
            yield DissectedStep(tuple(name for name in takes if name in live), tuple(gives), of_layers)
        elif of_layers:
            layers |= dict.fromkeys(gives, of_layers)


def needed(steps: Sequence[DissectedStep], given: Collection[str], names: Iterable[str]) -> tuple[str, ...]:
    """Return which of the given values must be at hand to compute others."""
    missing = set(names)
    found: dict[str, None] = {}
    for step in reversed(steps):
        if missing.intersection(step.gives):
            found |= dict.fromkeys(name for name in step.takes if name in given)
            missing.update(name for name in step.takes if name not in given)
    return tuple(found)
