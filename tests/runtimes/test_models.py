"""Models made on the spot, run by the framework that saved them: every batch norm is found, whatever it stands in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.watching import (
    POLICIES,
    Save,
    Watched,
    assert_all_verified,
    assert_same_parameters,
    bn,
    of_type,
    saved,
    watch,
)

from bninspect import runtimes
from bninspect.arithmetic import compare
from bninspect.errors import UnreadableFile
from bninspect.records import Checkpoint, Evidence, Form
from bninspect.runtimes import loading
from bninspect.runtimes.keras import symbolic_input

pytestmark = pytest.mark.tensorflow


@pytest.fixture(params=["keras", "tf_keras"])
def k(request: pytest.FixtureRequest) -> Any:
    """Keras 3 and tf-keras, each in its turn."""
    return loading.framework(request.param)


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_nested_and_shared_layers(k: Any, save: Save, ending: str) -> None:
    inner_in = k.Input((6,))
    first, second = bn(k, "bn"), bn(k, "last", scale=False)
    inner = k.Model(inner_in, second(k.layers.Dense(6)(first(inner_in))), name="inner")
    shared, top = bn(k, "shared", center=False), bn(k, "bn", epsilon=0.25)
    sequential_bn = bn(k, "bn")
    sequential = k.Sequential([k.layers.Input((6,)), k.layers.Dense(6), sequential_bn], name="seq")
    x = k.Input((6,))
    y = top(shared(sequential(shared(inner(inner(x))))))
    layers = {"inner/bn": first, "inner/last": second, "shared": shared, "seq/bn": sequential_bn, "bn": top}
    checkpoint = save(k.Model(x, y, name="outer"), layers, ending)
    watched = watch(checkpoint, batch=3)
    assert_all_verified(checkpoint, watched)
    assert watched.calls() == {"inner/bn": 2, "inner/last": 2, "shared": 2, "seq/bn": 1, "bn": 1}
    assert {one.x.shape for one in watched.of("bn")} == {(3, 6)}
    assert {one.x.shape for one in watched.of("bn", "probed")} == {(64, 6)}


def test_wrappers(k: Any, save: Save) -> None:
    inner = bn(k, "inner")
    alone = bn(k, "alone")
    block = k.Sequential([k.layers.Input((5,)), k.layers.Dense(4), inner], name="block")
    x = k.Input((3, 5))
    y = k.layers.TimeDistributed(alone, name="second")(k.layers.TimeDistributed(block, name="first")(x))
    y = k.layers.Bidirectional(k.layers.LSTM(2))(y)
    checkpoint = save(k.Model(x, y), {"first/block/inner": inner, "second/alone": alone})
    watched = watch(checkpoint, batch=2)
    assert_all_verified(checkpoint, watched)
    values = sum(one.x.size for one in watched.of("second/alone"))
    assert values == 2 * 3 * 4


@pytest.mark.parametrize("policy", POLICIES)
def test_types(k: Any, save: Save, policy: str) -> None:
    """A layer computes in float32 at least, and rounds to the type that it hands on."""
    checkpoint = of_type(k, save, policy)
    watched = watch(checkpoint)
    assert_all_verified(checkpoint, watched)
    output = policy.removeprefix("mixed_")
    assert {one.output for one in watched.observations} == {output}
    assert {one.arithmetic for one in watched.observations} == {"float64" if policy == "float64" else "float32"}
    fits = np.float32 if output == "bfloat16" else np.dtype(output)
    assert {one.y.dtype for one in watched.observations} == {np.dtype(fits)}
    if output == "bfloat16":
        for one in watched.observations:
            assert not (one.y.view(np.uint32) & 0xFFFF).any()


@pytest.mark.parametrize(
    ("shape", "axis", "axes"),
    [((4,), -1, (1,)), ((5, 4), 1, (1,)), ((5, 4), -1, (2,)), ((2, 3, 4), 1, (1,)), ((2, 2, 3, 4), -1, (4,))],
)
def test_ranks_and_axes(k: Any, save: Save, shape: tuple[int, ...], axis: int, axes: tuple[int, ...]) -> None:
    layer = bn(k, "bn", axis=axis)
    x = k.Input(shape)
    checkpoint = save(k.Model(x, layer(x)), {"bn": layer})
    watched = watch(checkpoint, batch=2)
    assert_all_verified(checkpoint, watched)
    assert {one.axis for one in watched.observations} == {axes}
    assert [one.x.ndim for one in watched.observations] == [1 + len(shape)] * 2


def test_whole_numbers_reach_the_kernel_as_floats(k: Any, save: Save) -> None:
    layer = bn(k, "bn")
    x = k.Input((4,), dtype="int32")
    checkpoint = save(k.Model(x, layer(k.layers.Flatten()(x))), {"bn": layer})
    watched = watch(checkpoint)
    assert_all_verified(checkpoint, watched)
    assert {one.x.dtype for one in watched.observations} == {np.dtype(np.float32)}


def test_the_form_is_that_of_the_kernel(k: Any, save: Save) -> None:
    """A mean of 1e6 deviations: whoever assumes the other order of operations is off by orders of magnitude."""
    image, flat = bn(k, "image"), bn(k, "flat")
    x = k.Input((2, 2, 8))
    model = k.Model(x, flat(k.layers.Flatten()(image(x))))
    checkpoint = save(model, {"image": image, "flat": flat})
    image.moving_mean.assign(np.full(8, 1e6, np.float32))
    flat.moving_mean.assign(np.full(32, 1e6, np.float32))
    model.save(checkpoint.path)
    checkpoint = saved(Path(checkpoint.path), {"image": image, "flat": flat}, checkpoint.writer)
    watched = watch(checkpoint)
    assert_all_verified(checkpoint, watched)
    forms = {one.layer: one.form for one in watched.observations}
    assert forms == {"image": Form.AFFINE if k.__name__ == "keras" else Form.CENTRED, "flat": Form.AFFINE}


def test_several_inputs_by_name(k: Any, save: Save, tmp_path: Path) -> None:
    """A table of 5 rows: random floats, or numbers up to 6, would be outside of it."""
    layer, table = bn(k, "bn"), k.layers.Embedding(5, 3)
    ids, number = k.Input((None,), dtype="int32", name="ids"), k.Input((4,), name="number")
    joined = k.layers.Concatenate()([number, k.layers.GlobalAveragePooling1D()(table(ids))])
    checkpoint = save(k.Model({"ids": ids, "number": number}, layer(joined)), {"bn": layer})
    watched = watch(checkpoint, batch=40)
    assert_all_verified(checkpoint, watched)
    assert watched.run.notes == ("shape (40, 16) was chosen for input 'ids', which takes (any, any)",)
    same = watch(checkpoint, batch=40).of("bn")[0].x
    assert np.array_equal(watched.of("bn")[0].x, same)
    assert not np.array_equal(watch(checkpoint, batch=40, seed=1).of("bn")[0].x, same)

    np.savez(tmp_path / "x.npz", number=np.full((2, 4), 0.5, np.float32), ids=np.array([[0, 4], [3, 2]]))
    given = watch(checkpoint, input=tmp_path / "x.npz")
    assert_all_verified(checkpoint, given)
    (seen,) = given.of("bn")
    assert seen.x.shape == (2, 7)
    assert (seen.x[:, :4] == 0.5).all()
    weights = table.get_weights()[0]
    assert seen.x[:, 4:] == pytest.approx((weights[[0, 3]] + weights[[4, 2]]) / 2)


def test_a_table_behind_a_float_input_gets_indices(k: Any, save: Save) -> None:
    layer = bn(k, "bn")
    model = k.Sequential([k.layers.Input((6,)), k.layers.Embedding(3, 4), layer])
    checkpoint = save(model, {"bn": layer})
    assert_all_verified(checkpoint, watch(checkpoint, batch=8))


def test_a_table_in_a_nested_model_gets_indices(k: Any, save: Save) -> None:
    layer = bn(k, "bn")
    inner = k.Sequential([k.layers.Input((6,)), k.layers.Embedding(3, 4), layer], name="inner")
    x = k.Input((6,))
    checkpoint = save(k.Model(x, k.layers.Flatten()(inner(x))), {"inner/bn": layer})
    assert_all_verified(checkpoint, watch(checkpoint, batch=8))


def test_open_dimensions_grow_until_the_model_runs(k: Any, save: Save) -> None:
    layers = {f"bn{number}": bn(k, f"bn{number}") for number in range(2)}
    x = k.Input((None, None, 3))
    y = k.layers.MaxPool2D(40)(layers["bn0"](x))
    y = layers["bn1"](k.layers.Conv2D(2, 3)(y))
    checkpoint = save(k.Model(x, y), layers)
    watched = watch(checkpoint)
    assert_all_verified(checkpoint, watched)
    assert watched.calls() == {"bn0": 1, "bn1": 1}
    assert "(1, 224, 224, 3) was chosen" in watched.run.notes[0]
    assert watched.attempts == 2
    chosen = watch(checkpoint, input_shapes={"": (1, 120, 130, 3)})
    assert chosen.of("bn0")[0].x.shape == (1, 120, 130, 3)
    assert (chosen.run.notes, chosen.attempts) == ((), 1)


def test_a_model_that_never_runs_says_so(k: Any, save: Save) -> None:
    layer = bn(k, "bn")
    x = k.Input((None, None, 3))
    checkpoint = save(k.Model(x, k.layers.Conv2D(2, 3)(k.layers.MaxPool2D(200)(layer(x)))), {"bn": layer})
    watched = watch(checkpoint)
    assert_all_verified(checkpoint, watched, Evidence.LAYER)
    assert "cannot run the model" in watched.run.reason
    assert "{" not in watched.run.reason


def test_training_that_is_wired_into_the_model(k: Any, save: Save) -> None:
    """Keras 3 lets the caller overrule it, tf-keras does not. Either way the layer is left as it was."""
    layer = bn(k, "bn")
    x = k.Input((4,))
    checkpoint = save(k.Model(x, layer(layer(x, training=True), training=True)), {"bn": layer})
    watched = watch(checkpoint, batch=8)
    assert [one.training for one in watched.of("bn")] == [k.__name__ == "tf_keras"] * 2
    (probed,) = watched.of("bn", "probed")
    assert not probed.training
    for one in watched.observations:
        assert_same_parameters(checkpoint.layers[0], one)
    assert compare.judge(probed, checkpoint.layers[0]).agrees
    if k.__name__ == "tf_keras":
        beta = checkpoint.layers[0].beta
        assert beta is not None
        assert watched.of("bn")[0].y.mean(axis=0) == pytest.approx(beta, abs=1e-5)


def test_a_frozen_layer_does_not_train(k: Any, save: Save) -> None:
    layer = bn(k, "bn", trainable=False)
    x = k.Input((4,))
    checkpoint = save(k.Model(x, layer(x, training=True)), {"bn": layer})
    assert_all_verified(checkpoint, watch(checkpoint, batch=8))


def test_a_runtime_with_other_numbers_than_the_file_is_seen(k: Any, save: Save) -> None:
    layer = bn(k, "bn")
    x = k.Input((4,))
    model = k.Model(x, layer(x))
    before = save(model, {"bn": layer})
    layer.moving_variance.assign(np.array([9, 8, 7, 6], np.float32))
    layer.epsilon = 0.5
    model.save(before.path)
    watched = watch(before)
    assert {one.epsilon for one in watched.observations} == {0.5}
    for one in watched.observations:
        assert one.loaded["moving_variance"].tolist() == [9, 8, 7, 6]
        assert not compare.judge(one, before.layers[0]).agrees


def _checkpoint(k: Any, save: Save, ending: str = ".keras", **changes: Any) -> Checkpoint:
    layer = bn(k, "bn")
    x = k.Input((4,))
    return save(k.Model(x, layer(x)), {"bn": layer}, ending, **changes)


def test_code_without_trust_never_reaches_the_loader(k: Any, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = _checkpoint(k, save, code=("Lambda 'scale'",))

    def load_model(*_: object, **__: object) -> None:
        raise AssertionError("the framework was given the file")

    monkeypatch.setattr(k.models, "load_model", load_model)
    watched = watch(checkpoint)
    assert_all_verified(checkpoint, watched, Evidence.LAYER)
    assert watched.run.reason == "Lambda 'scale' holds code (run it with --trust)"


def test_code_with_trust_runs(k: Any, save: Save) -> None:
    layer = bn(k, "bn")
    x = k.Input((4,))
    y = k.layers.Lambda(lambda values: values * 3.0, name="scale")(x)
    checkpoint = save(k.Model(x, layer(y)), {"bn": layer}, code=("Lambda 'scale'",))
    watched = watch(checkpoint, trust=True, seed=5)
    assert_all_verified(checkpoint, watched)
    expected = np.random.default_rng(5).standard_normal((1, 4), np.float32) * np.float32(3)
    assert np.array_equal(watched.of("bn")[0].x, expected)


@pytest.mark.parametrize("ending", ["", ".bin", ".h5.backup"])
def test_the_ending_of_the_name_changes_nothing(k: Any, save: Save, ending: str) -> None:
    for inside in (".h5", ".keras"):
        checkpoint = _checkpoint(k, save, inside)
        path = Path(checkpoint.path).rename(f"{checkpoint.path}-{ending}")
        moved = replace(checkpoint, path=str(path))
        assert_all_verified(moved, watch(moved))


def test_the_hook_is_gone_whatever_happens(k: Any, save: Save) -> None:
    import tensorflow as tf

    checkpoint = _checkpoint(k, save)
    runtime = runtimes.choose(checkpoint)[0]
    owner = k.layers.BatchNormalization.__mro__[0 if k.__name__ == "keras" else 1]
    original = owner.__dict__["call"]

    def raising(_: object) -> None:
        assert owner.__dict__["call"] is not original
        assert tf.config.functions_run_eagerly()
        raise LookupError("from the sink")

    for _ in range(2):
        with pytest.raises(LookupError, match="from the sink"):
            runtime.observe(checkpoint, runtimes.RunSettings(), lambda: raising)
        assert owner.__dict__["call"] is original
        assert not tf.config.functions_run_eagerly()
    assert_all_verified(checkpoint, watch(checkpoint))
    assert owner.__dict__["call"] is original
    assert not tf.config.functions_run_eagerly()


@pytest.mark.parametrize(("place", "step"), [("models", "load_model"), ("layers", "BatchNormalization")])
def test_memory_errors_are_for_the_supervisor(
    k: Any, save: Save, monkeypatch: pytest.MonkeyPatch, place: str, step: str
) -> None:
    checkpoint = _checkpoint(k, save)
    if place == "layers":
        checkpoint = replace(checkpoint, architecture=None)

    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(getattr(k, place), step, exhausted)
    with pytest.raises(MemoryError):
        watch(checkpoint)


def test_memory_errors_of_the_model_are_too(k: Any, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = _checkpoint(k, save)

    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(symbolic_input, "fed", exhausted)
    with pytest.raises(MemoryError):
        watch(checkpoint)


def test_models_leave_nothing_for_the_next(k: Any, save: Save, tmp_path: Path) -> None:
    checkpoints = []
    for number in range(3):
        checkpoint = _checkpoint(k, save)
        path = Path(checkpoint.path).rename(tmp_path / f"{number}.keras")
        checkpoints.append(replace(checkpoint, path=str(path)))
    for checkpoint in (*checkpoints, *checkpoints):
        assert_all_verified(checkpoint, watch(checkpoint))
        # Automatic names count up in a session; this is the first of a new one.
        assert k.layers.Dense(1).name == "dense"


def test_a_file_that_changed_is_not_run(k: Any, save: Save) -> None:
    checkpoint = replace(_checkpoint(k, save), sha256="0" * 64)
    with pytest.raises(UnreadableFile, match="changed"):
        watch(checkpoint)


def test_the_surroundings_are_described(k: Any, save: Save) -> None:
    environment = watch(_checkpoint(k, save)).run.environment
    import tensorflow as tf

    assert environment["tensorflow"] == tf.__version__
    assert environment[k.__name__] == k.__version__
    assert environment["device"] in {"CPU", "GPU"}
    assert isinstance(environment["onednn"], bool)


def _watched_layers(checkpoint: Checkpoint, **settings: Any) -> Watched:
    return watch(replace(checkpoint, architecture=None), **settings)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("axis", [None, (-1,), (1,), (2,), (3,)])
def test_layers_alone(k: Any, save: Save, dtype: str, axis: tuple[int, ...] | None) -> None:
    checkpoint = _checkpoint(k, save)
    (layer,) = checkpoint.layers
    numpy = "float32" if dtype == "bfloat16" else dtype
    gamma, beta, mean, variance = (array.astype(numpy) for array in layer.arrays.values())
    if dtype == "bfloat16":
        gamma, beta, mean, variance = (
            (array.view(np.uint32) & 0xFFFF0000).view(np.float32) for array in (gamma, beta, mean, variance)
        )
    arrays = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    changes: dict[str, Any] = {**arrays, "dtype": dtype, "axis": axis}
    changed = replace(layer, **changes)
    one = replace(checkpoint, layers=(changed,))
    watched = _watched_layers(one)
    assert_all_verified(one, watched, Evidence.LAYER)
    assert watched.run.reason == "the file holds only weights"
    (observation,) = watched.observations
    assert observation.output == dtype
    assert observation.x.size == 64 * 4


def test_layers_alone_are_not_made_up(k: Any, save: Save) -> None:
    checkpoint = _checkpoint(k, save)
    (layer,) = checkpoint.layers
    changes: dict[str, dict[str, Any]] = {
        "no epsilon": {"epsilon": None},
        "no mean": {"moving_mean": None},
        "gamma or beta": {"gamma": None, "undecided": layer.gamma},
        "whole": {},
    }
    layers = tuple(replace(layer, **change, name=name) for name, change in changes.items())
    watched = _watched_layers(replace(checkpoint, layers=layers))
    assert {one.layer for one in watched.observations} == {"whole"}
    assert watched.run.unobserved == {
        "no epsilon": "the file does not state its epsilon",
        "no mean": "the file does not hold its moving_mean and moving_variance",
        "gamma or beta": "the file does not say whether one of its arrays is gamma or beta",
    }
