"""Expressions over the parameters of a graph, in a form in which equal ones look equal.

A batch norm that is spelt out in single operations comes in many orders: `x*a + (beta - mean*a)`, `(x-mean)*r*gamma +
beta`, `gamma*(x-mean)/s + beta` ... As polynomials in the parameters and in r = 1/sqrt(variance + epsilon) they are all
the same, and no pattern has to be listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from bninspect.records import Form

MOST_TERMS = 8


@dataclass(frozen=True)
class Leaf:
    """A parameter: a variable or a constant, whatever it passed on its way that does not change its values."""

    sources: tuple[str, ...]
    """Flat nodes that hold it: one, or the parts of a partitioned variable."""
    tensor: tuple[str, int] = field(compare=False)
    """Where its values are first to be had, in their stored type and shape."""
    shape: tuple[int, ...] | None = field(compare=False, default=None)
    """That it was last reshaped to; `None` if it was not."""


@dataclass(frozen=True)
class Root:
    """sqrt(variance + epsilon), or, as Darknet has it (src/blas.c), sqrt(variance) + epsilon."""

    variance: Leaf
    epsilon: float
    outside: bool = False
    """Whether epsilon is added to the root."""


Monomial: TypeAlias = frozenset[tuple[Leaf | Root, int]]
"""Factors and their exponents."""
Polynomial: TypeAlias = Mapping[Monomial, float]

ONE: Monomial = frozenset()


def number(value: float) -> Polynomial:
    """Return a constant."""
    return {ONE: value} if value else {}


def parameter(leaf: Leaf) -> Polynomial:
    """Return a parameter as a polynomial."""
    return {frozenset({(leaf, 1)}): 1.0}


def add(left: Polynomial, right: Polynomial) -> Polynomial | None:
    """Return the sum; `None` beyond `MOST_TERMS`."""
    total = dict(left)
    for monomial, factor in right.items():
        total[monomial] = total.get(monomial, 0.0) + factor
    return _limited({monomial: factor for monomial, factor in total.items() if factor != 0.0})


def multiply(left: Polynomial, right: Polynomial) -> Polynomial | None:
    """Return the product; `None` beyond `MOST_TERMS`."""
    total: dict[Monomial, float] = {}
    for one, a in left.items():
        for other, b in right.items():
            monomial = _product(one, other)
            total[monomial] = total.get(monomial, 0.0) + a * b
    return _limited({monomial: factor for monomial, factor in total.items() if factor != 0.0})


def negate(polynomial: Polynomial) -> Polynomial:
    """Return the negative."""
    return {monomial: -factor for monomial, factor in polynomial.items()}


def invert(polynomial: Polynomial) -> Polynomial | None:
    """Return 1 / polynomial, for single terms and for a root with epsilon outside of it."""
    if len(polynomial) != 1:
        return _inverse_root(polynomial)
    ((monomial, factor),) = polynomial.items()
    return {frozenset((symbol, -exponent) for symbol, exponent in monomial): 1.0 / factor}


def _inverse_root(polynomial: Polynomial) -> Polynomial | None:
    rest = {monomial: factor for monomial, factor in polynomial.items() if monomial != ONE}
    if len(rest) != 1 or ONE not in polynomial:
        return None
    ((monomial, factor),) = rest.items()
    symbols = dict(monomial)
    (symbol,) = symbols if len(symbols) == 1 else (None,)
    if factor != 1.0 or not isinstance(symbol, Root) or symbol.epsilon or symbols[symbol] != 1:
        return None
    return {frozenset({(Root(symbol.variance, polynomial[ONE], outside=True), -1)}): 1.0}


def root(polynomial: Polynomial, exponent: int) -> Polynomial | None:
    """Return sqrt(polynomial)**exponent, if it is a parameter plus a number: a variance and its epsilon."""
    rest = {monomial: factor for monomial, factor in polynomial.items() if monomial != ONE}
    variance = single(rest)
    if variance is None:
        return None
    return {frozenset({(Root(variance, polynomial.get(ONE, 0.0)), exponent)}): 1.0}


def single(polynomial: Polynomial) -> Leaf | None:
    """Return the parameter that a polynomial is, `None` if it is anything else."""
    if len(polynomial) == 1:
        ((monomial, factor),) = polynomial.items()
        if factor == 1.0 and len(monomial) == 1:
            ((symbol, exponent),) = monomial
            if exponent == 1 and isinstance(symbol, Leaf):
                return symbol
    return None


@dataclass(frozen=True)
class Normalisation:
    """An affine map that is a batch norm, or meant for one: with epsilon outside of the root."""

    gamma: Leaf | None
    beta: Leaf | None
    mean: Leaf
    root: Root

    @property
    def parameters(self) -> Mapping[str, Leaf]:
        """The parameters that there are, by their standard name."""
        leaves = {
            "gamma": self.gamma,
            "beta": self.beta,
            "moving_mean": self.mean,
            "moving_variance": self.root.variance,
        }
        return {name: leaf for name, leaf in leaves.items() if leaf is not None}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about it, in words."""
        epsilon = f"{self.root.epsilon:.7g}"
        outside = f"epsilon is outside the square root: sqrt(variance) + {epsilon}"
        return (outside,) if self.root.outside else ()


