"""Which batch norms of a Keras 3 model normalise by the batch in `model(x)`: what is read is what Keras does."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bninspect import formats
from bninspect.formats.keras.training_context import DEFAULTS
from bninspect.records import Statistics

pytestmark = [
    pytest.mark.tensorflow,
    # Saving with Keras 3 under NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

SHAPE = (4, 4, 2)


@pytest.fixture(scope="module")
def keras() -> Any:
    # Its import warns of things that are none of ours.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
    return keras


@pytest.fixture
def given(keras: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bool]]:
    """Whether each call of a layer normalises by the batch, by the layer's name."""
    found: dict[str, list[bool]] = {}
    original = keras.layers.BatchNormalization.call

    def call(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        found.setdefault(layer.name, []).append(bool(training) and layer.trainable)
        return original(layer, inputs, training=training, mask=mask)

    monkeypatch.setattr(keras.layers.BatchNormalization, "call", call)
    return found


class Draw:
    """Models by chance: nested, shared, with several branches and outputs, and with `training` in their calls."""

    def __init__(self, keras: Any, seed: int) -> None:
        self.keras, self.chance, self.count = keras, np.random.default_rng(seed), 0

    def model(self, depth: int = 0) -> Any:
        start = self.keras.Input(SHAPE)
        pool = [start]
        for _ in range(int(self.chance.integers(2, 7))):
            pool.append(self.step(pool, depth))
        more = [pool[place] for place in self.chance.integers(1, len(pool), int(self.chance.integers(0, 3)))]
        outputs = pool[-1] if depth or not more else [pool[-1], *more]
        return self.keras.Model(start, outputs, name=self.named("model"))

    def step(self, pool: list[Any], depth: int) -> Any:
        layers, x = self.keras.layers, pool[self.chance.integers(len(pool))]
        said: dict[str, bool] = [{}, {}, {}, {"training": True}, {"training": False}][self.chance.integers(5)]
        match int(self.chance.integers(10)):
            case 0 | 1 | 2:
                norm = self.norm()
                return layers.Add()([norm(x, **said), norm(pool[0])]) if self.chance.random() < 0.3 else norm(x, **said)
            case 3:
                return layers.Dropout(0.5, name=self.named("dropout"))(x, **said)
            case 4:
                return layers.Resizing(4, 4, name=self.named("resizing"))(x)
            case 5:
                return layers.Add(name=self.named("add"))([x, pool[-1]])
            case 6 if depth < 2:
                inner = self.model(depth + 1)
                return inner(inner(x), **said) if self.chance.random() < 0.3 else inner(x, **said)
            case 7:
                parts = [layers.Dropout(0.1, name=self.named("drop")), self.norm()]
                return self.keras.Sequential(parts, name=self.named("sequence"))(x, **said)
            case 8:
                return layers.TimeDistributed(self.norm(), name=self.named("each"))(x, **said)
            case _:
                return 2 * layers.ReLU(name=self.named("relu"))(x) + 1

    def norm(self) -> Any:
        trainable = self.chance.random() < 0.9
        return self.keras.layers.BatchNormalization(name=self.named("norm"), trainable=trainable)

    def named(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.count}"


def test_what_is_read_is_what_keras_does(keras: Any, given: dict[str, list[bool]], tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    kinds = set()
    for seed in range(25):
        drawn = Draw(keras, seed).model()
        for suffix in ("keras", "h5"):
            drawn.save(tmp_path / f"{seed}.{suffix}")
        model = keras.saving.load_model(tmp_path / f"{seed}.keras")
        given.clear()
        model(x)
        expected = {name: any(trained) for name, trained in given.items()}
        for suffix in ("keras", "h5"):
            read = formats.read(tmp_path / f"{seed}.{suffix}").layers
            assert {layer.name.rpartition("/")[2]: layer.wired for layer in read} == expected, seed
            assert all(layer.statistics is Statistics.MOVING for layer in read)
        kinds |= set(expected.values())
        given.clear()
        model(x, training=False)
        assert not any(map(any, given.values()))
    assert kinds == {True, False}


Build = Callable[[Any, Any, Any], Any]
CULPRITS: dict[str, Build] = {
    "dropout": lambda layers, x, norm: norm(layers.Dropout(0.5, name="dropout")(x, training=True)),
    "resizing": lambda layers, x, norm: norm(layers.Resizing(4, 4, name="resizing")(x)),
    "": lambda layers, x, norm: norm(layers.Resizing(4, 4)(x), training=True),
}


@pytest.mark.parametrize("culprit", CULPRITS)
def test_the_layer_that_hands_it_on_is_named(culprit: str, keras: Any, tmp_path: Path) -> None:
    start = keras.Input(SHAPE)
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Model(start, CULPRITS[culprit](keras.layers, start, norm))
    model.save(tmp_path / "m.keras")
    (layer,) = formats.read(tmp_path / "m.keras").layers
    who = f"{culprit} before it hands training=True on" if culprit else "called with training=True"
    assert layer.notes == (f"{who}: predict() uses the moving statistics, model(x) and exports those of the batch",)
    keras.Model(model.input, model(model.input, training=False)).save(tmp_path / "remedy.keras")
    assert [layer.wired for layer in formats.read(tmp_path / "remedy.keras").layers] == [False]


def test_defaults_are_those_of_keras(keras: Any) -> None:
    found = {}
    for kind in vars(keras.layers).values():
        if isinstance(kind, type) and issubclass(kind, keras.Layer):
            given = inspect.signature(getattr(kind, "call")).parameters.get("training")  # noqa: B009 - mypy knows no such method
            if given is not None and isinstance(given.default, bool):
                found[kind.__name__] = given.default
    assert found.items() <= DEFAULTS.items()
    assert DEFAULTS.keys() - found.keys() <= {"ContrastLimitedAdaptiveHistogramEqualization"}
