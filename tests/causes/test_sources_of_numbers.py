"""Which numbers a kernel used: those of another axis, channel, layer or order of the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.wrong_kernels import Numbers, norm

from bninspect import causes
from bninspect.causes import Explanation
from bninspect.records import Array, BatchNorm, Form, Observation, codec

EPSILON = 1e-3


def numbers(channels: int, seed: int = 0) -> Numbers:
    random = np.random.default_rng(seed)
    gamma = random.uniform(0.5, 2, channels) * random.choice([-1, 1], channels)
    beta, mean = random.normal(size=(2, channels))
    variance = random.uniform(0.01, 3, channels)
    variance[-1] = 1e-5  # tells close epsilons apart
    g, b, m, v = (each.astype(np.float32) for each in (gamma, beta, mean, variance))
    return Numbers(g, b, m, v, EPSILON)


def stored(n: Numbers, name: str = "bn", **changes: Any) -> BatchNorm:
    fields: dict[str, Any] = {
        "gamma": n.gamma,
        "beta": n.beta,
        "moving_mean": n.mean,
        "moving_variance": n.variance,
        "epsilon": n.epsilon,
    }
    return BatchNorm(name, **{**fields, **changes})


def along(n: Numbers, axis: int, rank: int) -> tuple[Array, Array, Array, Array]:
    shape = [1] * rank
    shape[axis] = -1
    g, b, m, v = (each.reshape(shape) for each in (n.gamma, n.beta, n.mean, n.variance))
    return g, b, m, v


def inputs(*shape: int) -> Array:
    return np.random.default_rng(9).normal(size=shape).astype(np.float32)


def explained(
    layer: BatchNorm, x: Array, y: Array, axis: tuple[int, ...], *others: BatchNorm, **changes: Any
) -> Explanation:
    observation = Observation(layer.name, "in-model", x, y.astype(np.float32), axis, **changes)
    return causes.explain(layer, [causes.sample(layer, observation)], others)


def names(found: Explanation) -> list[str]:
    return [cause.name for cause in found.causes]


@pytest.mark.parametrize(("own", "other"), [(3, 1), (3, 2), (1, 3), (2, 1)])
def test_another_axis_of_the_same_length(own: int, other: int) -> None:
    n, x = numbers(6), inputs(2, 6, 6, 6)
    y = norm(x, *along(n, other, 4), EPSILON)
    assert names(explained(stored(n), x, y, (own,))) == [f"axis={other}"]


def test_channels_first_memory_read_as_channels_last() -> None:
    n, x = numbers(6), inputs(2, 6, 4, 5)
    y = norm(x.reshape(2, 4, 5, 6), n.gamma, n.beta, n.mean, n.variance, EPSILON).reshape(x.shape)
    assert names(explained(stored(n), x, y, (1,))) == ["layout=channels-last"]


def test_parameters_over_two_axes() -> None:
    n, x = numbers(12), inputs(3, 4, 5, 3)
    g, b, m, v = (each.reshape(1, 4, 1, 3) for each in (n.gamma, n.beta, n.mean, n.variance))
    layer = BatchNorm("bn", g, b, m, v, EPSILON)
    y = norm(x, g, b, m, v, 1e-5)
    assert names(explained(layer, x, y, (1, 3))) == ["epsilon=1e-05"]
    y = norm(x, 1, b, m, v, EPSILON)
    assert names(explained(layer, x, y, (1, 3))) == ["gamma-ignored"]


def test_beta_read_as_gamma_where_there_is_no_gamma() -> None:
    n, x = numbers(6), inputs(40, 6)
    layer = stored(n, gamma=None)
    y = norm(x, n.beta, 0, n.mean, n.variance, EPSILON)
    assert names(explained(layer, x, y, (1,))) == ["roles=beta,-,mean,variance"]
    said = explained(layer, x, y, (1,)).sentence
    assert said == "the arrays taken in another order: gamma from beta, beta 0"


def test_statistics_taken_as_affine_parameters_where_there_are_none() -> None:
    n, x = numbers(6), inputs(40, 6)
    y = norm(x, n.mean, n.variance, 0, 1, EPSILON)
    assert names(explained(stored(n, gamma=None, beta=None), x, y, (1,))) == ["roles=mean,variance,-,-"]


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("parameters", ("gamma", "beta", "mean", "variance")),
        ("statistics", ("-", "-", "mean", "variance")),
        ("affine", ("gamma", "beta", "-", "-")),
        ("gamma", ("gamma", "-", "-", "-")),
        ("variance", ("-", "-", "-", "variance")),
        ("affine-as-statistics", ("-", "-", "gamma", "beta")),
        ("statistics-as-affine", ("mean", "variance", "-", "-")),
    ],
)
def test_arrays_of_another_layer(kind: str, of: tuple[str, ...]) -> None:
    n, other, third, x = numbers(6), numbers(6, 1), numbers(6, 2), inputs(40, 6)
    other.beta[:] = np.abs(other.beta)  # so that it may stand for a variance
    g, b, m, v = (
        getattr(other, source) if source != "-" else getattr(n, role)
        for role, source in zip(("gamma", "beta", "mean", "variance"), of, strict=True)
    )
    y = norm(x, g, b, m, v, EPSILON)
    found = explained(stored(n), x, y, (1,), stored(third, "c"), stored(other, "block/b"), stored(numbers(7), "d"))
    assert names(found) == [f"{kind}-of=block/b"]


def test_names_of_layers_are_made_inert() -> None:
    n, other, x = numbers(6), numbers(6, 1), inputs(40, 6)
    y = norm(x, other.gamma, other.beta, other.mean, other.variance, EPSILON)
    (cause,) = explained(stored(n), x, y, (1,), stored(other, "a\x1b[2J\nb")).causes
    assert cause.name == "parameters-of=a\\x1b[2J\\x0ab"
    assert cause.sentence.isprintable()


def test_parameters_that_the_runtime_loaded_instead() -> None:
    n, other, x = numbers(6), numbers(6, 1), inputs(40, 6)
    y = norm(x, other.gamma, other.beta, other.mean, other.variance, EPSILON)
    loaded = stored(other).arrays
    assert names(explained(stored(n), x, y, (1,), loaded=loaded)) == ["parameters-of=the runtime"]


def test_channels_that_cannot_be_told_apart_may_change_places() -> None:
    n, x = numbers(8), inputs(50, 8)
    for each in (n.gamma, n.beta, n.mean, n.variance):
        each[5] = each[2]
    order = np.array([0, 4, 5, 3, 1, 2, 7, 6])
    y = norm(x, n.gamma[order], n.beta[order], n.mean[order], n.variance[order], EPSILON)
    (cause,) = explained(stored(n), x, y, (1,)).causes
    assert cause.name == "channels=permuted"
    assert cause.sentence == "the parameters of 4 channels given to other channels"
    assert cause.details["from"] == {"1": 4, "4": 1, "6": 7, "7": 6}


def test_an_unknown_epsilon_is_what_fits() -> None:
    n, x = numbers(6), inputs(40, 6)
    found = explained(
        stored(n, epsilon=None), x, norm(x, n.gamma, n.beta, n.mean, n.variance, 2e-5), (1,), form=Form.CENTRED
    )
    assert names(found) == ["epsilon=2e-05"]
    assert found.sentence == "epsilon 2e-05 (the default of Chainer)"
    found = explained(stored(n, epsilon=None), x, norm(x, n.gamma, n.beta, n.mean, n.variance, 3e-4), (1,))
    assert names(found) == ["epsilon=0.0003"]


def test_an_explanation_fits_into_a_report() -> None:
    n, x = numbers(6), inputs(40, 6)
    found = explained(stored(n), x, norm(x, n.gamma, n.beta, n.mean, n.variance, 4e-4), (1,))
    assert codec.decode(Explanation, codec.encode(found)) == found
    low, high = found.causes[0].details["low"], found.causes[0].details["high"]
    assert low <= 4e-4 <= high
    assert high - low < 1e-6


@pytest.mark.parametrize(("step", "word"), [(-1, "early"), (1, "late")])
@pytest.mark.parametrize("order", ["gbmv", "bgmv"])
def test_all_arrays_read_one_number_beside_their_place(step: int, word: str, order: str) -> None:
    """As with a header of Darknet that is read too short: what stands before the first array may be anything."""
    n, x = numbers(6), inputs(40, 6)
    kept = {"g": n.gamma, "b": n.beta, "m": n.mean, "v": n.variance}
    flat = np.concatenate([np.array([5], np.float32), *(kept[name] for name in order), np.array([7], np.float32)])
    read = np.split(flat[1 + step : 1 + step + 24], 4)
    g, b, m, v = (read[order.index(name)] for name in "gbmv")
    found = explained(stored(n), x, norm(x, g, b, m, np.abs(v), EPSILON), (1,))
    assert names(found) == [f"arrays=one {word}"]


@pytest.mark.parametrize(("step", "word"), [(1, "early"), (-1, "late")])
def test_the_number_beside_the_arrays_may_have_no_root(step: int, word: str) -> None:
    """The last mean is read for the first variance then, and may be negative."""
    n, x = numbers(6), inputs(40, 6)
    g, b, m, v = (np.roll(each, step) for each in (n.gamma, n.beta, n.mean, n.variance))
    y = norm(x, g, b, m, v, EPSILON)
    y[:, 0 if step > 0 else -1] = np.nan
    assert names(explained(stored(n), x, y, (1,))) == [f"arrays=one {word}"]


def test_what_is_off_in_one_more_channel_is_not_read_beside_its_place() -> None:
    n, x = numbers(6), inputs(40, 6)
    g, b, m, v = (np.roll(each, 1) for each in (n.gamma, n.beta, n.mean, n.variance))
    y = norm(x, g, b, m, v, EPSILON)
    y[:, 0] = 3 * x[:, 0] + 1
    y[:, 3] = 2 * x[:, 3] - 1
    assert "arrays=one early" not in names(explained(stored(n), x, y, (1,)))


def test_a_last_channel_that_is_missing() -> None:
    n, x = numbers(6), inputs(40, 6)
    y = norm(x, n.gamma, n.beta, n.mean, n.variance, EPSILON)
    for name, given in (("skipped", x[:, -1]), ("neutral", x[:, -1] / np.sqrt(np.float32(1 + EPSILON)))):
        y[:, -1] = given
        assert names(explained(stored(n), x, y, (1,)))[0] == f"last-channel={name}"
