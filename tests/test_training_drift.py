"""What is said of moving statistics in a training: arithmetic alone, no framework."""

from __future__ import annotations

import numpy as np
import pytest

from bninspect.training_drift import Limits, Norm, Watch


def _norm(mean: float, variance: float, *, momentum: float = 0.99, trained: bool = True) -> Norm:
    return Norm(np.array([0.0, mean]), np.array([1.0, variance]), 1e-3, momentum, trained)


INITIAL = {"bn": _norm(0.0, 1.0)}


def _watched(*after: Norm, steps: int = 100, before: dict[str, Norm] | None = None) -> tuple[Watch, list[str]]:
    """A training of as many epochs as there are norms, and what was said at their ends."""
    watch = Watch(Limits())
    watch.begin(INITIAL if before is None else before)
    return watch, [message for norm in after for message in watch.epoch({"bn": norm}, steps)]


def test_the_share_is_momentum_to_the_power_of_the_updates() -> None:
    watch, _ = _watched(_norm(1, 2), _norm(1.1, 2), _norm(1.2, 2), steps=7)
    assert [state.updates for state in watch.states["bn"]] == [7, 14, 21]
    assert [state.share for state in watch.states["bn"]] == [0.99**7, 0.99**14, 0.99**21]


def test_too_much_of_the_initial_statistics_is_said_at_the_end_with_what_would_be_enough() -> None:
    watch, said = _watched(_norm(1, 0.9), _norm(1.1, 0.9))
    assert said == []
    (message,) = watch.end()
    # 0.99**459 is the first power below 0.01; a variance of 0.9 holds a tenth more of the initial 1.
    assert message == (
        "bn: 0.13 of the initial statistics is left, 0.99**200: train for 469 steps in all, or lower the momentum"
    )
    assert list(watch.end()) == []


def test_a_small_variance_keeps_more_of_the_initial_one_than_the_share() -> None:
    share = 0.99**600
    watch, _ = _watched(*[_norm(1 + epoch / 1000, 1e-4 + share) for epoch in range(6)])
    assert watch.states["bn"][-1].share == pytest.approx(0.0024, rel=0.01)
    assert watch.states["bn"][-1].left == pytest.approx(share / (1e-4 + share + 1e-3))
    (message,) = watch.end()
    assert "and with epsilon it makes 68.6% of a denominator" in message


@pytest.mark.parametrize(
    ("after", "share"), [(Norm(np.ones(2), np.zeros(2), 0.0, 0.9, True), "1.3e-05"), (_norm(1, 2, momentum=-2.0), "")]
)
def test_a_denominator_of_zero_and_a_momentum_beyond_all_do_not_end_the_training(after: Norm, share: str) -> None:
    watch, _ = _watched(after, steps=107 if share else 4)
    (message,) = watch.end()
    assert message.startswith(f"bn: {share}")
    assert "of the initial statistics is left" in message


def test_enough_steps_are_no_warning() -> None:
    watch, said = _watched(*[_norm(1, 0.9)] * 5, _norm(1.01, 0.9))
    # Of the epochs in which nothing moved it was said, once.
    assert [message.partition(": ")[2] for message in said] == [
        "the moving statistics did not move in 100 training steps: is it called with training=False?"
    ]
    assert list(watch.end()) == []


def test_a_trained_model_that_trains_on_may_keep_what_it_has() -> None:
    trained = _norm(1.0, 0.9)
    watch, _ = _watched(_norm(1.001, 0.9), steps=3, before={"bn": trained})
    assert watch.states["bn"][-1].share == 0.99**3
    assert list(watch.end()) == []


def test_statistics_that_are_still_on_their_way_are_said_at_the_end() -> None:
    # 0.03 deviations in each of 100 steps, and a memory of 100 steps.
    deviation = (0.9 + 1e-3) ** 0.5
    watch, _ = _watched(*[_norm(3 * deviation * epoch, 0.9) for epoch in range(1, 8)])
    assert watch.states["bn"][-1].drift == pytest.approx(3.0)
    (message,) = watch.end()
    assert message.startswith("bn: the moving statistics are behind: ")
    assert "by 3 deviations" in message


def test_drift_is_for_the_memory_of_the_layer_however_long_an_epoch_is() -> None:
    of_variance = _watched(_norm(0, np.exp(0.5) * 1.001 - 1e-3, momentum=0.9), steps=50)[0].states["bn"][0]
    assert of_variance.drift == pytest.approx(0.5 * 10 / 50)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_said_once_and_at_once(value: float) -> None:
    watch, said = _watched(_norm(value, 1), _norm(value, 1))
    assert said == ["bn: a moving statistic is NaN or infinite, and so is inference"]
    assert not watch.states["bn"][0].finite
    assert list(watch.end()) == []


def test_frozen_layers_are_not_warned_of() -> None:
    watch, said = _watched(*[_norm(0, 1, trained=False)] * 2)
    assert (said, list(watch.end())) == ([], [])
    assert watch.states["bn"][-1].share == 1


def test_a_layer_that_was_built_in_the_first_step_began_with_zero_and_one() -> None:
    watch, said = _watched(_norm(1, 0.9), before={})
    assert said == []
    assert watch.states["bn"][0].share == 0.99**100
    assert len(list(watch.end())) == 1


def test_many_layers_make_one_warning_and_names_are_inert() -> None:
    names = ["a\x1b[2J", "b", "c", "d", "e"]
    watch = Watch(Limits())
    watch.begin({name: _norm(0, 1) for name in names})
    (message,) = watch.epoch({name: _norm(np.nan, 1) for name in names}, 1)
    assert message.startswith(r"a\x1b[2J, b, c and 2 more: a moving statistic is NaN")
    # Another layer later is news; the same ones are not.
    (message,) = watch.epoch({name: _norm(np.nan, 1) for name in [*names, "f"]}, 1)
    assert message.startswith("f: ")


def test_limits_are_kept() -> None:
    watch = Watch(Limits(left=0.5))
    watch.begin(INITIAL)
    list(watch.epoch({"bn": _norm(0.001, 1)}, 100))
    assert list(watch.end()) == []
