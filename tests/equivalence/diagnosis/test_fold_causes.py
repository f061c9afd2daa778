"""Every way to get a fold wrong: a real model is converted, its export broken in exactly that way, and the way named.

The exports are TFLite files of TensorFlow's own converter, which folds right. Where only numbers go wrong they are
changed in the file; where the structure does, a model that is built wrong is converted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.exports import causes, convert, counterparts, held, patched, randomise, save, statuses

from bninspect.records import Array, LayerStatus, ModelReport, Status

pytestmark = pytest.mark.tensorflow
EPSILON = 1e-3
OK, WRONG = LayerStatus.VERIFIED, LayerStatus.MISMATCH


def _chain() -> Any:
    """A convolution, a depthwise one with a multiplier, a square dense layer and a transposed convolution."""
    import keras

    layers = keras.layers
    x = inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="conv")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="bn_conv", epsilon=EPSILON)(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="bn_depthwise", epsilon=EPSILON)(x))
    x = layers.Conv2DTranspose(5, 2, name="up")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="bn_up", epsilon=EPSILON)(x))
    x = layers.Dense(5, name="dense")(layers.GlobalAveragePooling2D()(x))
    x = layers.ReLU()(layers.BatchNormalization(name="bn_dense", epsilon=EPSILON)(x))
    return keras.Model(inputs, layers.Dense(2, name="end")(x))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    folder = tmp_path_factory.mktemp("chain")
    built = randomise(_chain())
    return built, save(built, folder / "m.keras"), convert(built, folder / "m.tflite")


def _map(built: Any, name: str, epsilon: float = EPSILON) -> tuple[Array, Array, Array, Array]:
    gamma, beta, mean, variance = (one.astype(np.float64) for one in built.get_layer(name).get_weights())
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale, mean, beta


def _broken(chain: tuple[Any, Path, Path], path: Path, changes: Any) -> ModelReport:
    _, source, export = chain
    return held(source, patched(export, path / "broken.tflite", changes))


def _to(values: Array) -> Callable[[Array], Array]:
    return lambda old: values.reshape(old.shape)


def test_right_export_is_accounted_for(chain: tuple[Any, Path, Path]) -> None:
    model = held(chain[1], chain[2])
    assert model.status is Status.PASS
    assert set(statuses(model).values()) == {OK}
    assert {name: one.how for name, one in counterparts(model).items()} == dict.fromkeys(statuses(model), "folded")
    for one in counterparts(model).values():
        assert [each.observed for each in one.comparisons] == ["weights", "bias", "output"]
        assert all(each.agrees for each in one.comparisons)
    assert model.against is not None
    assert [one.observed for one in model.against.outputs] == ["model output", "optimised output"]


BIASES: dict[str, Callable[..., Array]] = {
    "bias-dropped": lambda b, a, c, mean, beta: c,
    "bias-not-scaled": lambda b, a, c, mean, beta: b + c,
    "shift-not-folded": lambda b, a, c, mean, beta: b * a,
    "bias-not-folded": lambda b, a, c, mean, beta: b,
    "mean-ignored": lambda b, a, c, mean, beta: b * a + beta,
    "beta-ignored": lambda b, a, c, mean, beta: (b - mean) * a,
    "mean-not-scaled": lambda b, a, c, mean, beta: b * a - mean + beta,
    "mean-added": lambda b, a, c, mean, beta: (b + mean) * a + beta,
}


@pytest.mark.parametrize("cause", BIASES)
@pytest.mark.parametrize(("place", "operation"), [(0, "conv"), (3, "dense")])
def test_wrong_bias(chain: tuple[Any, Path, Path], tmp_path: Path, cause: str, place: int, operation: str) -> None:
    built, name = chain[0], f"bn_{operation}"
    scale, shift, mean, beta = _map(built, name)
    bias = built.get_layer(operation).get_weights()[-1].astype(np.float64)
    model = _broken(chain, tmp_path, {(place, "bias"): _to(BIASES[cause](bias, scale, shift, mean, beta))})
    assert model.status is Status.FAIL
    assert [one.name for one in causes(model, name)] == [cause]
    # The weights are right, and what comes later is right but for what comes in.
    comparisons = {one.observed: one.agrees for one in counterparts(model)[name].comparisons}
    assert comparisons == {"weights": True, "bias": False}
    rest = {key: one for key, one in counterparts(model).items() if key != name}
    later = {"bn_depthwise", "bn_up", "bn_dense"} if operation == "conv" else set()
    assert {key for key, one in rest.items() if one.inherited == name} == later
    assert all(one.status is OK for key, one in rest.items() if key not in later)


def test_weights_that_were_not_scaled(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    weights = chain[0].get_layer("conv").get_weights()[0]
    model = _broken(chain, tmp_path, {(0, "weights"): _to(weights.transpose(3, 0, 1, 2))})
    assert [one.name for one in causes(model, "bn_conv")] == ["weights-not-scaled"]


@pytest.mark.parametrize("axes", [(0, 2, 1, 3), "turned"])
def test_a_kernel_in_another_order(chain: tuple[Any, Path, Path], tmp_path: Path, axes: Any) -> None:
    def changed(old: Array) -> Array:
        return old[:, ::-1, ::-1] if axes == "turned" else old.transpose(axes)

    assert [one.name for one in causes(_broken(chain, tmp_path, {(0, "weights"): changed}), "bn_conv")] == [
        "kernel-rearranged"
    ]


def test_scale_along_the_wrong_axis_of_a_square_kernel(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    scale, *_ = _map(chain[0], "bn_dense")
    weights = chain[0].get_layer("dense").get_weights()[0].astype(np.float64)
    # The file holds (outputs, inputs).
    model = _broken(chain, tmp_path, {(3, "weights"): _to((weights * scale[:, np.newaxis]).T)})
    assert [one.name for one in causes(model, "bn_dense")] == ["wrong-axis"]


def test_folded_twice(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    scale, _, mean, beta = _map(chain[0], "bn_conv")
    changes = {
        (0, "weights"): lambda old: old * scale.reshape(-1, 1, 1, 1),
        (0, "bias"): lambda old: (old - mean) * scale + beta,
    }
    model = _broken(chain, tmp_path, changes)
    assert [one.name for one in causes(model, "bn_conv")] == ["folded-twice"]


def test_depthwise_scales_in_the_order_of_another_grouping(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    scale, *_ = _map(chain[0], "bn_depthwise")
    # 6 inputs with a multiplier of 2: (inputs, multiplier) taken for (multiplier, inputs).
    other = scale.reshape(2, 6).T.reshape(-1)
    model = _broken(chain, tmp_path, {(1, "weights"): lambda old: old / scale * other})
    assert [one.name for one in causes(model, "bn_depthwise")] == ["group-order"]


@pytest.mark.parametrize(("epsilon", "cause"), [(1e-5, "epsilon=1e-05"), (1e-2, "epsilon=0.01"), (0.0, "epsilon=0")])
def test_epsilon_of_another_default(chain: tuple[Any, Path, Path], tmp_path: Path, epsilon: float, cause: str) -> None:
    built = chain[0]
    weights, bias = (one.astype(np.float64) for one in built.get_layer("conv").get_weights())
    scale, _, mean, beta = _map(built, "bn_conv", epsilon)
    changes = {
        (0, "weights"): _to((weights * scale).transpose(3, 0, 1, 2)),
        (0, "bias"): _to((bias - mean) * scale + beta),
    }
    model = _broken(chain, tmp_path, changes)
    assert cause in [one.name for one in causes(model, "bn_conv")]


def test_epsilon_outside_the_square_root(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    built = chain[0]
    weights, bias = (one.astype(np.float64) for one in built.get_layer("conv").get_weights())
    gamma, beta, mean, variance = (one.astype(np.float64) for one in built.get_layer("bn_conv").get_weights())
    scale = gamma / (np.sqrt(variance) + EPSILON)
    changes = {
        (0, "weights"): _to((weights * scale).transpose(3, 0, 1, 2)),
        (0, "bias"): _to((bias - mean) * scale + beta),
    }
    model = _broken(chain, tmp_path, changes)
    assert [one.name for one in causes(model, "bn_conv")] == ["epsilon-outside"]


def test_two_things_at_once(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    scale, shift, *_ = _map(chain[0], "bn_dense")
    weights = chain[0].get_layer("dense").get_weights()[0].astype(np.float64)
    changes = {(3, "weights"): _to((weights * scale[:, np.newaxis]).T), (3, "bias"): _to(shift)}
    model = _broken(chain, tmp_path, changes)
    assert [one.name for one in causes(model, "bn_dense")] == ["wrong-axis + bias-dropped"]


def test_what_nothing_explains_is_said_to_be_so(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(0.9, 1.1, 6)
    changes = {(0, "weights"): lambda old: old * noise.reshape(-1, 1, 1, 1)}
    model = _broken(chain, tmp_path, changes)
    one = counterparts(model)["bn_conv"]
    assert one.status is WRONG
    assert one.explanation is not None
    assert one.explanation.causes == ()
    assert one.explanation.tried > 50
    assert one.sentence.startswith("none of ")


def test_one_wrong_number_is_enough(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    def change(old: Array) -> Array:
        old[2, 1, 1, 1] *= np.float32(1.00001)
        return old

    model = _broken(chain, tmp_path, {(0, "weights"): change})
    weights = next(one for one in counterparts(model)["bn_conv"].comparisons if one.observed == "weights")
    assert (weights.violations, weights.channels) == (1, (2,))
    assert model.status is Status.FAIL


def test_nan_is_never_a_match(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    for which in ("weights", "bias"):
        model = _broken(chain, tmp_path, {(3, which): lambda old: np.full_like(old, np.nan)})
        assert counterparts(model)["bn_dense"].status is not OK
        assert model.status is not Status.PASS


def test_another_model_altogether(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    model = held(chain[1], convert(randomise(_chain(), seed=99), tmp_path / "other.tflite"))
    assert model.status is Status.FAIL
    assert model.against is not None
    assert model.against.same is False
    (finding,) = [one for one in model.findings if one.rule == "BN410"]
    assert "is not the same model" in finding.message
    assert set(statuses(model).values()) == {WRONG}


def test_one_layer_of_another_training(chain: tuple[Any, Path, Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(8)
    changes = {
        (0, "weights"): lambda old: generator.normal(size=old.shape),
        (0, "bias"): lambda old: generator.normal(size=old.shape),
    }
    model = _broken(chain, tmp_path, changes)
    assert model.against is not None
    assert model.against.same is True
    assert "of another training" in counterparts(model)["bn_conv"].sentence


def _small(build: Callable[[Any, Any], Any]) -> Any:
    import keras

    x = keras.layers.Input((6, 6, 3))
    return keras.Model(x, build(keras.layers, x))


def _folded_weights(source: Any, conv: str, norm: str) -> list[Array]:
    scale, shift, *_ = _map(source, norm)
    weights, bias = source.get_layer(conv).get_weights()
    return [weights * scale, bias * scale + shift]


def _held_folded(source: Any, wrong: Any, folder: Path) -> ModelReport:
    """Fold `bn` into `conv` of another model, and hold the source against its right export and against that one."""
    wrong.get_layer("conv").set_weights(_folded_weights(source, "conv", "bn"))
    path = save(source, folder / "source.keras")
    assert held(path, convert(source, folder / "right.tflite")).status is Status.PASS
    return held(path, convert(wrong, folder / "wrong.tflite"))


def test_folded_across_an_activation(tmp_path: Path) -> None:
    def right(layers: Any, x: Any) -> Any:
        x = layers.Conv2D(4, 3, name="conv")(x)
        return layers.BatchNormalization(name="bn")(layers.ReLU()(x))

    source = randomise(_small(right))
    wrong = _small(lambda layers, x: layers.ReLU()(layers.Conv2D(4, 3, name="conv")(x)))
    model = _held_folded(source, wrong, tmp_path)
    assert [one.name for one in causes(model, "bn")] == ["folded-across-activation"]
    assert model.status is Status.FAIL


def test_folded_across_an_activation_with_another_batch_norm(tmp_path: Path) -> None:
    """The operation holds its own batch norm, and wrongly the one behind the activation as well."""

    def right(layers: Any, x: Any) -> Any:
        x = layers.ReLU()(layers.BatchNormalization(name="bn1")(layers.Conv2D(4, 3, name="conv")(x)))
        return layers.BatchNormalization(name="bn2")(x)

    source = randomise(_small(right))
    wrong = _small(lambda layers, x: layers.ReLU()(layers.Conv2D(4, 3, name="conv")(x)))
    scale, shift, *_ = _map(source, "bn2")
    wrong.get_layer("conv").set_weights([one * scale for one in _folded_weights(source, "conv", "bn1")])
    weights, bias = wrong.get_layer("conv").get_weights()
    wrong.get_layer("conv").set_weights([weights, bias + shift])
    path = save(source, tmp_path / "source.keras")
    assert held(path, convert(source, tmp_path / "right.tflite")).status is Status.PASS
    model = held(path, convert(wrong, tmp_path / "wrong.tflite"))
    assert [one.name for one in causes(model, "bn2")] == ["folded-across-activation"]
    # What the operation returns is the output of neither.
    assert statuses(model) == {"bn1": WRONG, "bn2": WRONG}


@pytest.mark.parametrize("quantised", [False, True])
def test_another_stride_shows_in_the_shape(tmp_path: Path, *, quantised: bool) -> None:
    """All numbers are right, also within half a step; the first layer of another shape is the source."""
    import tensorflow as tf

    def build(layers: Any, x: Any, strides: int) -> Any:
        x = layers.ReLU()(layers.BatchNormalization(name="bn1")(layers.Conv2D(4, 3, strides=strides)(x)))
        x = layers.ReLU()(layers.BatchNormalization(name="bn2")(layers.Conv2D(4, 1)(x)))
        return layers.GlobalAveragePooling2D()(x)

    options: dict[str, Any] = {"optimizations": [tf.lite.Optimize.DEFAULT]} if quantised else {}
    source = randomise(_small(partial(build, strides=1)))
    wrong = randomise(_small(partial(build, strides=2)))
    path = save(source, tmp_path / "source.keras")
    assert held(path, convert(source, tmp_path / "right.tflite", **options)).status is Status.PASS
    model = held(path, convert(wrong, tmp_path / "wrong.tflite", **options))
    assert statuses(model) == {"bn1": WRONG, "bn2": WRONG}
    assert "its numbers are right, its output has shape" in counterparts(model)["bn1"].sentence
    assert counterparts(model)["bn2"].inherited == "bn1"
    assert model.status is Status.FAIL


def test_folded_past_a_second_consumer(tmp_path: Path) -> None:
    def right(layers: Any, x: Any) -> Any:
        x = layers.Conv2D(4, 3, name="conv")(x)
        return layers.Add()([layers.ReLU()(layers.BatchNormalization(name="bn")(x)), x])

    def wrong(layers: Any, x: Any) -> Any:
        x = layers.Conv2D(4, 3, name="conv")(x)
        return layers.Add()([layers.ReLU()(x), x])

    source, broken = randomise(_small(right)), _small(wrong)
    model = _held_folded(source, broken, tmp_path)
    assert [one.name for one in causes(model, "bn")] == ["folded-past-second-consumer"]
    assert model.status is Status.FAIL


def test_folded_forward_over_a_padded_border(tmp_path: Path) -> None:
    def right(layers: Any, x: Any, padding: str) -> Any:
        x = layers.BatchNormalization(name="bn")(layers.ReLU()(x))
        return layers.ReLU()(layers.Conv2D(4, 3, padding=padding, name="conv")(x))

    def wrong(layers: Any, x: Any, padding: str) -> Any:
        return layers.ReLU()(layers.Conv2D(4, 3, padding=padding, name="conv")(layers.ReLU()(x)))

    for padding, fine in (("same", False), ("valid", True)):
        source = randomise(_small(partial(right, padding=padding)))
        broken = _small(partial(wrong, padding=padding))
        scale, shift, *_ = _map(source, "bn")
        weights, bias = source.get_layer("conv").get_weights()
        folded = [weights * scale[:, np.newaxis], bias + np.einsum("hwio,i->o", weights.astype(np.float64), shift)]
        broken.get_layer("conv").set_weights(folded)
        path = save(source, tmp_path / "source.keras")
        assert held(path, convert(source, tmp_path / "right.tflite")).status is Status.PASS
        model = held(path, convert(broken, tmp_path / "wrong.tflite"))
        if fine:
            # Without padding the same fold is right.
            assert (model.status, counterparts(model)["bn"].how) == (Status.PASS, "folded forward")
        else:
            assert [one.name for one in causes(model, "bn")] == ["padding-border"]
            assert model.status is Status.FAIL


def test_left_out(tmp_path: Path) -> None:
    def right(layers: Any, x: Any) -> Any:
        return layers.ReLU()(layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, name="conv")(x)))

    source = randomise(_small(right))
    wrong = _small(lambda layers, x: layers.ReLU()(layers.Conv2D(4, 3, name="conv")(x)))
    wrong.get_layer("conv").set_weights(source.get_layer("conv").get_weights())
    model = held(save(source, tmp_path / "source.keras"), convert(wrong, tmp_path / "wrong.tflite"))
    assert [one.name for one in causes(model, "bn")] == ["left-out"]


def test_scale_and_shift_with_another_epsilon(tmp_path: Path) -> None:
    def right(layers: Any, x: Any) -> Any:
        return layers.Conv2D(4, 3)(layers.ReLU()(layers.BatchNormalization(name="bn")(x)))

    source = randomise(_small(right))
    wrong = _small(lambda layers, x: layers.Conv2D(4, 3)(layers.ReLU()(layers.BatchNormalization(epsilon=1e-5)(x))))
    wrong.set_weights(source.get_weights())
    path = save(source, tmp_path / "source.keras")
    assert held(path, convert(source, tmp_path / "right.tflite")).status is Status.PASS
    model = held(path, convert(wrong, tmp_path / "wrong.tflite"))
    assert [one.name for one in causes(model, "bn")][:1] == ["epsilon=1e-05"]
    assert model.status is Status.FAIL


def test_another_activation_that_only_large_numbers_show(tmp_path: Path) -> None:
    def build(layers: Any, x: Any, most: float | None) -> Any:
        x = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3)(x))
        return layers.GlobalAveragePooling2D()(layers.ReLU(most)(x))

    def calmed(built: Any) -> Any:
        built = randomise(built)
        built.get_layer("bn").set_weights([np.full(4, value) for value in (1.0, 0.0, 0.0, 4.0)])
        return built

    source, wrong = calmed(_small(partial(build, most=6.0))), calmed(_small(partial(build, most=None)))
    path = save(source, tmp_path / "source.keras")
    assert held(path, convert(source, tmp_path / "right.tflite")).status is Status.PASS
    # No number is large enough to tell them apart: the kinds are compared.
    model = held(path, convert(wrong, tmp_path / "wrong.tflite"))
    assert model.status is Status.FAIL
    assert [one.name for one in causes(model, "bn")] == ["activation-changed"]


def test_right_layers_and_another_preprocessing(tmp_path: Path) -> None:
    """All numbers are right and the input is not: the first layer is the source, the second inherits."""

    def right(layers: Any, x: Any) -> Any:
        x = layers.ReLU()(layers.BatchNormalization(name="bn1")(layers.Conv2D(4, 3, name="conv1")(x)))
        return layers.ReLU()(layers.BatchNormalization(name="bn2")(layers.Conv2D(4, 3, name="conv2")(x)))

    source = randomise(_small(right))
    wrong = _small(lambda layers, x: right(layers, layers.Activation("tanh")(x)))
    wrong.set_weights(source.get_weights())
    model = held(save(source, tmp_path / "source.keras"), convert(wrong, tmp_path / "wrong.tflite"))
    one, two = counterparts(model).values()
    assert (one.status, one.inherited, two.inherited) == (WRONG, "", "bn1")
    assert {finding.rule for finding in model.layers[0].findings} >= {"BN402"}
    assert {finding.rule for finding in model.layers[1].findings} >= {"BN403"}
    assert model.status is Status.FAIL
