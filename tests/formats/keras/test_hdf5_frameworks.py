"""HDF5 as Keras 3 and tf_keras write it today, read back and held against what the live layers have, bit for bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bninspect import formats
from bninspect.records import PARAMETERS, BatchNorm, Checkpoint, Statistics

pytestmark = pytest.mark.tensorflow

Keras = Any
Layer = Any
Check = Callable[[Any, Mapping[str, Layer]], Checkpoint]


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> Keras:
    return pytest.importorskip(request.param)


@pytest.fixture(scope="module")
def tf_keras() -> Keras:
    return pytest.importorskip("tf_keras")


def randomise(layers: Mapping[str, Layer]) -> None:
    """Give every weight values that no default and no other weight has."""
    rng = np.random.default_rng(1)
    for layer in layers.values():
        layer.set_weights([rng.uniform(0.1, 2, weight.shape).astype(weight.dtype) for weight in layer.get_weights()])


def live(layer: Layer) -> dict[str, tuple[str, bytes]]:
    """Return dtype and bytes of the parameters that a live layer has; bfloat16 as float32, which holds it exactly."""
    found = {}
    for role in PARAMETERS:
        variable = getattr(layer, role, None)
        if variable is not None:
            value = np.asarray(variable)
            dtype = value.dtype.name
            found[role] = (dtype, (value.astype(np.float32) if dtype == "bfloat16" else value).tobytes())
    return found


def stored(layer: BatchNorm) -> dict[str, tuple[str, bytes]]:
    return {role: (layer.dtype, array.tobytes()) for role, array in layer.arrays.items()}


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Save a model, read it, and compare: these layers, by these names, in this order, with these values."""

    def compare(model: Any, layers: Mapping[str, Layer], *, weights_only: bool = False) -> Checkpoint:
        randomise(layers)
        path = tmp_path / "model.h5"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that HDF5 is legacy is known
            (model.save_weights if weights_only else model.save)(str(path))
        found = formats.read(path)
        assert found.format == "keras-h5"
        assert [layer.name for layer in found.layers] == list(layers)
        for layer in found.layers:
            assert stored(layer) == live(layers[layer.name]), layer.name
        return found

    return compare


def test_nested_models(keras: Keras, check: Check) -> None:
    layer = keras.layers
    bns = {"a": layer.BatchNormalization(name="a"), "mid/sq/b": layer.BatchNormalization(name="b", epsilon=0.5)}
    bns |= {"mid/deep/c": layer.BatchNormalization(name="c"), "mid/d": layer.BatchNormalization(name="d", momentum=0.5)}
    sequential = keras.Sequential([layer.Input((4,)), layer.Dense(4), bns["mid/sq/b"]], name="sq")
    x = layer.Input((4,))
    deep = keras.Model(x, layer.Dense(4)(bns["mid/deep/c"](x)), name="deep")
    x = layer.Input((4,))
    mid = keras.Model(x, bns["mid/d"](deep(sequential(x))), name="mid")
    x = layer.Input((4,))
    found = check(keras.Model(x, mid(bns["a"](x))), bns)
    assert [each.epsilon for each in found.layers] == [0.001, 0.5, 0.001, 0.001]
    assert [each.momentum for each in found.layers] == [0.99, 0.99, 0.99, 0.5]
    assert {each.axis for each in found.layers} == ({(1,)} if keras.__name__ == "tf_keras" else {(-1,)})
    assert {each.epsilon_source for each in found.layers} == {"file"}
    assert found.writer.startswith("Keras ")
    assert found.code == ()
    assert found.notes == ()


def test_wrappers(keras: Keras, check: Check) -> None:
    layer = keras.layers
    inner, within = layer.BatchNormalization(name="inner"), layer.BatchNormalization(name="within")
    x = layer.Input((3, 4))
    block = keras.Sequential([layer.Input((4,)), layer.Dense(4), within], name="block")
    y = layer.TimeDistributed(block, name="tdblock")(layer.TimeDistributed(inner, name="tdbn")(x))
    check(keras.Model(x, y), {"tdbn/inner": inner, "tdblock/block/within": within})


