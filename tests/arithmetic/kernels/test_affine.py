"""Chains of constants: exact by fractions, their bound holds for chains in float32, and not for a wrong constant."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from helpers import nasty
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.formula import Parameters
from bninspect.arithmetic.kernels import Step, compose, expect_chain, follow
from bninspect.arithmetic.kernels.affine import STEPS
from bninspect.errors import BninspectError

KINDS = {
    "add": lambda z, c: z + c,
    "subtract": lambda z, c: z - c,
    "multiply": lambda z, c: z * c,
    "divide": lambda z, c: z / c,
}


def _run(steps: list[Step], x: Any) -> Any:
    for step in steps:
        c = np.asarray(step.constant)
        x = KINDS[step.kind](c, x) if step.reversed else KINDS[step.kind](x, c)
    return x


@st.composite
def chains(draw: Any, *, reciprocal: bool = True) -> tuple[list[Step], Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shapes = [(), (4,), (3, 1), (1, 3, 4), (2, 1, 1)]
    steps = []
    for _ in range(draw(st.integers(1, 5))):
        kind, turned = draw(st.sampled_from(STEPS)), draw(st.booleans())
        size = 10.0 ** rng.uniform(-4, 4, draw(st.sampled_from(shapes)))
        constant = (size * rng.choice([-1, 1], size.shape)).astype(np.float32)
        steps.append(Step(kind, constant, reversed=turned and (reciprocal or kind != "divide")))
    x = (rng.standard_normal((2, 3, 4)) * 10.0 ** rng.uniform(-4, 4, (2, 3, 4))).astype(np.float32)
    return steps, x


@given(chains())
@settings(max_examples=200, deadline=None)
def test_the_bound_holds_for_every_chain_in_float32(case: tuple[list[Step], Any]) -> None:
    steps, x = case
    with np.errstate(all="ignore"):
        actual = _run(steps, x)
    traced = expect_chain(steps, x)
    assert actual.dtype == np.float32
    promised = np.isfinite(traced.bound) & np.isfinite(actual)
    assert (traced.ratios(actual)[promised] <= 1.0).all()


@given(chains(reciprocal=False))
@settings(max_examples=100, deadline=None)
def test_a_chain_is_the_line_that_it_amounts_to(case: tuple[list[Step], Any]) -> None:
    steps, x = case
    as_fraction = np.vectorize(lambda value: Fraction(float(value)), otypes=[object])
    fractions = [replace(step, constant=as_fraction(step.constant)) for step in steps]
    scale, shift = compose(steps)
    zero, one = (as_fraction(np.full(x.shape, value)) for value in (0.0, 1.0))
    intercept = _run(fractions, zero)
    slope = _run(fractions, one) - intercept
    for found, exact in ((scale, slope), (shift, intercept)):
        value, bound = (np.broadcast_to(each, x.shape).ravel() for each in (found.value, found.bound))
        assert all(abs(Fraction(v) - e) <= Fraction(b) for v, b, e in zip(value, bound, exact.ravel(), strict=True))


@given(chains(), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_constants_may_be_off_by_their_bounds(case: tuple[list[Step], Any], seed: int) -> None:
    steps, x = case
    rng = np.random.default_rng(seed)
    loose, moved = [], []
    for step in steps:
        c = np.asarray(step.constant, np.float64)
        off = np.abs(c) * 10.0 ** rng.uniform(-6, -1, c.shape)
        loose.append(Step(step.kind, c, off, step.reversed))
        moved.append(Step(step.kind, c + 0.999 * off * rng.choice([-1, 1], c.shape), None, step.reversed))
    with np.errstate(all="ignore"):
        actual = _run(moved, x.astype(np.float64))
    traced = follow(loose, x, "float64")
    promised = np.isfinite(traced.bound)
    assert (np.abs(actual - traced.value)[promised] <= traced.bound[promised]).all()


def _norm_chain(parameters: Parameters, dtype: Any) -> list[Step]:
    """Return Sub, Div, Mul, Add as converters write them: x - mean, / root, * gamma, + beta."""
    p = parameters
    numbers = (("subtract", p.mean), ("divide", p.root), ("multiply", p.gamma), ("add", p.beta))
    return [Step(kind, np.asarray(c).astype(dtype)) for kind, c in numbers]


def test_a_batch_norm_in_four_steps_holds_and_a_wrong_epsilon_does_not() -> None:
    rng = np.random.default_rng(11)
    layer = nasty.layer(rng, 1e-3, 64)
    parameters = Parameters.of(layer)
    x = (parameters.mean + np.sqrt(parameters.variance) * rng.standard_normal((500, 64))).astype(np.float32)
    steps = _norm_chain(parameters, np.float32)
    with np.errstate(all="ignore"):
        actual = _run(steps, x)
        wrong = _run(
            [steps[0], Step("divide", (np.sqrt(parameters.variance) + 1e-3).astype(np.float32)), *steps[2:]], x
        )
    expected = expect_chain(steps, x)
    assert expected.worst(actual) <= 1.0
    assert (expected.ratios(wrong) > 1.0).mean() > 0.3


def test_what_is_not_a_chain_is_refused() -> None:
    with pytest.raises(BninspectError):
        Step("power", np.ones(1))
    with pytest.raises(BninspectError):
        follow([Step("add", np.ones(3))], np.ones((2, 4)))
    with pytest.raises(BninspectError):
        compose([Step("divide", np.ones(3), reversed=True)])
    with pytest.raises(BninspectError):
        compose([Step("add", np.ones(3)), Step("multiply", np.ones(2))])


def test_a_divisor_that_may_be_zero_has_no_bound() -> None:
    traced = follow([Step("divide", np.array([1.0, 1e-3]), np.array([0.1, 1e-2]))], np.ones((1, 2)))
    assert np.isfinite(traced.bound[0, 0])
    assert np.isnan(traced.bound[0, 1])


@pytest.mark.parametrize("kind", STEPS)
def test_numbers_close_to_zero_may_be_flushed(kind: str) -> None:
    """TensorFlow computes with subnormal numbers as with zero: inputs, constants and results."""
    for x, constant in ((1e-39, 1.5), (1e-39, 1e-39), (1e-30, 1e-8), (0.0, 1e-39)):
        if kind == "divide" and constant < 1e-30:
            continue
        steps = [Step(kind, np.array([constant], np.float32))]
        flushed = [np.float32(0 if abs(value) < 2.0**-126 else value) for value in (x, constant)]
        y = KINDS[kind](*flushed)
        y = np.array([0 if abs(y) < 2.0**-126 else y])
        assert expect_chain(steps, np.array([x], np.float32)).worst(y) <= 1.0
    assert expect_chain([Step(kind, np.ones(1))], np.array([1.0])).worst(np.array([5.0])) > 1.0
