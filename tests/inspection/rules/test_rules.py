"""Each rule fires where it should, stays silent just beside it, and never raises, whatever the file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layers import frozen, layer
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bninspect import formats
from bninspect.inspection import rules
from bninspect.records import BatchNorm, Finding, Severity, Statistics
from bninspect.reports import manual


def found(code: str, **changes: Any) -> Finding | None:
    finding = rules.RULES[code](layer(**changes))
    assert finding is None or finding.rule == code
    return finding


def fires(code: str, **changes: Any) -> Finding:
    finding = found(code, **changes)
    assert finding is not None
    return finding


def variances(*values: float) -> Any:
    return frozen(values)


def wide(channels: int, **changes: Any) -> dict[str, Any]:
    """Return a sound layer of some width."""
    random = np.random.default_rng(0)
    parameters = {
        "gamma": frozen(random.uniform(0.5, 2, channels)),
        "beta": frozen(random.normal(size=channels)),
        "moving_mean": frozen(random.normal(size=channels)),
        "moving_variance": frozen(random.uniform(0.1, 3, channels)),
    }
    return {**parameters, **changes}


def test_a_sound_layer_has_no_findings() -> None:
    assert rules.check(layer(**wide(8))) == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_parameters(value: float) -> None:
    finding = fires("BN101", beta=frozen([0, value, value]))
    assert finding.message == f"beta is not finite in 2 channels: channel 1 holds {value}"
    assert finding.evidence == {"arrays": {"beta": [1, 2]}}


def test_negative_variances() -> None:
    finding = fires("BN102", moving_variance=variances(1, -0.25, -0.5))
    assert finding.message == "moving_variance is negative in 2 channels: channel 1 holds -0.25"
    assert finding.evidence["minimum"] == -0.5
    assert found("BN102", moving_variance=variances(0, 1, 1)) is None


def test_missing_parameters() -> None:
    assert fires("BN103", moving_variance=None).message == "the file does not hold moving_variance"
    assert fires("BN103", gamma=None, scale=True).evidence == {"arrays": ["gamma"]}
    assert found("BN103", gamma=None, scale=False) is None
    assert found("BN103", gamma=None, scale=None) is None


def test_what_a_converter_folded_away_is_not_missing() -> None:
    folded: dict[str, Any] = {"moving_mean": None, "moving_variance": None, "epsilon": None}
    folded["statistics"] = Statistics.FOLDED
    assert rules.check(layer(**folded)) == ()
    assert fires("BN103", **folded, gamma=None).evidence == {"arrays": ["gamma"]}


def test_parameters_that_the_configuration_rules_out() -> None:
    assert fires("BN104", scale=False).message == "the file holds gamma although scale is false"
    assert fires("BN104", scale=False, center=False).evidence == {"arrays": ["gamma", "beta"]}
    assert found("BN104", scale=None, center=None) is None


def test_parameters_of_different_shapes() -> None:
    finding = fires("BN105", beta=frozen([1, 2]))
    assert (
        finding.message
        == "the parameters differ in shape: gamma (3,), beta (2,), moving_mean (3,), moving_variance (3,)"
    )


@pytest.mark.parametrize(("variance", "epsilon"), [(0, 0), (1e-39, 0), (5e-39, 1e-39)])
def test_no_denominator(variance: float, epsilon: float) -> None:
    finding = fires("BN106", moving_variance=variances(1, variance, 1), epsilon=epsilon)
    assert finding.evidence["channels"] == [1]


def test_a_denominator() -> None:
    assert found("BN106", moving_variance=variances(1, 0, 1), epsilon=1e-12) is None
    assert found("BN106", moving_variance=variances(1, 1, 1), epsilon=0.0) is None
    assert found("BN106", moving_variance=variances(1, 0, 1), epsilon=None) is None
    assert "epsilon is negative" in fires("BN106", moving_variance=variances(1, 1, 1), epsilon=-1e-3).message


def test_zero_variance() -> None:
    assert fires("BN110", moving_variance=variances(0, 1e-39, 1)).evidence["channels"] == [0, 1]
    assert fires("BN110", moving_variance=variances(1.2e-36, 1, 1)).evidence["channels"] == [0]  # stuck there
    assert fires("BN110", moving_variance=variances(1.2e-36, 1, 1), epsilon=None).evidence["channels"] == [0]
    assert found("BN110", moving_variance=variances(1e-10, 1, 1)) is None  # felt beside 0.001
    assert fires("BN110", moving_variance=variances(1e-11, 1, 1)).evidence["channels"] == [0]
    assert found("BN110", moving_variance=variances(1e-11, 1, 1), epsilon=1e-5) is None
    assert found("BN110", moving_variance=variances(1e-11, 1, 1), epsilon=0.0) is None


def test_statistics_that_were_never_updated() -> None:
    initial = {"moving_mean": frozen([0, 0, 0]), "moving_variance": variances(1, 1, 1)}
    assert fires("BN111", **initial).severity is Severity.WARNING
    assert found("BN112", **initial) is None
    untouched = {**initial, "gamma": frozen([1, 1, 1]), "beta": frozen([0, 0, 0])}
    assert found("BN111", **untouched) is None
    assert fires("BN112", **untouched).severity is Severity.NOTE
    assert fires("BN112", **initial, gamma=None, beta=None).rule == "BN112"
    assert found("BN111", moving_mean=frozen([0, 0, 1e-9]), moving_variance=variances(1, 1, 1)) is None


def test_variance_below_epsilon() -> None:
    finding = fires("BN113", moving_variance=variances(0.0009, 1, 0), epsilon=1e-3)
    assert finding.evidence == {"channels": [0, 2], "count": 2, "minimum": 0.0}
    assert found("BN113", moving_variance=variances(0.0011, 1, 1), epsilon=1e-3) is None


@pytest.mark.parametrize(("momentum", "updates"), [(0.99, 10), (0.99, 450), (0.999, 3000), (0.9, 20)])
def test_too_few_updates(momentum: float, updates: int) -> None:
    mean, variance = np.float32(0), np.float32(1)
    for _ in range(updates):  # as a kernel updates a channel whose input is always zero
        variance = variance * np.float32(momentum) + np.float32(0) * np.float32(1 - momentum)
    start = {
        "moving_mean": frozen([0.5, mean, 1]),
        "moving_variance": variances(0.5, float(variance), 2),
        "momentum": momentum,
    }
    finding = fires("BN114", **start)
    assert finding.evidence["updates"] == pytest.approx(updates, abs=1)  # float32 rounds momentum and each product
    assert finding.evidence["share"] == pytest.approx(variance, rel=2e-3)
    assert finding.message.startswith(
        f"the moving statistics have seen {finding.evidence['updates']} updates, and hold "
    )


def test_enough_updates_or_none_that_can_be_counted() -> None:
    def start(variance: float) -> dict[str, Any]:
        return {"moving_mean": frozen([0.5, 0, 1]), "moving_variance": variances(0.5, variance, 2), "momentum": 0.99}

    assert found("BN114", **start(0.99**460)) is None  # less than 1 %
    assert found("BN114", **start(0.99**100.5)) is None
    assert found("BN114", **{**start(0.99**100), "momentum": None}) is None
    assert found("BN114", **{**start(0.99**100), "moving_mean": frozen([0.5, 0.1, 1])}) is None


def test_a_variance_that_is_noise() -> None:
    finding = fires("BN115", moving_mean=frozen([0.1, 1e4, 1]), moving_variance=variances(1, 8, 1))
    assert finding.evidence["channels"] == [1]
    assert finding.evidence["uncertainty"] == pytest.approx(1e8 * 2**-24 / 8.001)
    # Zero is the worst such variance, but a large epsilon makes any noise harmless.
    assert fires("BN115", moving_mean=frozen([0.1, 1e4, 1]), moving_variance=variances(1, 0, 1)).rule == "BN115"
    assert found("BN115", moving_mean=frozen([0.1, 1e2, 1]), moving_variance=variances(1, 1e-5, 1), epsilon=1.0) is None
    # From a share of 1 % on: a mean of 1024 leaves 2^-24 * 2^20 = 1/16 uncertain.
    large = {"moving_mean": frozen([0.1, 1024, 1]), "moving_variance": variances(1, 0, 1)}
    assert fires("BN115", **large, epsilon=6.24).evidence["channels"] == [1]
    assert found("BN115", **large, epsilon=6.26) is None
    # A channel whose input is a constant of usual size.
    assert found("BN115", moving_mean=frozen([0.1, 0.7, 1]), moving_variance=variances(1, 1e-30, 1)) is None
    assert (
        found("BN115", moving_mean=frozen([0.1, 0.7, 1]), moving_variance=variances(1, 1e-30, 1), epsilon=None) is None
    )
    assert found("BN115", moving_mean=frozen([0.1, 15, 1]), moving_variance=variances(1, 1, 1)) is None


def test_dead_channels() -> None:
    finding = fires("BN116", gamma=frozen([0, -5e-4, 2e-3]))
    assert finding.message == "gamma is below 0.001 in 2 channels of 3: they answer beta whatever goes in"
    assert found("BN116", gamma=None) is None


@pytest.mark.parametrize(
    ("momentum", "warned"),
    [(0.1, True), (0.0, True), (-0.1, True), (1.5, True), (0.5, False), (0.99, False), (1.0, False), (None, False)],
)
def test_momentum_of_the_other_convention(momentum: float | None, warned: bool) -> None:
    assert (found("BN120", momentum=momentum) is not None) is warned


def test_momentum_says_how_much_the_last_batch_weighs() -> None:
    assert "the last batch alone makes up 90%" in fires("BN120", momentum=0.1).message
    assert "not between 0 and 1" in fires("BN120", momentum=1.5).message


def test_unknown_epsilon() -> None:
    assert fires("BN121", name="block/bn", epsilon=None).hint.startswith("--epsilon 'block/bn=VALUE'")
    assert found("BN121") is None


def test_clamped_epsilon() -> None:
    finding = fires("BN122", epsilon=1e-7, moving_variance=variances(1e-6, 1, 1))
    assert finding.severity is Severity.WARNING
    assert finding.evidence["change"] == pytest.approx(1 - (1.1e-6 / (1e-6 + 1.001e-5)) ** 0.5)
    assert fires("BN122", epsilon=1e-7, moving_variance=variances(0.01, 1, 1)).severity is Severity.NOTE
    assert found("BN122", epsilon=1e-7, moving_variance=variances(1, 1, 1)) is None
    assert found("BN122", epsilon=1e-5, moving_variance=variances(0, 1, 1)) is None


def test_batch_statistics() -> None:
    assert "of the batch" in fires("BN123", statistics=Statistics.BATCH).message
    assert "of each sample" in fires("BN123", statistics=Statistics.SAMPLE).message
    assert found("BN123") is None


def test_wired_training(sample_models: Path) -> None:
    assert fires("BN124", wired=True).severity is Severity.WARNING
    assert found("BN124") is None
    assert "BN123" in codes(sample_models / "keras2_training_mode.h5")


def test_the_axis_of_a_virtual_batch() -> None:
    shaped = {name: array.reshape(1, 1, 1, 1, 3) for name, array in layer().arrays.items()}
    assert fires("BN125", **shaped, axis=(4,)).evidence == {"axis": 4, "rank": 5}
    assert found("BN125", **shaped, axis=(1, 3)) is None
    assert found("BN125", axis=(3,)) is None


def test_float16_overflow() -> None:
    finding = fires("BN130", moving_variance=variances(1, 7e4, 1))
    assert finding.message == "moving_variance overflows float16 in 1 channel: channel 1 has 70000, above 65504"
    assert fires("BN130", gamma=frozen([3e3, 1, 1]), moving_variance=variances(1e-6, 1, 1)).evidence["arrays"] == {
        "scale": [0]
    }
    assert fires("BN130", moving_mean=frozen([3e4, 1, 1]), moving_variance=variances(1e-6, 1, 1)).evidence[
        "arrays"
    ] == {"shift": [0]}
    assert found("BN130", moving_variance=variances(1, 65519, 1)) is None
    assert np.isfinite(np.float16(65519))
    with np.errstate(over="ignore"):
        assert np.isinf(np.float32(65520).astype(np.float16))
    assert fires("BN130", moving_variance=variances(1, 65520, 1)).rule == "BN130"


def test_float16_precision() -> None:
    finding = fires("BN131", **wide(8, moving_mean=frozen([300.2] + 7 * [0]), moving_variance=frozen([1e-4] + 7 * [1])))
    assert finding.evidence["channels"] == [0]
    assert finding.evidence["error"] > 1
    assert fires("BN131", **wide(8, moving_variance=frozen([1e-9] + 7 * [1])), epsilon=1e-9).rule == "BN131"
    assert found("BN131", **wide(8, moving_variance=frozen([1e-9] + 7 * [1])), epsilon=1e-3) is None
    # What overflows is another rule's.
    assert found("BN131", **wide(8, moving_variance=frozen([7e4] + 7 * [1]))) is None


def test_bfloat16_precision() -> None:
    assert fires("BN132", **wide(8, moving_mean=frozen([100.3] + 7 * [0]))).evidence["channels"] == [0]
    assert found("BN132", **wide(8, moving_mean=frozen([10.3] + 7 * [0]))) is None
    assert found("BN131", **wide(8, moving_mean=frozen([100.3] + 7 * [0]))) is None


def test_cancellation() -> None:
    finding = fires("BN133", moving_mean=frozen([0, -2e3, 1]), moving_variance=variances(1, 1, 1))
    assert finding.severity is Severity.NOTE
    assert finding.evidence["lost"] == pytest.approx(3 * 2**-24 * 2e3, rel=1e-3)
    assert (
        fires("BN133", moving_mean=frozen([0, 2e5, 1]), moving_variance=variances(1, 1, 1)).severity is Severity.WARNING
    )
    assert found("BN133", moving_mean=frozen([0, 900, 1]), moving_variance=variances(1, 1, 1)) is None


def test_int8_spread() -> None:
    finding = fires("BN134", gamma=frozen([1, 1, 1]), moving_variance=variances(1e-4, 1, 1e2), epsilon=1e-9)
    assert finding.evidence["channels"] == [2]
    assert finding.evidence["spread"] == pytest.approx(1e3, rel=1e-3)
    assert found("BN134", gamma=frozen([1, 1, 1e-4]), moving_variance=variances(1, 1, 1)) is None  # dead
    assert found("BN134", gamma=frozen([2, 1, 0.01]), moving_variance=variances(1, 1, 1)) is None


NUMBERS = st.floats(width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-39, 3e38, float("nan"), float("inf")])


@st.composite
def any_layers(draw: st.DrawFn) -> BatchNorm:
    shape = draw(st.sampled_from([(0,), (1,), (3,), (1, 2, 1, 2)]))
    other = draw(st.sampled_from([shape, shape, shape, (2,)]))
    one = st.none() | arrays(
        draw(st.sampled_from(["float16", "float32", "float64"])), shape, elements=st.floats(width=16)
    )
    return layer(
        gamma=draw(one),
        beta=draw(st.none() | arrays(np.float32, other, elements=NUMBERS)),
        moving_mean=draw(st.none() | arrays(np.float32, shape, elements=NUMBERS)),
        moving_variance=draw(st.none() | arrays(np.float32, shape, elements=NUMBERS)),
        undecided=draw(one),
        epsilon=draw(st.none() | st.floats()),
        momentum=draw(st.none() | st.floats()),
        axis=draw(st.none() | st.just((-1,)) | st.just((1, 3)) | st.just(())),
        scale=draw(st.none() | st.booleans()),
        center=draw(st.none() | st.booleans()),
        dtype=draw(st.sampled_from(["float16", "bfloat16", "float32"])),
        statistics=draw(st.sampled_from(list(Statistics))),
    )


@given(any_layers())
@settings(max_examples=300, deadline=None)
def test_no_rule_ever_raises_and_each_keeps_to_its_page(anything: BatchNorm) -> None:
    for finding in rules.check(anything):
        assert finding.message.isprintable()
        severities = manual.page(finding.rule).paragraphs[-1]
        assert finding.severity.value in severities


def codes(path: Path) -> set[str]:
    return {finding.rule for one in formats.read(path).layers for finding in rules.check(one)}


def test_models_that_deploy_well_have_notes_at_most(shared_models: Path, sample_models: Path) -> None:
    """Each of these notes is true: see the figures in the tests above."""
    tiny = shared_models / "mlperf-tiny"
    assert codes(tiny / "pretrainedResnet.h5") == set()
    assert codes(tiny / "kws_ref_model") == {"BN113"}  # one channel has a variance of 8.5e-4
    # Two channels of its batch_normalization_1 have variances that stuck at 1.2e-36.
    faces = shared_models / "face-classification" / "fer2013_mini_XCEPTION.102-0.66.hdf5"
    assert codes(faces) == {"BN110", "BN113"}
    for sound in ("keras2_digits.h5", "keras3_digits.keras", "keras3_nested.keras", "keras3_mixed_float16.keras"):
        assert codes(sample_models / sound) == set()


def test_samples_that_are_broken(sample_models: Path) -> None:
    assert codes(sample_models / "broken_nan.h5") == {"BN101"}
    assert codes(sample_models / "broken_negative_variance.h5") == {"BN102"}
    assert codes(sample_models / "broken_slightly_negative_variance.h5") == {"BN102"}


def test_a_half_written_file_misses_its_parameters(shared_models: Path) -> None:
    assert codes(shared_models / "writers" / "k30" / "nested.h5") == {"BN103"}