def test_layers_called_several_times_are_listed_once(keras: Keras, check: Check) -> None:
    layer = keras.layers
    shared, within = layer.BatchNormalization(name="shared"), layer.BatchNormalization(name="within")
    x = layer.Input((4,))
    block = keras.Model(x, within(layer.Dense(4)(x)), name="block")
    x = layer.Input((4,))
    y = block(shared(block(shared(x))))
    check(keras.Model(x, y), {"shared": shared, "block/within": within})


@pytest.mark.parametrize("around", [False, True], ids=["each in its own group", "all in one group"])
def test_a_layer_shared_by_two_models(keras: Keras, check: Check, around: bool) -> None:
    layer = keras.layers
    shared = layer.BatchNormalization(name="shared")

    def model(name: str) -> Any:
        x = layer.Input((4,))
        return keras.Model(x, shared(x), name=name)

    one, two = model("one"), model("two")
    x = layer.Input((4,))
    outer = keras.Model(x, [one(x), two(x), shared(x)], name="outer")
    names = ["one/shared", "two/shared", "shared"]
    if around:
        x = layer.Input((4,))
        outer = keras.Model(x, outer(x))
        names = ["outer/one/shared"]  # stored once
    elif keras.__name__ == "tf_keras":
        names = names[:1]  # stored thrice, and marked as one object; Keras 3 has no mark, and loads three layers
    check(outer, dict.fromkeys(names, shared))


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"])
def test_dtype_policies(keras: Keras, check: Check, policy: str) -> None:
    bn = keras.layers.BatchNormalization(name="bn", dtype=policy)
    x = keras.layers.Input((4,))
    found = check(keras.Model(x, bn(x)), {"bn": bn})
    narrow = keras.__name__ == "keras" and not policy.startswith("mixed")
    assert found.layers[0].dtype == (policy if narrow or policy == "float64" else "float32")


@pytest.mark.parametrize(("scale", "center"), [(False, True), (True, False), (False, False)])
def test_scale_and_center_off(keras: Keras, check: Check, scale: bool, center: bool) -> None:
    bn = keras.layers.BatchNormalization(name="bn", scale=scale, center=center)
    x = keras.layers.Input((4,))
    (found,) = check(keras.Model(x, bn(x)), {"bn": bn}).layers
    assert (found.scale, found.center) == (scale, center)


def test_weights_that_are_not_trained_come_last(keras: Keras, check: Check) -> None:
    """Frozen layers, and such without gamma and beta, stand elsewhere in the list of weights than their neighbours."""
    layer = keras.layers
    bns = {
        "block/bare": layer.BatchNormalization(name="bare", scale=False, center=False),
        "block/full": layer.BatchNormalization(name="full"),
        "block/frozen": layer.BatchNormalization(name="frozen", trainable=False),
        "block/half": layer.BatchNormalization(name="half", center=False),
    }
    x = y = layer.Input((4,))
    for bn in bns.values():
        y = bn(y)
    block = keras.Model(x, y, name="block")
    x = layer.Input((4,))
    check(keras.Model(x, block(x)), bns)


def test_renorm(keras: Keras, check: Check) -> None:
    bn = keras.layers.BatchNormalization(name="bn", renorm=True)
    x = keras.layers.Input((4,))
    (found,) = check(keras.Model(x, bn(x)), {"bn": bn}).layers
    assert "renormalisation" in found.notes[0]


def test_synchronised(keras: Keras, check: Check) -> None:
    bns = {"new": keras.layers.BatchNormalization(name="new", synchronized=True)}
    if keras.__name__ == "tf_keras":
        old = keras.layers.experimental.SyncBatchNormalization
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bns["old"] = old(name="old")
    x = y = keras.layers.Input((4,))
    for bn in bns.values():
        y = bn(y)
    found = check(keras.Model(x, y), bns)
    assert [each.class_name for each in found.layers] == ["BatchNormalization", "SyncBatchNormalization"][: len(bns)]
    assert found.code == ()


