"""Where a graph normalises data by the moments of a batch: a batch norm in training mode, spelt out.

Its variance is a mean of squares over axes that include that of the samples, and some other axis is left. It is added
to an epsilon, and its root divides the data that it was taken of. LayerNorm, GroupNorm and InstanceNorm take their
moments within each sample; a feature that is made of the deviations of a batch divides nothing by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bninspect.formats.moment_graph import MOST, VIEWS, MomentGraph, MomentStep
from bninspect.formats.sample_axes import SampleAxes, Shape, behind_reshape, behind_transpose
from bninspect.records import BatchNorm, Statistics

_FARTHEST = 4096
"""Operations between a value and the input that it is made of."""
_RANK = 4
"""Of maps, where nobody knows the rank of a value."""
SPELT_OUT = "it is spelt out in single operators"
"""The note of such a batch norm."""
ROOTS = frozenset(("sqrt", "rsqrt", "deviation"))
_POINTWISE = frozenset(("add", "sub", "mul", "div", "neg", "maximum"))
_MEANS = frozenset(("mean", "sum", "variance", "deviation"))


@dataclass(frozen=True, eq=False)
class BatchRoot:
    """The root of a variance over a batch, by which data is divided."""

    name: str
    """Of the step."""
    x: str
    """What the variance is of."""
    epsilon: float
    """What is added to the variance, or to its root; 0 if nothing is."""
    sample: bool
    """Whether the batch may well be an axis within a sample: it is of one, and was reshaped."""

    def layer(self, name: str, location: str, class_name: str, notes: tuple[str, ...] = ()) -> BatchNorm:
        """Return the batch norm that normalises by it."""
        return BatchNorm(
            name,
            epsilon=self.epsilon,
            epsilon_source="file",
            location=location,
            class_name=class_name,
            statistics=Statistics.SAMPLE if self.sample else Statistics.BATCH,
            notes=notes,
        )


def batch_roots(graph: MomentGraph) -> Iterator[BatchRoot]:
    """Yield each root by which data is normalised over its batch, in the order of the graph."""
    if any(step.kind in ROOTS for step in graph.steps):
        walk = _Walk(graph)
        for step in graph.steps:
            if step.kind in ROOTS and (found := walk.root(step)) is not None:
                yield found


def is_of_sample(graph: MomentGraph, name: str) -> bool:
    """Return whether a batch norm of training, an operator, normalises each sample by itself.

    Its samples were moved among its channels; or it has a batch of one that was reshaped, and the gamma behind it runs
    along what the moments are taken over.
    """
    walk = _Walk(graph)
    return next((walk.is_of_sample(step) for step in graph.steps if step.name == name), False)


@dataclass(frozen=True, eq=False)
class _Moment:
    x: str
    axes: frozenset[int]
    """That it is taken over."""
    rank: int
    samples: SampleAxes


class _Walk:
    def __init__(self, graph: MomentGraph) -> None:
        self._graph = graph
        self._known: dict[str, SampleAxes] = {}

    def root(self, step: MomentStep) -> BatchRoot | None:
        """Return what the root of a step is of, if it is a variance over the batch that divides its data."""
        moment, epsilon = self._variance(step)
        if moment is None:
            return None
        divided = self._divided(step, moment.x)
        if divided is None:
            return None
        reader, outside = divided
        epsilon = epsilon or outside
        followed = self._lengths_behind(reader, self._graph.source(moment.x))
        if not epsilon and not any(length > 1 for length in followed):
            return None
        if moment.samples.single and self._is_within(moment, followed):
            return None
        return BatchRoot(step.name, moment.x, epsilon, bool(moment.samples.single))

    def is_of_sample(self, step: MomentStep) -> bool:
        """Return whether a step takes moments over all axes but the second, and those are of a sample."""
        x = step.values[0]
        shape, samples = self._graph.shape(x), self._samples(x)
        if 0 not in samples.axes:
            return True
        if shape is None or not samples.single:
            return False
        over = frozenset(axis for axis in range(len(shape)) if axis != 1)
        if 1 not in samples.single[1:] and self._is_everything(shape, over):
            return True
        moment = _Moment(x, over, len(shape), samples)
        return self._is_within(
            moment, self._lengths_behind(replace(step, lengths=(), values=()), self._graph.source(x))
        )

    def _variance(self, root: MomentStep) -> tuple[_Moment | None, float]:
        """Return the moment of squares under a root, and what is added to it."""
        epsilon, centred = 0.0, False
        waiting = [root.output] if root.kind == "deviation" else list(root.values)
        found: list[_Moment] = []
        for value in _taken(waiting):
            step = self._graph.makers.get(value)
            if step is None:
                continue
            if step.kind in _MEANS or self._is_of_one(step):
                moment, exact = self._moment(step)
                found += [moment] if moment is not None else []
                # A mean of squares is a moment of its own; a sum of them without a mean taken off is a length.
                centred = centred or exact or step.kind == "mean"
            elif step.kind in VIEWS or step.kind in _POINTWISE:
                epsilon = epsilon or (step.number if step.kind in {"add", "maximum"} else 0.0)
                centred = centred or (step.kind == "sub" and len(step.values) == 2)
                waiting += step.values
        return (found[0], epsilon) if found and centred else (None, 0.0)

    def _is_of_one(self, step: MomentStep) -> bool:
        """Return whether a step is the square of x - x: a mean over a batch of one is the value itself."""
        shape = self._graph.shape(step.output)
        return (
            step.kind == "squared difference"
            and bool(shape)
            and shape is not None
            and shape[0] == 1
            and len({self._graph.source(value) for value in step.values}) == 1
        )

    def _moment(self, step: MomentStep) -> tuple[_Moment | None, bool]:
        """Return the moment of squares that a step is, and whether they are squares of differences from a mean."""
        x, centred = self._squared(step)
        if not x:
            return None, False
        # The axes are those of what the step takes, whatever shape the squares were brought to.
        value = step.values[0]
        shape = self._graph.shape(value)
        axes = (0,) if self._is_of_one(step) else step.axes
        rank = len(shape) if shape else max(_RANK, 1 + max(axes, default=0), -min(axes, default=0))
        over = frozenset(axis % max(rank, 1) for axis in axes) or frozenset(range(rank))
        samples = self._samples(value)
        if not samples.axes & over or (len(over) >= rank and rank != 1):
            return None, centred
        if samples.single and 1 not in samples.single[1:] and self._is_everything(shape, over):
            return None, centred
        return _Moment(x, over, rank, samples), centred

    def _squared(self, step: MomentStep) -> tuple[str, bool]:
        """Return what a moment of squares is of, empty if it is none, and whether its mean was taken off it."""
        if step.kind in {"variance", "deviation"}:
            return step.values[0], True
        squares = step if self._is_of_one(step) else self._graph.makers.get(self._graph.source(step.values[0]))
        if squares is None or squares.kind not in {"square", "squared difference", "mul"} or not squares.values:
            return "", False
        if squares.kind == "mul" and len({self._graph.source(value) for value in squares.values}) != 1:
            return "", False
        x = self._data(squares.values)
        difference = self._graph.makers.get(self._graph.source(x))
        if squares.kind == "squared difference" or difference is None or difference.kind != "sub":
            return x, squares.kind == "squared difference"
        return (self._data(difference.values), True) if len(difference.values) == 2 else (x, False)

    def _data(self, values: Sequence[str]) -> str:
        """Return which of two values is none of moments."""
        return next((value for value in values if not self._is_moment(value)), values[0])

    def _is_moment(self, value: str) -> bool:
        for _ in range(MOST):
            step = self._graph.makers.get(value)
            if step is None or step.kind in _MEANS:
                return step is not None
            if step.kind not in VIEWS and (step.kind not in {"mul", "div"} or not step.values):
                return False
            value = step.values[0]
        return False

    @staticmethod
    def _is_everything(shape: Shape | None, over: frozenset[int]) -> bool:
        """Return whether what is left of the axes holds one place: then the moments are of the whole sample."""
        return shape is not None and all(length == 1 for axis, length in enumerate(shape) if axis not in over)

    def _samples(self, value: str) -> SampleAxes:
        chain: list[MomentStep] = []
        for _ in range(_FARTHEST):
            step = self._graph.makers.get(value)
            if value in self._known or step is None or not step.values:
                break
            chain.append(step)
            value = step.values[0]
        found = self._known.get(value, SampleAxes())
        for step in reversed(chain):
            if step.kind == "reshape":
                shape = self._graph.shape
                found = behind_reshape(found, shape(step.values[0]), shape(step.output))
            elif step.kind == "transpose" and step.axes:
                found = behind_transpose(found, step.axes)
            self._known[step.output] = found
        return found

    def _divided(self, root: MomentStep, x: str) -> tuple[MomentStep, float] | None:
        """Return the step in which the root divides the data, itself or with constants, and what is added to it."""
        level, seen, epsilon = [root.output], {root.output}, 0.0
        source = self._graph.source(x)
        for value in _taken(level, first=True):
            for user in self._graph.users.get(value, ()):
                if user.kind in {"mul", "div"} and self._meets(user, value, source):
                    return user, epsilon
                if user.kind in VIEWS or user.kind in {"mul", "div", "neg", "reciprocal", "add", "maximum"}:
                    epsilon = epsilon or (user.number if user.kind in {"add", "maximum"} else 0.0)
                    level += [user.output] if user.output not in seen else []
                    seen.add(user.output)
        return None

    def _meets(self, user: MomentStep, value: str, source: str) -> bool:
        """Return whether what a step takes beside a value is made of data."""
        return any(self._comes_of(other, source) for other in user.values if other != value)

    def _comes_of(self, value: str, source: str) -> bool:
        """Return whether a value is made of data, and not of its moments alone."""
        waiting = [value]
        for root in _taken(waiting):
            maker = self._graph.source(root)
            if maker == source:
                return True
            step = self._graph.makers.get(maker)
            if step is not None and step.kind in _POINTWISE:
                waiting += step.values
        return False

    def _lengths_behind(self, step: MomentStep, source: str) -> list[int]:
        """Return the lengths of the constants that follow a step or come to it: gamma and beta, if there are any."""
        found = [*step.lengths]
        level = [step.output]
        for value in step.values:
            maker = self._graph.makers.get(value)
            found += maker.lengths if maker is not None and maker.kind in {"mul", "div"} else ()
        for value in _taken(level, first=True):
            for user in self._graph.users.get(value, ()):
                scales = user.kind in VIEWS or user.kind in {"mul", "add", "sub", "div"}
                if scales and not self._meets(user, value, source):
                    found += user.lengths
                    level.append(user.output)
        return found

    def _is_within(self, moment: _Moment, followed: Sequence[int]) -> bool:
        """Return whether gamma or beta runs along axes that the moments were taken over: so LayerNorm has them."""
        shape = self._graph.shape(moment.x)
        if shape is None or None in shape or len(shape) != moment.rank:
            return False
        over = kept = 1
        for axis, length in enumerate(shape):
            over, kept = (over * (length or 1), kept) if axis in moment.axes else (over, kept * (length or 1))
        return over != kept and over in followed and kept not in followed


def _taken(waiting: list[str], *, first: bool = False) -> Iterator[str]:
    """Yield and remove the last, or the first, of what waits, which may grow meanwhile; not more than anybody needs."""
    for _ in range(MOST):
        if not waiting:
            return
        yield waiting.pop(0 if first else -1)
