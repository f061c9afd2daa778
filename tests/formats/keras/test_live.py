"""Models that Keras 3 and tf_keras save here and now: what is read is what the live layers hold, bit for bit."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bninspect import formats
from bninspect.records import PARAMETERS, BatchNorm, Checkpoint

pytestmark = [
    pytest.mark.tensorflow,
    # Saving with Keras 3 under NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

Keras = Any
Layers = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Built:
    """A model, and its batch norms by the name that they should get, in the model's order."""

    model: Any
    layers: Layers
    hidden: tuple[str, ...] = ()
    """Those that the configuration does not describe: only the weights hold them."""


def _functional(keras: Keras, size: int, *layers: Any, name: str) -> Any:
    start = keras.Input((size,))
    end = start
    for layer in layers:
        end = layer(end)
    return keras.Model(start, end, name=name)


def _nested(keras: Keras) -> Built:
    make = keras.layers
    names = ("first", "a/x", "a/s/y", "a/s/z", "a/w", "last")
    norms = {name: make.BatchNormalization(name=name.rpartition("/")[2]) for name in names}
    inner = keras.Sequential([make.Dense(4), norms["a/s/y"], make.ReLU(), norms["a/s/z"]], name="s")
    outer = _functional(keras, 4, norms["a/x"], inner, norms["a/w"], name="a")
    return Built(_functional(keras, 4, norms["first"], make.Dense(4), outer, norms["last"], name="m"), norms)


def _shared(keras: Keras) -> Built:
    """One layer in two sub-models and outside of them, one sub-model called twice, and layers after each of these."""
    make = keras.layers
    names = ("a/before", "a/shared", "a/after", "b/before", "b/after", "twice/inner", "last")
    norms = {name: make.BatchNormalization(name=name.rpartition("/")[2]) for name in names}
    shared = norms["a/shared"]
    first = _functional(keras, 4, norms["a/before"], shared, norms["a/after"], name="a")
    second = _functional(keras, 4, norms["b/before"], shared, norms["b/after"], name="b")
    twice = _functional(keras, 4, norms["twice/inner"], name="twice")
    start = keras.Input((4,))
    end = make.Add()([first(start), second(start), shared(start)])
    return Built(keras.Model(start, norms["last"](twice(twice(end)))), norms)


def _wrapped(keras: Keras) -> Built:
    make = keras.layers
    norms = {name: make.BatchNormalization(name=name.rpartition("/")[2]) for name in ("one/inner", "two/s/deep", "z")}
    start = keras.Input((3, 4))
    end = make.TimeDistributed(norms["one/inner"], name="one")(start)
    inner = keras.Sequential([make.Dense(5), norms["two/s/deep"]], name="s")
    end = make.TimeDistributed(inner, name="two")(end)
    return Built(keras.Model(start, norms["z"](end)), norms)


def _flags(keras: Keras) -> Built:
    make = keras.layers
    norms = {
        "noscale": make.BatchNormalization(scale=False, name="noscale", epsilon=1e-5),
        "nocenter": make.BatchNormalization(center=False, name="nocenter", momentum=0.5),
        "neither": make.BatchNormalization(scale=False, center=False, name="neither"),
        "frozen": make.BatchNormalization(trainable=False, name="frozen"),
        "renorm": make.BatchNormalization(renorm=True, name="renorm"),
        "renorm_noscale": make.BatchNormalization(renorm=True, scale=False, name="renorm_noscale"),
    }
    return Built(_functional(keras, 4, *norms.values(), name="m"), norms)


def _types(keras: Keras) -> Built:
    make = keras.layers
    policies = ("float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float32")
    norms = {policy: make.BatchNormalization(name=policy, dtype=policy) for policy in policies}
    return Built(_functional(keras, 4, *norms.values(), name="m"), norms)


def _axes(keras: Keras) -> Built:
    """Axes other than the last; tf_keras also takes several, and then the arrays have the rank of the input."""
    make = keras.layers
    norms = {"first": make.BatchNormalization(axis=1, name="first"), "last": make.BatchNormalization(name="last")}
    if keras.__name__ == "tf_keras":
        norms["both"] = make.BatchNormalization(axis=[1, 3], name="both")
    start = end = keras.Input((4, 5, 6))
    for layer in norms.values():
        end = layer(end)
    return Built(keras.Model(start, end), norms)