def test_several_axes(tf_keras: Keras, check: Check) -> None:
    bn, first = (
        tf_keras.layers.BatchNormalization(name="bn", axis=[1, 3]),
        tf_keras.layers.BatchNormalization(name="first", axis=1),
    )
    x = tf_keras.layers.Input((6, 2, 3))
    found = check(tf_keras.Model(x, first(bn(x))), {"bn": bn, "first": first})
    assert [each.axis for each in found.layers] == [(1, 3), (1,)]
    assert found.layers[0].moving_mean is not None
    assert found.layers[0].moving_mean.shape == (1, 6, 1, 3)
    assert found.layers[0].channels == 18


def test_lists_over_64_kilobytes(keras: Keras, check: Check) -> None:
    layer = keras.layers
    bns = {
        f"{letter * 2000}": layer.BatchNormalization(name=letter * 2000)
        for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHI"
    }
    inner = {f"block/{name}": layer.BatchNormalization(name=name) for name in list(bns)[:10]}
    x = y = layer.Input((2,))
    for bn in inner.values():
        y = bn(y)
    block = keras.Model(x, y, name="block")
    x = y = layer.Input((2,))
    for bn in bns.values():
        y = bn(y)
    check(keras.Model(x, block(y)), {**bns, **inner})


def test_slashes_in_names(tf_keras: Keras, check: Check) -> None:
    layer = tf_keras.layers
    bns = {name: layer.BatchNormalization(name=name) for name in ("block/bn", "block/bn/bn", "block")}
    x = y = layer.Input((4,))
    for bn in bns.values():
        y = bn(y)
    check(tf_keras.Model(x, y), bns)


def test_subclasses(keras: Keras, check: Check) -> None:
    class Mine(keras.layers.BatchNormalization):  # type: ignore[misc]  # known at run time only
        pass

    bn = Mine(name="bn", epsilon=0.25)
    x = keras.layers.Input((4,))
    found = check(keras.Model(x, bn(x)), {"bn": bn})
    assert (found.layers[0].epsilon, found.layers[0].class_name) == (0.25, "Mine")
    assert found.code == ("Mine 'bn'",)


def block_class(keras: Keras, count: int) -> type[Any]:
    class Block(keras.layers.Layer):  # type: ignore[misc]  # known at run time only
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.dense = keras.layers.Dense(4, name="dense")
            self.bns = [keras.layers.BatchNormalization(name=f"hidden{number}", epsilon=0.7) for number in range(count)]

        def call(self, x: Any) -> Any:
            x = self.dense(x)
            for bn in self.bns:
                x = bn(x)
            return x

    return Block


def test_batch_norms_within_custom_layers(keras: Keras, check: Check) -> None:
    """Their parameters are known, their settings are not; the layers beside them keep theirs."""
    layer = keras.layers
    known, top = layer.BatchNormalization(name="known", epsilon=0.3), layer.BatchNormalization(name="top", epsilon=0.2)
    block, alone = block_class(keras, 2)(name="custom"), block_class(keras, 1)(name="alone")
    x = layer.Input((4,))
    inner = keras.Model(x, known(block(x)), name="inner")
    x = layer.Input((4,))
    model = keras.Model(x, top(inner(alone(x))))
    layers = {"alone/hidden0": alone.bns[0]}
    layers |= {"inner/custom/hidden0": block.bns[0], "inner/custom/hidden1": block.bns[1]}
    found = check(model, {**layers, "inner/known": known, "top": top})
    assert [each.epsilon for each in found.layers] == [None, None, None, 0.3, 0.2]
    assert [each.epsilon_source for each in found.layers] == [None, None, None, "file", "file"]
    assert found.code == ("Block 'alone'", "Block 'custom'")


