"""A verdict is earned: what was not compared, or compared badly, is never verified."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.layers import frozen, layer, observation

from bninspect.inspection.description import distribution, extremes
from bninspect.records import BatchNorm, Evidence, LayerReport, LayerStatus, Observation, Run, Statistics
from bninspect.settings import IgnoreRule, Settings, ToleranceRule
from bninspect.verdicts.layers import Judge

MODEL = Run("keras 3", Evidence.MODEL)
DEFAULTS = Settings()


def verdict(stored: BatchNorm, *seen: Observation, run: Run = MODEL, settings: Settings = DEFAULTS) -> LayerReport:
    judge = Judge((stored,), settings)
    for one in seen:
        judge.see(one)
    (report,) = judge.reports(run)
    return report


def both(stored: BatchNorm, **changes: Any) -> tuple[Observation, Observation]:
    return observation(stored, **changes), observation(stored, "probed", **changes)


def test_two_right_observations_verify_a_layer() -> None:
    report = verdict(layer(), *both(layer()))
    assert report.status is LayerStatus.VERIFIED
    assert [one.observed for one in report.comparisons] == ["in-model", "probed"]
    assert all(one.elements == 60 for one in report.comparisons)
    assert [finding.rule for finding in report.findings] == ["BN113"]


def test_hard_wired_training_is_unverified_though_predict_is_right() -> None:
    stored = layer(wired=True)
    report = verdict(stored, *both(stored))
    assert report.status is LayerStatus.UNVERIFIED
    assert "training=True is hard-wired: model(x) and exports" in report.reason
    assert "BN124" in {finding.rule for finding in report.findings}
    wrong = verdict(stored, *both(stored, epsilon=1e-5))
    assert wrong.status is LayerStatus.MISMATCH


def test_several_calls_of_a_shared_layer_are_joined() -> None:
    report = verdict(layer(), *both(layer()), observation(layer()))
    in_model = report.comparisons[0]
    assert (in_model.elements, in_model.calls) == (120, 2)


@pytest.mark.parametrize("name", ["gamma", "beta", "moving_mean", "moving_variance"])
@pytest.mark.parametrize("channel", [0, 2])
@pytest.mark.parametrize("bit", [0, 12, 31])
def test_one_flipped_bit_of_a_loaded_parameter_is_named(name: str, channel: int, bit: int) -> None:
    stored = layer()
    loaded = {key: array.copy() for key, array in stored.arrays.items()}
    loaded[name].view(np.uint32)[channel] ^= np.uint32(1 << bit)
    report = verdict(stored, *both(stored, loaded=loaded))
    assert report.status is LayerStatus.MISMATCH
    (finding,) = [one for one in report.findings if one.rule == "BN304"]
    assert f"{name} of channel {channel} is" in finding.message


def test_another_epsilon_in_the_runtime_is_named() -> None:
    report = verdict(layer(), *both(layer(), epsilon=1e-5))
    assert report.status is LayerStatus.MISMATCH
    assert "epsilon is 0.001 in the file and 1e-05 in the runtime" in [one.message for one in report.findings]


def test_another_axis_in_the_runtime_is_named() -> None:
    report = verdict(layer(axis=(1,)), *both(layer()))
    assert report.status is LayerStatus.MISMATCH
    assert "axis is (1,) in the file and (2,) in the runtime" in [one.message for one in report.findings]


def test_swapped_parameters_are_seen_in_the_outputs_and_in_the_loaded_values() -> None:
    stored = layer()
    swapped = layer(gamma=stored.beta, beta=stored.gamma)
    report = verdict(stored, *both(swapped))
    assert report.status is LayerStatus.MISMATCH
    assert {one.rule for one in report.findings} >= {"BN301", "BN304"}
    assert all(not one.agrees for one in report.comparisons)


def test_a_parameter_that_only_one_side_has_is_named() -> None:
    stored = layer(gamma=None, scale=False)
    report = verdict(stored, *both(stored, loaded=layer().arrays))
    assert report.status is LayerStatus.MISMATCH
    assert "the runtime has a gamma, the file has none" in [one.message for one in report.findings]


def test_a_runtime_that_widens_float16_has_changed_nothing() -> None:
    half: dict[str, Any] = {key: array.astype(np.float16) for key, array in layer().arrays.items()}
    stored = layer(dtype="float16", **half)
    loaded = {key: array.astype(np.float32) for key, array in half.items()}
    assert verdict(stored, *both(stored, loaded=loaded)).status is LayerStatus.VERIFIED


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_is_a_mismatch(poison: float) -> None:
    bad = observation(layer())
    bad.y[1, 2, 1] = poison
    report = verdict(layer(), bad, observation(layer(), "probed"))
    assert report.status is LayerStatus.MISMATCH
    (finding,) = [one for one in report.findings if one.rule == "BN202"]
    assert finding.evidence["channels"] == [1]


def test_nan_on_both_sides_is_a_mismatch() -> None:
    stored = layer(moving_variance=frozen([-1.0, 1.0, 4.0]))
    with np.errstate(invalid="ignore"):
        report = verdict(stored, *both(stored))
    assert report.status is LayerStatus.MISMATCH
    assert {one.rule for one in report.findings} >= {"BN102", "BN202"}


def test_no_observation_is_unverified() -> None:
    assert verdict(layer()).status is LayerStatus.UNVERIFIED


def test_a_layer_that_only_the_probe_reached_is_unverified_unless_accepted() -> None:
    run = Run("keras 3", Evidence.MODEL, unobserved={"bn": "no call reached it"})
    probe = observation(layer(), "probed")
    report = verdict(layer(), probe, run=run)
    assert report.status is LayerStatus.UNVERIFIED
    assert report.reason.startswith("no call reached it")
    assert verdict(layer(), probe, run=run, settings=Settings(accept=("layer",))).status is LayerStatus.VERIFIED


def test_layer_evidence_is_unverified_unless_accepted() -> None:
    run = Run("keras 3", Evidence.LAYER, reason="the file holds only weights")
    assert verdict(layer(), *both(layer()), run=run).reason.startswith("the file holds only weights")
    assert verdict(layer(), *both(layer()), run=run, settings=Settings(accept=("layer",))).status == "verified"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epsilon": None}, "--epsilon"),
        ({"statistics": Statistics.BATCH}, "not verifiable"),
        ({"moving_mean": None}, "does not hold"),
        ({"undecided": frozen([1.0, 2.0, 3.0])}, "gamma or beta"),
    ],
)
def test_what_the_formula_cannot_be_computed_for_is_unverified(changes: dict[str, Any], reason: str) -> None:
    report = verdict(layer(**changes), *both(layer()))
    assert report.status is LayerStatus.UNVERIFIED
    assert reason in report.reason
    assert not report.comparisons


def test_a_call_in_training_mode_is_unverified() -> None:
    report = verdict(layer(), observation(layer(), training=True), observation(layer(), "probed"))
    assert report.status is LayerStatus.UNVERIFIED
    assert "batch statistics" in report.reason


def test_tolerances_of_those_who_insist_replace_the_bound() -> None:
    off = observation(layer())
    off.y[...] += 0.01
    settings = Settings(rtol=0.0, atol=0.1)
    assert verdict(layer(), off, observation(layer(), "probed")).status is LayerStatus.MISMATCH
    assert verdict(layer(), off, observation(layer(), "probed"), settings=settings).status is LayerStatus.VERIFIED


def test_ignored_rules_stay_in_the_report() -> None:
    report = verdict(layer(), *both(layer()), settings=Settings(ignore=("BN113",)))
    assert [(one.rule, one.ignored) for one in report.findings] == [("BN113", "--ignore")]


def test_a_distribution_counts_every_value() -> None:
    values = distribution(np.array([[1.0, 2.0], [np.nan, 1e30]], np.float32))
    assert (values.minimum, values.nonfinite, sum(values.counts)) == (1.0, 1, 3)
    assert values.quantiles[2] == 2.0
    nothing = distribution(np.full(3, np.inf))
    assert (nothing.minimum, nothing.nonfinite, nothing.counts) == (None, 3, ())


@pytest.mark.parametrize(
    "values",
    [
        [1.0, np.nextafter(1.0, 2.0)],
        [-1.7e308, 0.0, 1.7e308],
        [5e-324, 1e-323],
        [1e300, np.nextafter(1e300, 2e300)],
        [3.0, 3.0],
    ],
)
def test_a_distribution_of_neighbouring_and_of_huge_numbers(values: list[float]) -> None:
    found = distribution(np.array(values), logarithmic=True)
    assert sum(found.counts) == len(values)
    quantiles = [one for one in found.quantiles if one is not None]
    assert quantiles == sorted(quantiles)
    assert len(quantiles) == 5
    assert found.quantiles[2] == pytest.approx(np.sort(values)[len(values) // 2], rel=1e-15)


def test_a_histogram_counts_as_numpy_does() -> None:
    values = np.random.default_rng(1).lognormal(-3, 4, 500).astype(np.float32)
    found = distribution(values, logarithmic=True)
    assert found.counts == tuple(np.histogram(values.astype(np.float64), bins=24)[0])
    assert found.log_counts == tuple(np.histogram(np.log10(values.astype(np.float64)), bins=24)[0])
    assert found.smallest_positive == values.min()


def test_only_values_above_zero_have_a_logarithm() -> None:
    found = distribution(np.array([-1.0, 0.0, 1e-30, 2.0, np.nan]), logarithmic=True)
    assert (sum(found.log_counts), found.smallest_positive) == (2, 1e-30)
    assert distribution(np.array([-1.0, 0.0]), logarithmic=True).log_counts == ()
    assert distribution(np.array([1.0, 2.0])).smallest_positive is None


def test_a_batch_norm_that_only_the_runtime_has_closes_the_gate() -> None:
    run = Run("keras 3", Evidence.MODEL, unlisted=("hidden/bn",))
    judge = Judge((layer(),), DEFAULTS)
    for one in both(layer()):
        judge.see(one)
    known, stranger = judge.reports(run)
    assert known.status is LayerStatus.VERIFIED
    assert (stranger.name, stranger.status) == ("hidden/bn", LayerStatus.UNVERIFIED)


def test_only_chosen_layers_are_reported() -> None:
    judge = Judge((layer("a"), layer("b")), Settings(layers=("b",)))
    for name in ("a", "b"):
        judge.see(observation(layer(name)))
    assert [one.name for one in judge.reports(MODEL)] == ["b"]


def test_an_output_of_another_shape_is_a_mismatch_of_its_layer() -> None:
    right = observation(layer())
    report = verdict(layer(), replace(right, y=right.y[..., :2]), observation(layer(), "probed"))
    assert report.status is LayerStatus.MISMATCH
    assert "the output in the model has shape (4, 5, 2)" in [one.message[:43] for one in report.findings]


@pytest.mark.parametrize(
    "values", [[1.0, -2.0, 3.0], [np.nan, 5.0, -np.inf], [np.inf], [], [[1.0, 2.0], [3.0, np.nan]]]
)
def test_extremes_are_those_of_the_distribution(values: list[Any]) -> None:
    array = np.array(values, np.float32)
    brief, whole = extremes(array), distribution(array)
    assert (brief.minimum, brief.maximum, brief.nonfinite) == (whole.minimum, whole.maximum, whole.nonfinite)


@pytest.mark.parametrize(("layers", "status"), [("b*", LayerStatus.VERIFIED), ("other", LayerStatus.MISMATCH)])
def test_a_tolerance_is_for_its_layers_and_stands_in_the_report(layers: str, status: LayerStatus) -> None:
    seen = [observation(layer(), how) for how in ("in-model", "probed")]
    seen = [replace(one, y=(one.y + np.float32(0.01))) for one in seen]
    report = verdict(layer(), *seen, settings=Settings(tolerances=(ToleranceRule(layers, 0.0, 0.02, reason="known"),)))
    assert report.status is status
    assert (report.tolerance is not None) is (status is LayerStatus.VERIFIED)
    if report.tolerance:
        assert (report.tolerance.rtol, report.tolerance.atol, report.tolerance.reason) == (0.0, 0.02, "known")


def test_a_tolerance_lets_neither_nan_nor_more_than_it_says_pass() -> None:
    settings = Settings(tolerances=(ToleranceRule("*", 0.0, 0.02),))
    for wrong in (np.float32(0.03), np.float32("nan")):
        seen = [replace(one, y=one.y + wrong) for one in both(layer())]
        assert verdict(layer(), *seen, settings=settings).status is LayerStatus.MISMATCH


def test_an_ignored_finding_says_why_and_a_mismatch_stays_one() -> None:
    swapped = layer(gamma=layer().beta, beta=layer().gamma)
    rules = (IgnoreRule("BN113", "small", layers="b*", until="2027-01-31"), IgnoreRule("BN3", "never mind"))
    report = verdict(layer(), *both(swapped), settings=Settings(ignores=rules))
    reasons = {finding.rule: finding.ignored for finding in report.findings}
    assert reasons["BN113"] == "small (until 2027-01-31)"
    assert reasons["BN301"] == "never mind"
    assert report.status is LayerStatus.MISMATCH