def _cells(keras: Keras) -> Built:
    """Batch norms in the cells of an RNN, which Bidirectional copies."""
    make = keras.layers

    @keras.saving.register_keras_serializable("test_keras_live")
    class Cell(make.Layer):  # type: ignore[misc, name-defined]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.state_size = self.output_size = 4
            self.dense = make.Dense(4)
            self.bn = make.BatchNormalization(name="inner")

        def build(self, shape: Any) -> None:
            self.dense.build(shape)
            self.bn.build((None, 4))
            self.built = True

        def call(self, x: Any, states: Any, training: Any = None) -> Any:
            x = self.bn(self.dense(x))
            return x, [x]

    both = make.Bidirectional(make.RNN([Cell(name="c0"), Cell(name="c1")], name="r"), name="bd")
    last = make.BatchNormalization(name="last")
    start = keras.Input((3, 4))
    model = keras.Model(start, last(both(start)))
    ways = ("forward", "backward") if keras.__name__ == "keras" else ("backward", "forward")
    layers = {}
    for way in ways:
        stacked = getattr(both, f"{way}_layer").cell
        for cell, group in zip(stacked.cells, ("cell", "cell_1"), strict=True):
            if keras.__name__ == "keras":
                layers[f"bd/{way}_r/{stacked.name}/{cell.name}/inner"] = cell.bn
            elif way == "forward":
                layers[f"bd/r/stacked_rnn_cells/cells/{group}/bn"] = cell.bn
            else:
                layers[f"bd/backward_layer/cell/cells/{group}/bn"] = cell.bn
    return Built(model, {**layers, "last": last}, tuple(layers))


def _custom(keras: Keras) -> Built:
    """A layer that makes batch norms inside, one that is given them, and a subclass."""
    make = keras.layers

    class Block(make.Layer):  # type: ignore[misc, name-defined]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.dense = make.Dense(4)
            self.bn = make.BatchNormalization(name="hidden", epsilon=0.01)
            self.norms = [make.BatchNormalization(name="n0"), make.BatchNormalization(name="n1", scale=False)]

        def build(self, shape: Any) -> None:
            for layer in (self.dense, self.bn, *self.norms):
                layer.build((None, 4))
            self.built = True

        def call(self, x: Any) -> Any:
            x = self.bn(self.dense(x))
            for layer in self.norms:
                x = layer(x)
            return x

    class Pair(make.Layer):  # type: ignore[misc, name-defined]
        def __init__(self, one: Any, other: Any, **settings: Any) -> None:
            super().__init__(**settings)
            self.one, self.another = one, other

        def build(self, shape: Any) -> None:
            for layer in (self.one, self.another):
                layer.build((None, 4))
            self.built = True

        def call(self, x: Any) -> Any:
            return self.another(self.one(x))

        def get_config(self) -> dict[str, Any]:
            told = keras.saving.serialize_keras_object
            return {**super().get_config(), "one": told(self.one), "other": told(self.another)}

    class MyNorm(make.BatchNormalization):  # type: ignore[misc, name-defined]
        pass

    block = Block(name="block")
    pair = Pair(make.BatchNormalization(name="p0"), make.BatchNormalization(name="p1"), name="pair")
    mine, last = MyNorm(name="mine"), make.BatchNormalization(name="last")
    inside = {"hidden": block.bn, "n0": block.norms[0], "n1": block.norms[1]}
    if keras.__name__ == "tf_keras":  # Without stored names: those of the groups.
        groups = ("bn", "norms/batch_normalization", "norms/batch_normalization_1")
        inside = dict(zip(groups, inside.values(), strict=True))
    hidden = {f"block/{name}": layer for name, layer in inside.items()}
    norms = {**hidden, "pair/p0": pair.one, "pair/p1": pair.another, "mine": mine, "last": last}
    return Built(_functional(keras, 4, block, pair, mine, last, name="m"), norms, tuple(hidden))


def _subclassed(keras: Keras) -> Built:
    """Batch norms as attributes, in a list and in a dict, two of them short of arrays, and layer normalisation."""
    make = keras.layers

    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="net")
            self.stem_bn = make.BatchNormalization(name="s")
            self.blocks = [make.BatchNormalization(name="b0"), make.Dense(4), make.BatchNormalization(name="b1")]
            self.by_name = {"p": make.BatchNormalization(name="p"), "q": make.LayerNormalization()}
            self.head_bn = make.BatchNormalization(name="h", center=False)
            self.tail_bn = make.BatchNormalization(name="t", center=False, scale=False)

        def call(self, x: Any) -> Any:
            for layer in (self.stem_bn, *self.blocks, *self.by_name.values(), self.head_bn, self.tail_bn):
                x = layer(x)
            return x

    net = Net()
    net(np.ones((2, 4), np.float32))
    norms = [net.stem_bn, net.blocks[0], net.blocks[2], net.by_name["p"], net.head_bn, net.tail_bn]
    layers = {norm.name: norm for norm in norms}
    return Built(net, layers, tuple(layers))


