"""Every wrong kernel is named, and no other, where the parameters are made to tell all of them apart."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.wrong_kernels import KERNELS, Kernel, Numbers, right

from bninspect import causes
from bninspect.causes import Explanation
from bninspect.records import Array, BatchNorm, Observation

EPSILON = 1e-3


def probe(seed: int = 0, shape: tuple[int, ...] = (3, 5, 7, 12)) -> tuple[Array, Numbers]:
    """Return inputs and parameters that no two hypotheses agree on: both signs, three tiny variances."""
    random = np.random.default_rng(seed)
    channels = shape[-1]
    gamma = random.uniform(0.5, 2, channels) * random.choice([-1, 1], channels)
    gamma[:2] = [-1.25, 1.5]
    beta, mean = random.normal(size=(2, channels))
    variance = random.uniform(0.1, 3, channels)
    variance[[1, 4, 7]] = 1e-8, 1e-6, 1e-4
    mean[[1, 4, 7]] *= 1e-3
    x = mean + 2 * np.sqrt(variance) * random.normal(size=shape)
    g, b, m, v = (each.astype(np.float32) for each in (gamma, beta, mean, variance))
    return x.astype(np.float32), Numbers(g, b, m, v, EPSILON)


def stored(numbers: Numbers, name: str = "bn") -> BatchNorm:
    return BatchNorm(name, numbers.gamma, numbers.beta, numbers.mean, numbers.variance, numbers.epsilon)


def explained(numbers: Numbers, x: Array, y: Array, *others: BatchNorm, axis: int = 3) -> Explanation:
    layer = stored(numbers)
    observation = Observation("bn", "in-model", x, y.astype(np.float32), (axis,))
    return causes.explain(layer, [causes.sample(layer, observation)], others)


def names(explanation: Explanation) -> list[str]:
    return [cause.name for cause in explanation.causes]


@pytest.mark.parametrize("name", KERNELS)
def test_each_wrong_kernel_is_named_and_no_other(name: str) -> None:
    x, numbers = probe()
    with np.errstate(invalid="ignore"):  # a negative number taken for a variance
        y = KERNELS[name](x, numbers)
    found = explained(numbers, x, y)
    assert names(found) == [name]
    (cause,) = found.causes
    assert 0 <= cause.ratio <= 1
    assert cause.explains == 1
    assert cause.ties == ()
    assert cause.sentence == found.sentence


def test_there_are_more_than_80_of_them() -> None:
    assert len(KERNELS) > 110


def test_a_right_kernel_needs_no_explanation() -> None:
    x, numbers = probe()
    found = explained(numbers, x, right(x, numbers))
    assert found.matches
    assert found.causes == ()
    assert found.sentence == "the formula explains every value"


PAIRS = [
    ("epsilon=1e-05", "gamma-ignored"),
    ("epsilon=1e-05", "batch-statistics"),
    ("epsilon=0.0001", "relu-after"),
    ("epsilon-outside", "mean-added"),
    ("divided-by-variance", "beta-ignored"),
    ("gamma-plus-one", "beta-subtracted"),
    ("channels=reversed", "epsilon=1e-05"),
    ("roles=beta,gamma,mean,variance", "epsilon=1e-05"),
    ("tanh-after", "batch-statistics"),
]


def both(first: str, second: str) -> Kernel:
    """Return a kernel with two faults, written out, because the wrong kernels cannot be nested."""
    epsilon = {"epsilon=1e-05": 1e-5, "epsilon=0.0001": 1e-4}.get(first) or {"epsilon=1e-05": 1e-5}.get(second)

    def kernel(x: Array, n: Numbers) -> Array:
        if epsilon is not None:
            other = second if first.startswith("epsilon=") else first
            return KERNELS[other](x, Numbers(n.gamma, n.beta, n.mean, n.variance, epsilon))
        if "batch-statistics" in {first, second}:
            return np.asarray(np.tanh(KERNELS["batch-statistics"](x, n)))
        changed = {
            "mean-added": Numbers(n.gamma, n.beta, -n.mean, n.variance, n.epsilon),
            "beta-ignored": Numbers(n.gamma, 0 * n.beta, n.mean, n.variance, n.epsilon),
            "beta-subtracted": Numbers(n.gamma, -n.beta, n.mean, n.variance, n.epsilon),
        }
        return KERNELS[first](x, changed[second])

    return kernel


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_faults_at_once_are_named(first: str, second: str) -> None:
    x, numbers = probe()
    found = explained(numbers, x, both(first, second)(x, numbers))
    assert {frozenset(name.split(" + ")) for name in names(found)} == {frozenset({first, second})}


def test_a_fitted_number_on_top_of_a_fault_is_named() -> None:
    x, n = probe()
    found = explained(n, x, KERNELS["gamma-ignored"](x, Numbers(n.gamma, n.beta, n.mean, n.variance, 5e-4)))
    assert names(found) == ["gamma-ignored + epsilon=0.0005"]


def test_what_nothing_explains_is_called_so() -> None:
    x, numbers = probe()
    found = explained(numbers, x, right(x, numbers) ** 3)
    assert found.causes == ()
    assert not found.matches
    assert found.sentence == f"none of {found.tried} hypotheses fits"
    assert found.tried > 1000
    assert "not affine in the input in 12 of 12 channels" in found.remarks[0]


def test_one_wrong_value_is_enough_to_reject_a_cause() -> None:
    x, numbers = probe()
    y = KERNELS["epsilon-outside"](x, numbers)
    y[1, 2, 3, 4] += 0.01
    assert explained(numbers, x, y).causes == ()


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_answer_does_not_hang_on_the_numbers_of_the_probe(seed: int) -> None:
    x, numbers = probe(seed)
    for name in ("epsilon=1.001e-05", "roles=gamma,mean,beta,variance", "group=4", "folded=bfloat16", "epsilon-twice"):
        with np.errstate(invalid="ignore"):
            y = KERNELS[name](x, numbers)
        assert names(explained(numbers, x, y)) == [name]
