"""The test says `differs` of other statistics and not of accidents, in numbers that were drawn."""

from __future__ import annotations

import numpy as np
import pytest

from bninspect.records import Array, BatchNorm, DataFit
from bninspect.statistics import sample_moments
from bninspect.statistics.fit import Trained, critical, judge
from bninspect.statistics.population import Census, Population, pooled

CHANNELS, BATCH, SHARE = 16, 32, 0.1


def trained(generator: np.random.Generator, places: int = 1) -> BatchNorm:
    """Return a layer whose statistics are the moving averages of standard normal batches."""
    mean, variance = np.zeros(CHANNELS), np.ones(CHANNELS)
    for _ in range(200):
        x = generator.standard_normal((BATCH * places, CHANNELS))
        mean = (1 - SHARE) * mean + SHARE * x.mean(axis=0)
        variance = (1 - SHARE) * variance + SHARE * x.var(axis=0)
    return BatchNorm("bn", None, None, mean, variance, epsilon=1e-3, momentum=1 - SHARE)


def population(x: Array) -> Population:
    census = Census(CHANNELS)
    census.add(sample_moments.of_batch(x, (x.ndim - 1,), len(x)))
    return pooled([census])


def judged(layer: BatchNorm, x: Array, tolerance: float = 0.25, batch: int = BATCH) -> DataFit:
    found = population(x)
    return judge(layer, found, Trained(batch, assumed=False), critical(CHANNELS, found.samples), tolerance)


def test_standard_errors_are_those_of_moving_averages() -> None:
    """In a thousand channels z is about standard normal: as the theory says, for mean and variance."""
    found = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        fit = judged(trained(generator), generator.standard_normal((2000, CHANNELS)))
        assert fit.verdict == "fits"
        found.append((fit.mean.z_median, fit.variance.z_median))
    means, variances = np.array(found, float).T
    assert np.median(means) == pytest.approx(0.67, abs=0.1)
    # Values within the conventions of estimators count as no departure at all.
    assert np.median(variances) < 0.67


def test_no_accident_differs_though_nothing_is_tolerated() -> None:
    verdicts = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        verdicts.append(judged(trained(generator), generator.standard_normal((500, CHANNELS)), 0.0).verdict)
    assert verdicts.count("differs") <= 2


@pytest.mark.parametrize("change", [lambda x: x + 0.5, lambda x: x * 1.5, lambda x: x * 0.5, lambda x: x[:, ::-1] * 3])
def test_other_data_differs(change: object) -> None:
    generator = np.random.default_rng(3)
    x = generator.standard_normal((800, CHANNELS))
    assert judged(trained(generator), change(x)).verdict == "differs"  # type: ignore[operator]


def test_a_small_difference_is_a_note_and_the_tolerance_decides() -> None:
    generator = np.random.default_rng(4)
    layer, x = trained(generator), generator.standard_normal((4000, CHANNELS)) + 0.2
    assert judged(layer, x, 0.5).verdict == "fits"
    assert judged(layer, x, 0.5).small
    assert judged(layer, x, 0.05).verdict == "differs"


def test_few_samples_are_no_pass_and_as_many_as_it_says_are_enough() -> None:
    generator = np.random.default_rng(5)
    layer = trained(generator)
    fit = judged(layer, generator.standard_normal((20, CHANNELS)))
    assert fit.verdict == "unverified"
    assert fit.needed > 20
    assert judged(layer, generator.standard_normal((2 * fit.needed, CHANNELS))).verdict == "fits"


def test_a_few_samples_that_are_all_equal_are_no_proof() -> None:
    # An activation at its limit in nine samples of ten: a few of them are equal by accident.
    mean, variance = np.full(CHANNELS, 0.9), np.full(CHANNELS, 0.19)
    norm = BatchNorm("bn", None, None, mean, variance, epsilon=1e-3, momentum=1 - SHARE)
    assert judged(norm, np.ones((12, CHANNELS))).verdict != "differs"
    assert judged(norm, np.ones((5000, CHANNELS))).verdict == "differs"


def test_one_channel_of_many_is_found() -> None:
    generator = np.random.default_rng(6)
    x = generator.standard_normal((1000, CHANNELS))
    x[:, 11] += 1
    fit = judged(trained(generator), x)
    assert fit.verdict == "differs"
    assert (fit.mean.channel, fit.mean.beyond) == (11, 1)


def test_of_channels_that_are_all_far_off_the_farthest_is_named() -> None:
    generator = np.random.default_rng(7)
    x = generator.standard_normal((1000, CHANNELS)) + 100
    x[:, 11] += 50
    fit = judged(trained(generator), x)
    assert (fit.mean.channel, fit.mean.beyond) == (11, CHANNELS)
    assert fit.mean.effect == pytest.approx(150, rel=0.1)
    assert fit.mean.effect_median == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("samples", [2, 3, 4, 6])
def test_a_handful_of_samples_of_its_own_kind_never_differs(samples: int) -> None:
    generator = np.random.default_rng(samples)
    norm = trained(generator)
    for _ in range(60):
        assert judged(norm, generator.standard_normal((samples, CHANNELS))).verdict != "differs"


def test_the_variance_of_either_convention_fits() -> None:
    generator = np.random.default_rng(7)
    x = generator.standard_normal((1000, CHANNELS))
    for ddof in (0, 1):
        layer = BatchNorm("bn", None, None, x.mean(axis=0), x.var(axis=0, ddof=ddof), epsilon=1e-3, momentum=0.9)
        fit = judged(layer, x)
        assert fit.variance.effect == pytest.approx(0, abs=1e-12)


def test_more_channels_and_fewer_samples_make_accidents_larger() -> None:
    assert critical(10, 10**6) == pytest.approx(4.0, abs=1e-4)
    assert critical(26560, 10**6) == pytest.approx(5.2, abs=0.1)
    assert critical(10, 20) > 5