CASES: tuple[Callable[[Keras], Built], ...] = (
    _nested,
    _shared,
    _wrapped,
    _flags,
    _types,
    _axes,
    _cells,
    _custom,
    _subclassed,
)


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> ModuleType:
    # Their imports warn of things that are none of ours.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(request.param)


@pytest.fixture(params=CASES, ids=lambda case: case.__name__.strip("_"))
def built(keras: ModuleType, request: pytest.FixtureRequest) -> Built:
    made = request.param(keras)
    chance = np.random.default_rng(7)
    for layer in made.layers.values():
        values = [chance.uniform(0.1, 3.0, weight.shape) for weight in layer.get_weights()]
        layer.set_weights(values)
    return made  # type: ignore[no-any-return]


def live(layer: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return the parameters that a layer holds, in its own types; bfloat16 widened."""
    found = {}
    for role in PARAMETERS:
        variable = getattr(layer, role, None)
        if variable is not None:
            value = np.asarray(variable.numpy())
            found[role] = value.astype(np.float32) if value.dtype.name == "bfloat16" else value
    return found


def assert_same(read: BatchNorm, layer: Any) -> None:
    expected = live(layer)
    arrays = dict(read.arrays)
    if read.undecided is not None:
        (role,) = expected.keys() - arrays.keys()
        arrays[role] = read.undecided
    assert arrays.keys() == expected.keys()
    for role, array in arrays.items():
        assert (array.dtype, array.tobytes()) == (expected[role].dtype, expected[role].tobytes()), (read.name, role)


def assert_whole(read: Checkpoint, built: Built) -> None:
    """Assert that a model with its configuration was read."""
    assert read.notes == ()
    if len(built.hidden) < len(built.layers):
        assert [layer.name for layer in read.layers] == list(built.layers)
    for norm in read.layers:
        layer = built.layers[norm.name]
        assert_same(norm, layer)
        if norm.name in built.hidden:
            assert (norm.epsilon, norm.axis, norm.scale) == (None, None, None)
        else:
            assert norm.undecided is None
            assert (norm.epsilon, norm.momentum) == (layer.epsilon, layer.momentum)
            assert norm.axis == (tuple(layer.axis) if isinstance(layer.axis, list | tuple) else (layer.axis,))
            assert (norm.scale, norm.center) == (layer.scale, layer.center)
            assert norm.dtype == getattr(layer.moving_mean.dtype, "name", layer.moving_mean.dtype)


def assert_all_there(read: Checkpoint, built: Built) -> None:
    """Assert that every layer was read, whatever it is called: no two hold the same arrays."""
    assert len(read.layers) == len(built.layers)
    for layer in built.layers.values():
        mean = live(layer)["moving_mean"].tobytes()
        (norm,) = [one for one in read.layers if one.moving_mean is not None and one.moving_mean.tobytes() == mean]
        assert_same(norm, layer)


def test_whole_models(built: Built, keras: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    built.model.save(path)
    read = formats.read(path)
    assert read.writer == f"Keras {keras.__version__}"
    if keras.__name__ == "tf_keras" and len(built.hidden) == len(built.layers):
        assert_all_there(read, built)
    else:
        assert {layer.name for layer in read.layers} == set(built.layers)
        assert_whole(read, built)
    assert bool(read.code) == bool(built.hidden)


@pytest.mark.parametrize("keras", ["keras"], indirect=True)
def test_folders_weights_and_shards(built: Built, tmp_path: Path) -> None:
    """The three other forms of Keras 3 say the same as the zip; without the configuration by name all the same."""
    built.model.save(tmp_path / "folder", zipped=False)
    folder = formats.read(tmp_path / "folder")
    assert {layer.name for layer in folder.layers} == set(built.layers)
    assert_whole(folder, built)
    built.model.save_weights(tmp_path / "m.weights.h5")
    largest = max(weight.nbytes for weight in built.model.get_weights())
    built.model.save_weights(tmp_path / "s.weights.json", max_shard_size=(largest + 50) / 1024**3)
    assert len(list(tmp_path.glob("s_*.weights.h5"))) > 2
    for name in ("m.weights.h5", "s.weights.json"):
        read = formats.read(tmp_path / name)
        assert {layer.name for layer in read.layers} == set(built.layers)
        for norm in read.layers:
            assert_same(norm, built.layers[norm.name])
            assert norm.epsilon is None
