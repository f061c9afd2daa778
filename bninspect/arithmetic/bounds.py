"""How far a correct kernel may be from the formula: forward error bounds, derived and not guessed.

Per channel w = variance + epsilon, r = 1/sqrt(w), a = gamma*r, c = beta - mean*a; per element p = (x -
mean)*a. An operation rounds to nearest, fl(z) = z(1 + d) with |d| <= u, u the unit roundoff (Higham, Accuracy
and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 2.2; the d's are counted as in its section
3.1). The reciprocal square root of a library is not correctly rounded: RSQRT*u bounds its relative error
(measured over all float32 in [1, 4): 3.17u in TensorFlow's Eigen packets, 2.80u in XLA, 1.50u for 1/sqrt).

The slope: the error u of w counts half under the root, then r RSQRT*u, then times gamma u. So a' = a(1 + e)
with |e| <= (RSQRT + 2)u, and to first order the result is off by

- CENTRED  fl(fl(fl(x - mean) * a') + beta):  u * [(RSQRT + 4)|p| + |y|]
- AFFINE   fl(fl(x * a') + fl(beta - fl(mean * a'))):  u * [(RSQRT + 2)|p| + |a|(|x| + |mean|) + |c| + |y|];
  e is common to both products, so it multiplies only their difference p
- FOLDED   the same with a and c rounded on their own:  u * [(RSQRT + 3)|a|(|x| + |mean|) + |c| + |y|]
- UNKNOWN  the larger of CENTRED and AFFINE, element by element.

Products of errors add at most a fraction 64u of that: the factor 1 + 64u.

Near zero an operation is off by `tiny`, absolutely: TensorFlow flushes subnormal numbers to zero. In units of
tiny, flushed x and mean cost 2|a|, flushed gamma and a (r + 1)(|x| + |mean|), and the products, c, beta and y
one each, 5 in all. Flushed variance and epsilon move w by 2*tiny and a by a fraction of at most z = 2*tiny/w,
provided that z <= 1/2. Where it is not (w is zero, negative, subnormal, NaN), or a parameter is not finite,
nothing can be promised, and the bound is NaN.

A result that is off by E and then rounded to another output type is off by E(1 + u') + u'|y| + tiny'. The
float64 reference is itself a CENTRED evaluation, with correctly rounded root and quotient: 2^-53 * (6|p| +
|y|) more.

All of these bounds are linear in |p|, |x| and |y| with coefficients per channel: that is an `Allowance`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.formula import Float64, Parameters, along
from bninspect.errors import BninspectError, UsageError
from bninspect.records import Array, Form
from bninspect.safe_text import printable

RSQRT = 4.0
EVERY_FORM = (Form.CENTRED, Form.AFFINE, Form.FOLDED)
"""Of a kernel that nobody knows: whatever order of operations it has is right."""


@dataclass(frozen=True)
class Precision:
    """A float type of `digits` binary digits; 2**lowest is its smallest normal number."""

    digits: int
    lowest: int
    tiny: float
    """Largest absolute error of an operation whose result is nearly zero."""
    largest: float
    container: str
    """The NumPy type that holds its values."""

    @property
    def unit(self) -> float:
        """The unit roundoff u, half the distance from 1 to the next number."""
        return float(2.0**-self.digits)


# Flush-to-zero does not concern float16: kernels convert it by F16C instructions, which ignore that mode.
PRECISIONS = {
    "float16": Precision(11, -14, 2.0**-25, float.fromhex("0x1.ffcp15"), "float16"),
    "bfloat16": Precision(8, -126, 2.0**-126, float.fromhex("0x1.fep127"), "float32"),
    "float32": Precision(24, -126, 2.0**-126, float.fromhex("0x1.fffffep127"), "float32"),
    "float64": Precision(53, -1022, 2.0**-1022, float.fromhex("0x1.fffffffffffffp1023"), "float64"),
}


def precision(name: str) -> Precision:
    """Return the float type called `name`.

    Raises:
        BninspectError: it is not float16, bfloat16, float32 or float64.
    """
    if name not in PRECISIONS:
        raise BninspectError(f"no such float type: {printable(name)}")
    return PRECISIONS[name]


@dataclass(frozen=True, eq=False)
class Allowance:
    """By how much an element may be off: `on_p*|p| + on_x*|x| + on_y*|y| + constant`, per channel."""

    on_p: Float64
    on_x: Float64
    on_y: Float64
    constant: Float64

    @classmethod
    def of(cls, parameters: Parameters, form: Form, arithmetic: str, output: str) -> Allowance:
        """Return the bound that the docstring of this module derives; NaN for channels without one.

        Args:
            parameters: with epsilon rounded to `arithmetic`.
            form: order of operations of the kernel: CENTRED, AFFINE or FOLDED.
            arithmetic: type in which the kernel computes.
            output: type to which it rounds its result.

        Raises:
            BninspectError: no such type, or the form is UNKNOWN, for which there are two (see `allowances`).
        """
        kernel, target, reference = precision(arithmetic), precision(output), precision("float64")
        u, tiny = kernel.unit, kernel.tiny
        cast, cast_tiny = (0.0, 0.0) if output == arithmetic else (target.unit, target.tiny)
        with np.errstate(all="ignore"):
            r, a = 1 / parameters.root, np.abs(parameters.slope)
            mean, c = np.abs(parameters.mean), np.abs(parameters.intercept)
            z = 2 * tiny * np.square(r)
            on_p, on_x, constant = _rounding(form, u, z, a=a, mean=mean, c=c)
            on_x = on_x + tiny * (1 + r)
            constant = constant + tiny * ((1 + r) * mean + 2 * a + 5)
            factor = (1 + 64 * u) * (1 + cast)
            known = (z <= 0.5) & (r > 0) & np.isfinite(on_p + on_x + constant + c)
            return cls(
                on_p=np.where(known, on_p * factor + 6 * reference.unit, np.nan),
                on_x=np.where(known, on_x * factor, np.nan),
                on_y=np.where(known, u * factor + cast + reference.unit, np.nan),
                constant=np.where(known, constant * factor + cast_tiny, np.nan),
            )

    @classmethod
    def fixed(cls, parameters: Parameters, *, rtol: float, atol: float) -> Allowance:
        """Return the tolerance `atol + rtol*|y|` for those who insist, never quite zero; NaN as in `of`.

        Raises:
            UsageError: a tolerance is negative or not finite.
        """
        if not (0 <= rtol < np.inf and 0 <= atol < np.inf):
            raise UsageError("a tolerance must be zero or a positive number", why=f"rtol {rtol}, atol {atol}")
        none = np.where(np.isfinite(parameters.slope) & np.isfinite(parameters.intercept), 0.0, np.nan)
        return cls(none, none, none + rtol, none + max(atol, 2.0**-1022))

    @property
    def coefficients(self) -> tuple[Float64, Float64, Float64, Float64]:
        """The four arrays, in the order of the constructor."""
        return self.on_p, self.on_x, self.on_y, self.constant

    def along(self, shape: tuple[int, ...], axis: tuple[int, ...]) -> Allowance:
        """Return the coefficients reshaped so that they broadcast against an x of `shape`."""
        return Allowance(*(along(each, shape, axis) for each in self.coefficients))

    def at(
        self, p: Float64, x: Float64, y: Float64, *, out: Float64 | None = None, scratch: Float64 | None = None
    ) -> Float64:
        """Return the allowance of elements with the magnitudes |p|, |x| and |y|; in `out`, working in `scratch`."""
        out = np.multiply(self.on_p, p, out=out)
        scratch = np.multiply(self.on_x, x, out=scratch)
        np.add(out, scratch, out=out)
        np.add(out, np.multiply(self.on_y, y, out=scratch), out=out)
        return np.asarray(np.add(out, self.constant, out=out))


def _rounding(
    form: Form, u: float, z: Float64, *, a: Float64, mean: Float64, c: Float64
) -> tuple[Float64, Float64, Float64]:
    """Return to first order what rounding costs, as the coefficients of |p|, of |x| and of 1."""
    none = np.zeros(a.shape)
    match form:
        case Form.CENTRED:
            return (RSQRT + 4) * u + z, none, none
        case Form.AFFINE:
            return (RSQRT + 2) * u + z, u * a, u * (a * mean + c)
        case Form.FOLDED:
            each = ((RSQRT + 3) * u + z) * a
            return none, each, each * mean + u * c
        case Form.UNKNOWN:
            raise BninspectError("an unknown order of operations has no bound of its own")


def allowances(parameters: Parameters, form: Form, arithmetic: str, output: str) -> tuple[Allowance, ...]:
    """Return the allowances of which the largest is the bound of `form`: two for UNKNOWN, else one."""
    forms = (Form.CENTRED, Form.AFFINE) if form is Form.UNKNOWN else (form,)
    return tuple(Allowance.of(parameters, each, arithmetic, output) for each in forms)


def bound(
    parameters: Parameters,
    x: Array,
    expected: Array,
    *,
    form: Form,
    axis: tuple[int, ...],
    arithmetic: str = "float32",
    output: str = "float32",
) -> Float64:
    """Return by how much each element that a correct kernel returns may differ from the float64 formula.

    Args:
        parameters: of the layer, with epsilon rounded to `arithmetic` (`Parameters.of`).
        x: input of the kernel, any shape and float dtype.
        expected: what `normalise` returned for x.
        form: order of operations of the kernel.
        axis: axes of x that the parameters run along.
        arithmetic: type in which the kernel computes.
        output: type to which it rounds its result.

    Returns:
        Float64 array of the shape of x: positive, or NaN where nothing can be promised.

    Raises:
        BninspectError: there is no such type, or the parameters do not fit x.
    """
    mean, slope = along(parameters.mean, x.shape, axis), along(parameters.slope, x.shape, axis)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        p, magnitude, y = np.abs((wide - mean) * slope), np.abs(wide), np.abs(expected)
        parts = allowances(parameters, form, arithmetic, output)
        return np.asarray(np.maximum.reduce([part.along(x.shape, axis).at(p, magnitude, y) for part in parts]))
