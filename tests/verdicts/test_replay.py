"""Training steps, right ones and wrong ones: what is wrong is named, and nothing that was not compared is verified."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.layers import frozen, layer

from bninspect.records import (
    Array,
    BatchNorm,
    Estimator,
    Evidence,
    Finding,
    Form,
    LayerReport,
    LayerStatus,
    Observation,
    Replay,
    Run,
)
from bninspect.settings import Settings
from bninspect.verdicts.layers import Judge

F = np.float32
MODEL = Run("keras 3", Evidence.MODEL)
SETTINGS = Settings(training=True)
N = 12
FACTORS = {
    Estimator.BIASED: 1.0,
    Estimator.UNBIASED: N / (N - 1),
    Estimator.OVERCORRECTED: N / (N - 1.001),
}


def batch(seed: int = 0, shape: tuple[int, ...] = (3, 4, 3)) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * [0.05, 2.0, 5.0] + [0.3, -1.0, 2.0]).astype(F)


def trained(of: BatchNorm, observed: str = "training", x: Array | None = None, **changes: Any) -> Observation:
    """Return a call in training mode as a correct float32 kernel of Keras 3 makes it, or one with changes.

    Args:
        of: the layer.
        observed: how.
        x: the batch.
        changes: `momentum` and `kept`, the variance that is averaged, of the kernel; `used`, the variance that it
            normalises with, as a factor of the biased one; and fields of the observation and of its replay.
    """
    x = batch() if x is None else x
    momentum, kept = changes.pop("momentum", of.momentum or 0.99), changes.pop("kept", 1.0)
    used, mask = changes.pop("used", 1.0), changes.get("mask")
    flat = x.reshape(-1, 3) if mask is None else x[mask[..., 0]]
    mean = flat.mean(axis=0, dtype=np.float64).astype(F)
    variance = np.square(flat - mean).mean(axis=0, dtype=np.float64).astype(F)
    gamma, beta = (np.asarray(one, F) for one in (of.gamma, of.beta))
    y = (x - mean) / np.sqrt(variance * F(used) + F(of.epsilon or 0)) * gamma + beta
    after = {
        "moving_mean": of.arrays["moving_mean"] * F(momentum) + mean * F(1 - momentum),
        "moving_variance": of.arrays["moving_variance"] * F(momentum) + variance * F(kept) * F(1 - momentum),
    }
    fields = {"momentum": of.momentum or 0.99, "estimator": Estimator.BIASED, "after": after}
    replay = Replay(**{**fields, **{name: one for name, one in changes.items() if name in Replay.__annotations__}})
    rest = {name: one for name, one in changes.items() if name not in Replay.__annotations__}
    call = Observation(
        of.name, observed, x, y, (2,), form=Form.UNKNOWN, epsilon=of.epsilon, loaded=of.arrays, training=True
    )
    return replace(call, replay=replay, **rest)


def untrained(of: BatchNorm, **changes: Any) -> Observation:
    """Return a call that asks for training, of a layer that does not train."""
    x = batch()
    scale = F(1) / np.sqrt(of.arrays["moving_variance"] + F(of.epsilon or 0))
    y = (x - of.arrays["moving_mean"]) * scale * of.arrays["gamma"] + of.arrays["beta"]
    after = {name: of.arrays[name] for name in ("moving_mean", "moving_variance")}
    return trained(of, **{"y": y, "training": False, "after": after, "trainable": False, **changes})


def at_inference(of: BatchNorm) -> tuple[Observation, ...]:
    call = replace(untrained(of), replay=None)
    return replace(call, observed="in-model"), replace(call, observed="probed")


def verdict(
    stored: BatchNorm, *seen: Observation, run: Run = MODEL, settings: Settings = SETTINGS, inference: bool = True
) -> LayerReport:
    judge = Judge((stored,), settings)
    for one in (*(at_inference(stored) if inference else ()), *seen):
        judge.see(one)
    (report,) = judge.reports(run)
    return report


def found(report: LayerReport, rule: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.rule == rule]


def test_a_right_step_is_verified_and_says_which_variance_it_keeps() -> None:
    report = verdict(layer(), trained(layer()), trained(layer(), "training-probed"))
    assert report.status is LayerStatus.VERIFIED
    assert [(one.observed, one.reference, one.elements) for one in report.comparisons[2:]] == [
        ("training", "output", 36),
        ("training", "moving_mean", 3),
        ("training", "moving_variance", 3),
        ("training-probed", "output", 36),
        ("training-probed", "moving_mean", 3),
        ("training-probed", "moving_variance", 3),
    ]
    assert all(one.agrees for one in report.comparisons)
    assert len({one.title for one in report.comparisons}) == 8
    assert report.estimator is Estimator.BIASED
    assert report.notes == ("moving_variance keeps the biased variance, divided by n with n = 12",)


@pytest.mark.parametrize("expected", list(Estimator))
@pytest.mark.parametrize("kept", list(Estimator))
def test_the_estimator_is_seen_and_must_be_the_one_that_the_kernel_is_known_for(
    expected: Estimator, kept: Estimator
) -> None:
    report = verdict(layer(), trained(layer(), kept=FACTORS[kept], estimator=expected))
    assert report.estimator is kept
    if expected is kept:
        assert report.status is LayerStatus.VERIFIED
        return
    assert report.status is LayerStatus.MISMATCH
    (finding,) = found(report, "BN312")
    names = {
        Estimator.BIASED: "biased variance",
        Estimator.UNBIASED: "unbiased variance",
        Estimator.OVERCORRECTED: "variance times n/(n-(1+epsilon))",
    }
    assert finding.evidence["array"] == "moving_variance"
    assert finding.evidence["cause"].startswith(f"it keeps the {names[kept]}")
    assert finding.evidence["cause"].count(" or ") == 0


@pytest.mark.parametrize("stated", [0.99, 0.9, 0.3])
@pytest.mark.parametrize(
    ("used", "cause"),
    [
        (lambda m: 1 - m, "momentum and 1 - momentum are swapped, {swapped:g} of the old value is kept"),
        (lambda m: 1.0, "it is not updated"),
        (lambda m: m * m, "it is updated twice"),
        (lambda m: 0.0, "it is replaced by that of the batch"),
        (lambda m: 0.77, "the momentum is 0.77 instead of {stated:g}"),
    ],
)
def test_another_momentum_is_named(stated: float, used: Any, cause: str) -> None:
    stored = layer(momentum=stated)
    report = verdict(stored, trained(stored, momentum=used(stated)))
    assert report.status is LayerStatus.MISMATCH
    said = cause.format(stated=stated, swapped=1 - stated)
    assert [(one.evidence["array"], one.evidence["cause"]) for one in found(report, "BN312")] == [
        ("moving_mean", said),
        ("moving_variance", said),
    ]
    assert [one.reference for one in report.comparisons if not one.agrees] == ["moving_mean", "moving_variance"]
    assert report.estimator is None
    assert report.notes == ("no batch told which variance its moving_variance keeps",)


def test_the_message_has_the_arithmetic() -> None:
    stored = layer()
    wrong = trained(stored, momentum=0.5, kept=N / (N - 1), estimator=Estimator.UNBIASED)
    finding, of_variance = found(verdict(stored, wrong), "BN312")
    channel = finding.evidence["channels"][0]
    old, mean = stored.arrays["moving_mean"][channel], batch().reshape(-1, 3).astype(np.float64).mean(axis=0)[channel]
    said = f"In channel {channel}, 0.99 * {old:.6g} + 0.01 * {mean:.6g} = {0.99 * old + 0.01 * mean:.6g} by hand and "
    assert f"{said}{0.5 * old + 0.5 * mean:.6g} in the runtime." in finding.message
    channel = of_variance.evidence["channels"][0]
    old = stored.arrays["moving_variance"][channel]
    variance = batch().reshape(-1, 3).astype(np.float64).var(axis=0, ddof=1)[channel]
    assert f"0.99 * {old:.6g} + 0.01 * {variance:.6g} = {0.99 * old + 0.01 * variance:.6g}" in of_variance.message


def test_what_nothing_explains_is_not_explained() -> None:
    stored = layer()
    right = trained(stored)
    assert right.replay is not None
    after = dict(right.replay.after)
    after["moving_mean"] = after["moving_mean"] + frozen([1e-3, 0, 0])
    (finding,) = found(verdict(stored, replace(right, replay=replace(right.replay, after=after))), "BN312")
    assert (finding.evidence["channels"], finding.evidence["cause"]) == ([0], "nothing that is known here explains it")


@pytest.mark.parametrize(
    ("factor", "name"),
    [(N / (N - 1), "batch-statistics-unbiased"), (0.0, "variance-ignored"), (4.0, "variance-factor=4")],
)
def test_an_output_by_another_variance_is_a_mismatch_and_the_detective_names_it(factor: float, name: str) -> None:
    if factor == 0.0:
        right = trained(layer())
        mean = right.x.reshape(-1, 3).astype(np.float64).mean(axis=0).astype(F)
        wrong = replace(right, y=(right.x - mean) * layer().arrays["gamma"] + layer().arrays["beta"])
    else:
        wrong = trained(layer(), used=factor)
    report = verdict(layer(), wrong)
    assert report.status is LayerStatus.MISMATCH
    (finding,) = found(report, "BN311")
    assert "normalised by the mean and the biased variance of its batch" in finding.message
    assert report.explanation is not None
    assert [cause.name for cause in report.explanation.causes] == [name]
    assert not found(report, "BN312")
    assert report.estimator is Estimator.BIASED


def test_a_step_by_the_moving_statistics_is_named() -> None:
    stored = layer()
    right = trained(stored)
    report = verdict(stored, replace(right, y=untrained(stored).y))
    assert report.status is LayerStatus.MISMATCH
    assert report.explanation is not None
    assert [cause.sentence for cause in report.explanation.causes] == [
        "mean and variance of its moving statistics used instead of its own"
    ]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["y", "moving_mean", "moving_variance"])
def test_nothing_that_is_not_finite_is_verified(poison: float, where: str) -> None:
    right = trained(layer())
    assert right.replay is not None
    if where == "y":
        right.y[0, 0, 1] = poison
    else:
        after = {name: array.copy() for name, array in right.replay.after.items()}
        after[where][1] = poison
        right = replace(right, replay=replace(right.replay, after=after))
    report = verdict(layer(), right)
    assert report.status is LayerStatus.MISMATCH
    (finding,) = found(report, "BN202")
    assert finding.evidence["channels"] == [1]


def test_a_batch_of_one_value_has_no_variance_and_tells_no_estimator() -> None:
    stored = layer()
    single = trained(stored, x=batch(shape=(1, 1, 3)))
    assert single.y.ravel() == pytest.approx(stored.arrays["beta"])
    report = verdict(stored, single)
    assert report.status is LayerStatus.VERIFIED
    assert report.estimator is None
    assert report.notes == ("no batch told which variance its moving_variance keeps",)
    several = verdict(stored, single, trained(stored, "training-probed"))
    assert several.estimator is Estimator.BIASED


def test_nan_of_one_value_is_a_mismatch() -> None:
    """As cuDNN stores it, which divides by n - 1."""
    stored = layer()
    with np.errstate(invalid="ignore"):
        single = trained(stored, x=batch(shape=(1, 1, 3)), kept=np.inf)
    assert single.replay is not None
    assert np.isnan(single.replay.after["moving_variance"]).all()
    assert verdict(stored, single).status is LayerStatus.MISMATCH


def test_a_layer_that_is_frozen_must_not_move() -> None:
    stored = layer()
    report = verdict(stored, untrained(stored))
    assert report.status is LayerStatus.VERIFIED
    assert report.notes == ("trainable=False: a training step uses its moving statistics and leaves them as they are",)
    assert report.estimator is None
    moved = stored.arrays["moving_variance"].copy()
    moved.view(np.uint32)[2] ^= np.uint32(1)
    after = {"moving_mean": stored.arrays["moving_mean"], "moving_variance": moved}
    report = verdict(stored, untrained(stored, after=after))
    assert report.status is LayerStatus.MISMATCH
    (finding,) = found(report, "BN313")
    assert (finding.evidence["array"], finding.evidence["channels"]) == ("moving_variance", [2])


def test_a_frozen_layer_that_uses_its_batch_is_a_mismatch() -> None:
    stored = layer()
    report = verdict(stored, untrained(stored, y=trained(stored).y))
    assert report.status is LayerStatus.MISMATCH
    assert "not those normalised by its moving statistics" in found(report, "BN311")[0].message


def test_a_call_with_training_switched_off_is_said_to_be_one() -> None:
    report = verdict(layer(), untrained(layer(), trainable=True))
    assert report.status is LayerStatus.VERIFIED
    assert report.notes[0].startswith("the model calls it with training=False")


def test_masked_values_do_not_count_and_counting_them_is_named() -> None:
    stored, mask = layer(), np.array([[True, True, False, True]] * 3)[..., np.newaxis]
    right = trained(stored, mask=mask)
    report = verdict(stored, right)
    assert report.status is LayerStatus.VERIFIED
    assert report.notes == (
        "masked values do not count in its moments",
        "moving_variance keeps the biased variance, divided by n with n = 9",
    )
    unmasked = trained(stored)
    assert unmasked.replay is not None
    wrong = replace(unmasked, replay=replace(unmasked.replay, mask=mask))
    report = verdict(stored, wrong)
    assert report.status is LayerStatus.MISMATCH
    assert {one.evidence["cause"] for one in found(report, "BN312")} == {"masked values count in its moments"}
    ignored = replace(unmasked, replay=replace(unmasked.replay, mask_ignored=True))
    assert "its fused kernel ignores the mask" in verdict(stored, ignored).notes[0]


def test_without_a_step_nothing_is_verified() -> None:
    report = verdict(layer())
    assert (report.status, report.reason) == (
        LayerStatus.UNVERIFIED,
        "keras 3 has no training step to replay: verify the Keras model that the file was made from",
    )
    run = replace(MODEL, unreplayed={"bn": "it renormalises by its moving statistics (renorm=True)"})
    assert verdict(layer(), run=run).reason == "it renormalises by its moving statistics (renorm=True)"
    assert verdict(layer(), settings=Settings()).status is LayerStatus.VERIFIED


def test_a_layer_that_trains_alone_is_unverified_unless_that_is_accepted() -> None:
    alone = trained(layer(), "training-probed")
    report = verdict(layer(), alone)
    assert report.status is LayerStatus.UNVERIFIED
    assert report.reason.endswith("its layer alone trains as it should, --accept layer makes that enough")
    accepting = replace(SETTINGS, accept=("layer",))
    assert verdict(layer(), alone, settings=accepting).status is LayerStatus.VERIFIED
    assert verdict(layer(), settings=accepting).status is LayerStatus.UNVERIFIED


def test_a_right_step_does_not_verify_a_layer_that_inference_did_not_reach() -> None:
    report = verdict(layer(), trained(layer()), inference=False)
    assert report.status is LayerStatus.UNVERIFIED


def test_without_a_momentum_no_update_can_be_recomputed() -> None:
    stored = layer(momentum=None)
    report = verdict(stored, trained(stored))
    assert report.status is LayerStatus.UNVERIFIED
    assert len(report.comparisons) == 2
    assert "does not state its momentum" in report.reason


def test_another_momentum_in_the_runtimes_layer_is_named() -> None:
    stored = layer(momentum=0.9)
    report = verdict(stored, trained(replace(stored, momentum=0.99)))
    assert report.status is LayerStatus.MISMATCH
    assert "momentum is 0.9 in the file and 0.99 in the runtime" in [one.message for one in found(report, "BN305")]


def test_several_calls_are_joined_and_the_worst_counts() -> None:
    stored = layer()
    report = verdict(stored, trained(stored), trained(stored, x=batch(1)), trained(stored, momentum=0.5))
    output, mean, _ = report.comparisons[2:]
    assert (output.calls, output.agrees, mean.calls, mean.agrees) == (3, True, 3, False)
    assert report.estimator is None


def test_a_call_that_tells_no_estimator_takes_back_nothing() -> None:
    stored = layer()
    large = trained(stored, x=batch(2, (300, 300, 3)))
    assert verdict(stored, large).estimator is None
    assert verdict(stored, trained(stored), large).estimator is Estimator.BIASED
    assert verdict(stored, large, trained(stored)).notes[-1].endswith("n = 12")


def test_tolerances_of_those_who_insist_replace_the_bounds() -> None:
    wrong = trained(layer(), used=N / (N - 1), kept=N / (N - 1))
    assert verdict(layer(), wrong).status is LayerStatus.MISMATCH
    loose = replace(SETTINGS, rtol=0.1, atol=0.1)
    assert verdict(layer(), wrong, settings=loose).status is LayerStatus.VERIFIED
    assert verdict(layer(), trained(layer(), momentum=0.5), settings=loose).status is LayerStatus.MISMATCH


def test_parameters_over_several_axes() -> None:
    shape = (1, 2, 1, 3)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: frozen(rng.uniform(0.5, 2, shape)) for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    stored = layer(**arrays, axis=(1, 3))
    x = rng.standard_normal((4, 2, 5, 3)).astype(F)
    mean = x.mean(axis=(0, 2), keepdims=True)
    variance = np.square(x - mean).mean(axis=(0, 2), keepdims=True)
    y = (x - mean) / np.sqrt(variance + F(1e-3)) * arrays["gamma"] + arrays["beta"]
    after = {
        "moving_mean": arrays["moving_mean"] * F(0.99) + mean * F(0.01),
        "moving_variance": arrays["moving_variance"] * F(0.99) + variance * F(0.01),
    }
    step = Observation("bn", "training", x, y, (1, 3), epsilon=1e-3, loaded=arrays, training=True)
    step = replace(step, replay=Replay(after, 0.99, Estimator.BIASED))
    report = verdict(stored, step, inference=False, settings=SETTINGS)
    assert [(one.title, one.elements, one.agrees) for one in report.comparisons] == [
        ("output in a training step", 120, True),
        ("moving_mean in a training step", 6, True),
        ("moving_variance in a training step", 6, True),
    ]
    after["moving_mean"][0, 1, 0, 2] += F(1)
    report = verdict(stored, step, inference=False)
    (finding,) = found(report, "BN312")
    assert finding.evidence["channels"] == [5]
