"""Training steps of models made on the spot, replayed in the framework that saved them and recomputed by hand."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.watching import POLICIES, Save, Watched, assert_same_parameters, bn, of_type, watch

from bninspect.records import Checkpoint, Estimator, Evidence, LayerReport, LayerStatus
from bninspect.runtimes import RunSettings, loading
from bninspect.runtimes.keras import keras3 as keras_runtime
from bninspect.runtimes.keras import run
from bninspect.runtimes.keras import tf_keras as tf_keras_runtime
from bninspect.settings import Settings
from bninspect.verdicts.layers import Judge

pytestmark = pytest.mark.tensorflow


@pytest.fixture(params=["keras", "tf_keras"])
def k(request: pytest.FixtureRequest) -> Any:
    """Keras 3 and tf-keras, each in its turn."""
    return loading.framework(request.param)


def replay(checkpoint: Checkpoint, **settings: Any) -> Watched:
    return watch(checkpoint, training=True, **settings)


def verdicts(checkpoint: Checkpoint, watched: Watched, *accept: str) -> Mapping[str, LayerReport]:
    judge = Judge(checkpoint.layers, Settings(training=True, accept=accept))
    for observation in watched.observations:
        judge.see(observation)
    return {report.name: report for report in judge.reports(watched.run)}


def assert_all_verified(checkpoint: Checkpoint, watched: Watched) -> Mapping[str, LayerReport]:
    assert watched.run.evidence is Evidence.MODEL, watched.run
    assert watched.run.unreplayed == {}
    for observation in watched.observations:
        (layer,) = (one for one in checkpoint.layers if one.name == observation.layer)
        assert_same_parameters(layer, observation)
    found = verdicts(checkpoint, watched)
    for report in found.values():
        assert report.status is LayerStatus.VERIFIED, (report.reason, report.findings, report.comparisons)
    return found


def fused(k: Any) -> Estimator:
    """Return what a fused kernel keeps, where there is one."""
    return Estimator.UNBIASED if k.__name__ == "tf_keras" else Estimator.BIASED


def test_layers_of_every_rank_with_any_momentum_and_without_gamma_or_beta(k: Any, save: Save) -> None:
    layers = {
        "image": bn(k, "image", momentum=0.9),
        "axis_2": bn(k, "axis_2", axis=2, scale=False, fused=False)
        if k.__name__ == "tf_keras"
        else bn(k, "axis_2", axis=2, scale=False),
        "volume": bn(k, "volume", center=False),
        "sequence": bn(k, "sequence", momentum=0.5),
        "flat": bn(k, "flat", momentum=0.0, epsilon=1e-5),
        "last": bn(k, "last", momentum=1.0, scale=False, center=False),
    }
    x = k.Input((4, 6, 3))
    y = layers["axis_2"](layers["image"](x))
    y = layers["volume"](k.layers.Reshape((2, 2, 6, 3))(y))
    y = layers["sequence"](k.layers.Reshape((24, 3))(y))
    y = layers["last"](layers["flat"](k.layers.GlobalAveragePooling1D()(y)))
    checkpoint = save(k.Model(x, y), layers)
    watched = replay(checkpoint)
    found = assert_all_verified(checkpoint, watched)
    assert {one.x.shape for one in watched.of("image", "training")} == {(8, 4, 6, 3)}
    assert {name: report.estimator for name, report in found.items()} == {
        "image": fused(k),
        "axis_2": Estimator.BIASED,
        "volume": fused(k),
        "sequence": Estimator.BIASED,
        "flat": Estimator.BIASED,
        "last": None,
    }
    assert found["flat"].notes == ("moving_variance keeps the biased variance, divided by n with n = 8",)
    assert found["last"].notes == ("no batch told which variance its moving_variance keeps",)


def test_one_value_per_channel(k: Any, save: Save) -> None:
    image, flat = bn(k, "image"), bn(k, "flat")
    x = k.Input((1, 1, 3))
    checkpoint = save(k.Model(x, flat(k.layers.Flatten()(image(x)))), {"image": image, "flat": flat})
    watched = replay(checkpoint, input_shapes={"": (1, 1, 1, 3)})
    assert_all_verified(checkpoint, watched)
    for layer in checkpoint.layers:
        (in_model,) = watched.of(layer.name, "training")
        several, single = watched.of(layer.name, "training-probed")
        assert (in_model.x.size, several.x.size, single.x.size) == (3, 36, 3)
        assert single.y.ravel() == pytest.approx(layer.beta, abs=1e-4)
        assert single.replay is not None
        assert single.replay.after["moving_variance"] == pytest.approx(layer.arrays["moving_variance"] * 0.99)


@pytest.mark.parametrize("policy", POLICIES)
def test_types(k: Any, save: Save, policy: str) -> None:
    checkpoint = of_type(k, save, policy)
    watched = replay(checkpoint)
    assert_all_verified(checkpoint, watched)
    kept = {one.replay.kept for one in watched.observations if one.replay is not None}
    widened = policy.startswith("mixed") or (k.__name__ == "tf_keras" and policy != "float64")
    assert kept == {"float32" if widened else policy}


def test_a_frozen_layer_uses_its_moving_statistics(k: Any, save: Save) -> None:
    frozen, free = bn(k, "frozen", trainable=False), bn(k, "free")
    x = k.Input((4,))
    checkpoint = save(k.Model(x, free(frozen(x))), {"frozen": frozen, "free": free})
    watched = replay(checkpoint)
    found = assert_all_verified(checkpoint, watched)
    assert [one.training for one in watched.of("frozen", "training")] == [False]
    assert [one.training for one in watched.of("free", "training")] == [True]
    assert found["frozen"].notes[0].startswith("trainable=False: a training step uses its moving statistics")
    assert (found["frozen"].estimator, found["free"].estimator) == (None, Estimator.BIASED)


def test_training_that_is_switched_off_in_the_model(k: Any, save: Save) -> None:
    """Keras 3 trains such a layer all the same: only trainable=False protects it."""
    layer = bn(k, "bn")
    x = k.Input((4,))
    checkpoint = save(k.Model(x, layer(x, training=False)), {"bn": layer})
    watched = replay(checkpoint)
    found = assert_all_verified(checkpoint, watched)
    trains = k.__name__ == "keras"
    assert [one.training for one in watched.of("bn", "training")] == [trains]
    assert any("it with training=False" in note for note in found["bn"].notes) is not trains


def test_masks_of_sequences_and_of_images(k: Any, save: Save) -> None:
    layers = {"words": bn(k, "words"), "image": bn(k, "image")}
    words, image = k.Input((10,), dtype="int32", name="words_in"), k.Input((3, 4, 2), name="image_in")
    x = layers["words"](k.layers.Embedding(3, 5, mask_zero=True)(words))
    y = layers["image"](k.layers.Masking()(image))
    outputs = [k.layers.GlobalAveragePooling1D()(x), k.layers.GlobalAveragePooling2D()(y)]
    checkpoint = save(k.Model([words, image], outputs), layers)
    watched = replay(checkpoint)
    found = assert_all_verified(checkpoint, watched)
    (seen,) = watched.of("words", "training")
    assert seen.replay is not None
    assert seen.replay.mask is not None
    assert 0 < seen.replay.mask.mean() < 1
    assert found["words"].notes[0] == "masked values do not count in its moments"
    ignores = "its fused kernel ignores the mask: masked values count in its moments"
    honours = "masked values do not count in its moments"
    assert found["image"].notes[0] == (honours if k.__name__ == "keras" else ignores)


def test_a_mask_that_leaves_nothing_leaves_nothing_to_recompute(k: Any, save: Save, tmp_path: Path) -> None:
    layer = bn(k, "bn")
    x = k.Input((4, 3))
    checkpoint = save(k.Model(x, layer(k.layers.Masking()(x))), {"bn": layer})
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 3), np.float32))
    report = verdicts(checkpoint, replay(checkpoint, input=tmp_path / "x.npy"))["bn"]
    assert report.status is LayerStatus.UNVERIFIED
    assert report.reason.startswith("its mask leaves channels without a value")


def test_nested_and_shared_layers(k: Any, save: Save) -> None:
    inner_in = k.Input((6,))
    first = bn(k, "bn")
    inner = k.Model(inner_in, k.layers.Dense(6)(first(inner_in)), name="inner")
    shared, timed = bn(k, "shared"), bn(k, "timed")
    sequential_bn = bn(k, "bn")
    sequential = k.Sequential([k.layers.Input((6,)), k.layers.Dense(6), sequential_bn], name="seq")
    x = k.Input((6,))
    y = shared(sequential(shared(inner(inner(x)))))
    y = k.layers.TimeDistributed(timed, name="steps")(k.layers.Reshape((2, 3))(y))
    layers = {"inner/bn": first, "shared": shared, "seq/bn": sequential_bn, "steps/timed": timed}
    checkpoint = save(k.Model(x, y), layers)
    watched = replay(checkpoint)
    found = assert_all_verified(checkpoint, watched)
    assert [len(watched.of(name, "training")) for name in list(layers)[:3]] == [2, 2, 1]
    outputs = [one for one in found["shared"].comparisons if one.title == "output in a training step"]
    assert [(one.calls, one.elements) for one in outputs] == [(2, 2 * 8 * 6)]


def test_synchronised_moments_in_one_pass(k: Any, save: Save) -> None:
    def build(name: str) -> Any:
        if k.__name__ == "keras":
            return bn(k, name, synchronized=True)
        with warnings.catch_warnings():  # of its own deprecation; but synchronized=True is lost when tf_keras saves
            warnings.simplefilter("ignore")
            return k.layers.experimental.SyncBatchNormalization(name=name)

    image, flat = build("image"), build("flat")
    x = k.Input((3, 3, 4))
    checkpoint = save(k.Model(x, flat(k.layers.Flatten()(image(x)))), {"image": image, "flat": flat})
    watched = replay(checkpoint)
    found = assert_all_verified(checkpoint, watched)
    assert {one.replay.one_pass for one in watched.observations if one.replay is not None} == {True}
    assert {report.estimator for report in found.values()} == {Estimator.BIASED}


def test_renormalising_layers_are_not_judged(k: Any, save: Save) -> None:
    layer = bn(k, "bn", renorm=True)
    x = k.Input((4, 4, 2))
    checkpoint = save(k.Model(x, layer(x)), {"bn": layer})
    report = verdicts(checkpoint, replay(checkpoint))["bn"]
    assert (report.status, report.notes) == (LayerStatus.UNVERIFIED, ())
    assert report.reason.startswith("it renormalises by its moving statistics (renorm=True)")


def test_steps_of_virtual_batches_and_adjusted_ones_are_refused() -> None:
    """tf_keras cannot load what it saved of the first, and forgets the second when it saves."""
    import tf_keras

    framework = tf_keras_runtime.framework()
    virtual = tf_keras.layers.BatchNormalization(virtual_batch_size=2)
    adjusted = tf_keras.layers.BatchNormalization(adjustment=lambda _shape: (1.0, 0.0))
    assert "virtual_batch_size" in framework.training(virtual, False).refusal
    assert "adjustment" in framework.training(adjusted, False).refusal
    assert framework.training(tf_keras.layers.BatchNormalization(), False).refusal == ""


def test_what_is_random_in_a_step_is_the_same_every_time(k: Any, save: Save) -> None:
    layer = bn(k, "bn")
    x = k.Input((40,))
    checkpoint = save(k.Model(x, layer(k.layers.Dropout(0.5)(x))), {"bn": layer})
    first, again, other = (replay(checkpoint, seed=seed) for seed in (0, 0, 1))
    assert_all_verified(checkpoint, first)
    ((one,), (same,), (different,)) = (watched.of("bn", "training") for watched in (first, again, other))
    assert (one.x == 0).mean() > 0.3
    assert np.array_equal(one.x, same.x)
    assert not np.array_equal(one.x == 0, different.x == 0)


def test_a_model_is_left_as_it_was(k: Any, save: Save) -> None:
    """Batch norms are not all that changes in a training step."""
    layer = bn(k, "bn")
    x = k.Input((6,))
    dense = k.layers.Dense(6)
    if k.__name__ == "keras":
        dense = k.layers.SpectralNormalization(dense)
    model = k.Model(x, k.layers.Dropout(0.5)(dense(layer(x))))
    checkpoint = save(model, {"bn": layer})
    runtime = keras_runtime if k.__name__ == "keras" else tf_keras_runtime
    before = [np.array(variable) for variable in model.variables]
    seen: list[Any] = []
    settings = RunSettings(training=True)
    run.observe_loaded(runtime.framework(), model, checkpoint, settings, lambda: seen.append)
    for variable, value in zip(model.variables, before, strict=True):
        assert np.array_equal(np.array(variable), value), variable
    assert {one.observed for one in seen} == {"in-model", "probed", "training", "training-probed"}
    model(np.ones((2, 6), np.float32), training=True)
    assert any(not np.array_equal(np.array(one), value) for one, value in zip(model.variables, before, strict=True))


def test_the_input_of_the_user_is_the_batch(k: Any, save: Save, tmp_path: Path) -> None:
    layer = bn(k, "bn")
    x = k.Input((4,))
    checkpoint = save(k.Model(x, layer(x)), {"bn": layer})
    values = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    watched = replay(checkpoint, input=tmp_path / "x.npy")
    found = assert_all_verified(checkpoint, watched)
    (seen,) = watched.of("bn", "training")
    assert np.array_equal(seen.x, values)
    assert seen.replay is not None
    expected = 0.99 * checkpoint.layers[0].arrays["moving_mean"] + 0.01 * values.mean(axis=0)
    assert seen.replay.after["moving_mean"] == pytest.approx(expected, rel=1e-5)
    assert found["bn"].notes[-1].endswith("n = 3")


def test_a_model_for_single_samples_is_trained_on_one(k: Any, save: Save) -> None:
    layer = bn(k, "bn")
    x = k.Input((4, 2))
    # A loaded function has lost the names around it, so it brings its own.
    single = k.layers.Lambda(
        lambda values: __import__("tensorflow").ensure_shape(values, (1, 4, 2)), name="one", output_shape=(4, 2)
    )
    checkpoint = save(k.Model(x, layer(single(x))), {"bn": layer}, code=("Lambda 'one'",))
    watched = replay(checkpoint, trust=True)
    assert_all_verified(checkpoint, watched)
    assert [seen.x.shape for seen in watched.of("bn", "training")] == [(1, 4, 2)]


def test_a_model_that_does_not_train_says_so(k: Any, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = bn(k, "before"), bn(k, "after")
    x = k.Input((4,))
    checkpoint = save(k.Model(x, after(k.layers.GaussianNoise(0.1)(before(x)))), {"before": before, "after": after})

    def noise(_layer: object, inputs: Any, training: bool = False) -> Any:
        if training:
            raise ValueError("no noise today")
        return inputs

    monkeypatch.setattr(k.layers.GaussianNoise, "call", noise)
    found = verdicts(checkpoint, replay(checkpoint))
    assert found["before"].status is LayerStatus.VERIFIED
    assert found["after"].status is LayerStatus.UNVERIFIED
    said = "the model does not run with training=True: no noise today; its layer alone trains as it should"
    assert found["after"].reason.startswith(said)


def test_weights_alone_train_their_layers_alone(k: Any, save: Save) -> None:
    image, flat = bn(k, "image", momentum=0.9), bn(k, "flat")
    x = k.Input((2, 2, 3))
    checkpoint = save(k.Model(x, flat(k.layers.Flatten()(image(x)))), {"image": image, "flat": flat})
    weights = replace(checkpoint, architecture=None)
    watched = replay(weights)
    assert watched.run.evidence is Evidence.LAYER
    assert {report.status for report in verdicts(weights, watched).values()} == {LayerStatus.UNVERIFIED}
    accepted = verdicts(weights, watched, "layer")
    assert {report.status for report in accepted.values()} == {LayerStatus.VERIFIED}
    unknown = replace(weights, layers=tuple(replace(one, momentum=None) for one in weights.layers))
    for report in verdicts(unknown, replay(unknown), "layer").values():
        assert (report.status, report.estimator) == (LayerStatus.UNVERIFIED, None)
        assert "momentum" in report.reason


def test_without_the_option_nothing_trains(k: Any, save: Save) -> None:
    layer = bn(k, "bn")
    x = k.Input((4,))
    checkpoint = save(k.Model(x, layer(x)), {"bn": layer})
    watched = watch(checkpoint)
    assert {one.observed for one in watched.observations} == {"in-model", "probed"}
    assert all(one.replay is None for one in watched.observations)


def test_a_framework_that_updates_otherwise_is_found_out(k: Any, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = bn(k, "bn")
    x = k.Input((5, 4))
    checkpoint = save(k.Model(x, layer(x)), {"bn": layer})
    owner = k.layers.BatchNormalization.__mro__[0 if k.__name__ == "keras" else 1]
    right = owner.call

    def swapped(one: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        stated, one.momentum = one.momentum, 1 - one.momentum
        try:
            return right(one, inputs, training=training, mask=mask)
        finally:
            one.momentum = stated

    monkeypatch.setattr(owner, "call", swapped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = verdicts(checkpoint, replay(checkpoint))["bn"]
    assert report.status is LayerStatus.MISMATCH
    findings = [one for one in report.findings if one.rule == "BN312"]
    assert {one.evidence["array"] for one in findings} == {"moving_mean", "moving_variance"}
    assert all("momentum and 1 - momentum are swapped" in one.message for one in findings)