def test_calls_with_training_true(keras: Keras, check: Check) -> None:
    layer = keras.layers
    hard, soft, within = (layer.BatchNormalization(name=name) for name in ("hard", "soft", "within"))
    x = layer.Input((4,))
    block = keras.Model(x, within(x), name="block")
    x = layer.Input((4,))
    found = check(
        keras.Model(x, block(soft(hard(x, training=True)), training=True)),
        {"hard": hard, "soft": soft, "block/within": within},
    )
    expected = Statistics.BATCH if keras.__name__ == "tf_keras" else Statistics.MOVING
    assert [each.statistics for each in found.layers] == [expected, Statistics.MOVING, expected]
    # Keras 3 hands the training=True of the first on to the second, which is called after it.
    assert [len(each.notes) for each in found.layers] == [1, int(keras.__name__ == "keras"), 1]


def test_operations_between_layers(keras: Keras, check: Check) -> None:
    bn = keras.layers.BatchNormalization(name="bn")
    x = keras.layers.Input((4, 4))
    y = bn(x[:, 1:] * 2.0 + 1.0)
    if keras.__name__ == "keras":
        y = keras.ops.batch_normalization(keras.ops.relu(y), np.zeros(4, "f4"), np.ones(4, "f4"), axis=-1)
    else:
        import tensorflow as tf

        y = tf.math.abs(tf.nn.relu(y)) + tf.cast(tf.shape(y)[1], tf.float32)
    assert check(keras.Model(x, y), {"bn": bn}).code == ()


def test_code_is_named(keras: Keras, check: Check) -> None:
    def mine(x: Any) -> Any:
        return x

    layer = keras.layers
    bn = layer.BatchNormalization(name="bn")
    x = layer.Input((4,))
    y = layer.Lambda(lambda t: t * 2, name="twice", output_shape=(4,))(bn(x))
    found = check(keras.Model(x, layer.Dense(2, activation=mine, name="dense")(y)), {"bn": bn})
    assert found.code == ("Lambda 'twice'", "function 'mine' in 'dense'")


def test_cells_of_recurrent_layers(keras: Keras, check: Check) -> None:
    @keras.utils.register_keras_serializable("tests")
    class Cell(keras.layers.Layer):  # type: ignore[misc]  # known at run time only
        state_size = output_size = 4

        def build(self, shape: Any) -> None:
            self.bn = keras.layers.BatchNormalization(name="cellbn")
            self.bn.build((None, 4))
            self.built = True

        def call(self, x: Any, states: Any) -> Any:
            y = self.bn(x + states[0])
            return y, [y]

    bidirectional = keras.layers.Bidirectional(keras.layers.RNN(Cell(name="cell"), name="rnn"), name="bi")
    x = keras.layers.Input((3, 4))
    model = keras.Model(x, bidirectional(x))
    ends = ("", "/cellbn") if keras.__name__ == "keras" else ("", "")
    cells = {"forward": bidirectional.forward_layer.cell, "backward": bidirectional.backward_layer.cell}
    found = check(model, {f"bi/{way}_rnn/cell{ends[1]}": cell.bn for way, cell in cells.items()})
    assert [each.epsilon for each in found.layers] == [None, None]


def test_weights_only(tf_keras: Keras, check: Check) -> None:
    layer = tf_keras.layers
    bns = {"a": layer.BatchNormalization(name="a"), "block/b": layer.BatchNormalization(name="b", scale=False)}
    x = layer.Input((4,))
    block = tf_keras.Model(x, layer.Dense(4)(bns["block/b"](x)), name="block")
    x = layer.Input((4,))
    found = check(tf_keras.Model(x, block(bns["a"](x))), bns, weights_only=True)  # type: ignore[call-arg]
    for each in found.layers:
        assert (each.epsilon, each.momentum, each.axis, each.scale, each.class_name) == (None, None, None, None, "")
    assert found.architecture is None
    assert "weights only" in found.notes[0]