def combined(op: str, left: Polynomial, right: Polynomial) -> Polynomial | None:
    """Return `left op right`; `op` is add, sub, mul or div."""
    if op == "add":
        return add(left, right)
    if op == "sub":
        return add(left, negate(right))
    if op == "mul":
        return multiply(left, right)
    inverse = invert(right)
    return None if inverse is None else multiply(left, inverse)


def mapped(op: str, data: int, given: Polynomial) -> tuple[Polynomial, Polynomial] | None:
    """Return slope and intercept of an operation on data and an expression; `data` is the position of the data."""
    one, none = number(1.0), number(0.0)
    if op == "add":
        return one, given
    if op == "sub":
        return (one, negate(given)) if data == 0 else (number(-1.0), given)
    slope = given if op == "mul" else invert(given) if data == 0 else None
    return None if slope is None else (slope, none)


def composed(
    slope: Polynomial, intercept: Polynomial, first_slope: Polynomial, first_intercept: Polynomial
) -> tuple[Polynomial, Polynomial] | None:
    """Return slope and intercept of one affine map after another; `None` if they grow beyond any batch norm."""
    scaled, shifted = multiply(slope, first_slope), multiply(slope, first_intercept)
    total = None if shifted is None else add(shifted, intercept)
    return None if scaled is None or total is None else (scaled, total)


def normalisation(slope: Polynomial, intercept: Polynomial) -> Normalisation | None:
    """Return what `slope * x + intercept` is, if it is gamma*(x - mean)/sqrt(variance + epsilon) + beta."""
    if len(slope) != 1:
        return None
    ((factors, one),) = slope.items()
    roots = {symbol: exponent for symbol, exponent in factors if isinstance(symbol, Root)}
    scales = {symbol: exponent for symbol, exponent in factors if isinstance(symbol, Leaf)}
    if one != 1.0 or list(roots.values()) != [-1] or list(scales.values()) not in ([], [1]):
        return None
    mean = beta = None
    for monomial, factor in intercept.items():
        shift = _product(monomial, frozenset((symbol, -exponent) for symbol, exponent in factors))
        if factor == -1.0 and mean is None and (found := single({shift: 1.0})) is not None:
            mean = found
        elif factor == 1.0 and beta is None and (found := single({monomial: 1.0})) is not None:
            beta = found
        else:
            return None
    if mean is None:
        return None
    (root_of,) = roots
    return Normalisation(next(iter(scales), None), beta, mean, root_of)


@dataclass(frozen=True, eq=False)
class AffineStep:
    """A node that maps data as `slope * x + intercept`, both expressions over parameters."""

    x: str
    """What the graph calls the data, or the node that it comes from."""
    slope: Polynomial
    intercept: Polynomial


Step = TypeVar("Step", bound=AffineStep)
LONGEST = 6
"""Nodes that a batch norm may be spelt out in."""


def spelt_out(
    end: str, step: Callable[[str], Step | None], uses: Mapping[str, int] | None = None, longest: int = LONGEST
) -> tuple[list[Step], Normalisation] | None:
    """Return the steps, from data to result, and the parameters of the batch norm that ends at a value, if one does.

    Args:
        end: the value.
        step: returns the affine map that makes a value; None for whatever else makes it.
        uses: how often each value is read, where what lies between the steps must be read by the next one alone.
        longest: steps that there may be.
    """
    steps: list[Step] = []
    slope, intercept = number(1.0), number(0.0)
    while len(steps) < longest and (found := step(end)) is not None:
        whole = composed(slope, intercept, found.slope, found.intercept)
        if whole is None or (steps and uses is not None and uses[end] != 1):
            return None
        slope, intercept = whole
        steps.insert(0, found)
        norm = normalisation(slope, intercept)
        if norm is not None:
            return steps, norm
        end = found.x
    return None


def form(steps: Sequence[AffineStep], norm: Normalisation) -> Form:
    """Return the order of operations in which steps compute a batch norm."""
    if single(negate(steps[0].intercept)) == norm.mean and steps[0].slope == number(1.0):
        return Form.CENTRED
    # One multiplication and one addition: the shift was computed on its own.
    return Form.AFFINE if len(steps) == 2 else Form.UNKNOWN


def _product(one: Monomial, other: Monomial) -> Monomial:
    exponents: dict[Leaf | Root, int] = dict(one)
    for symbol, exponent in other:
        exponents[symbol] = exponents.get(symbol, 0) + exponent
    return frozenset((symbol, exponent) for symbol, exponent in exponents.items() if exponent)


def _limited(polynomial: Polynomial) -> Polynomial | None:
    return polynomial if len(polynomial) <= MOST_TERMS else None
