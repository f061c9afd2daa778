"""The monitor in real trainings: what it says is so, and the training is the same with and without it."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bninspect import callbacks
from bninspect.callbacks import BatchNormMonitor, BatchNormWarning, Limits
from bninspect.runtimes import loading

pytestmark = pytest.mark.tensorflow

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(3, 2, (60, 3)).astype(np.float32)


@pytest.fixture(params=["keras", "tf_keras"])
def k(request: pytest.FixtureRequest) -> Any:
    """Keras 3 and tf-keras, each in its turn."""
    return loading.framework(request.param)


def _fit(k: Any, layers: list[Any], monitor: Any = None, **options: Any) -> tuple[Any, Any, list[str]]:
    """Train on X; return the model, its history and the monitor's warnings."""
    model = k.Sequential([k.layers.Input((3,)), *layers])
    return model, *_fit_on(model, monitor, **options)


def _fit_on(model: Any, monitor: Any, *, at_once: int = 1, epochs: int = 2, **options: Any) -> tuple[Any, list[str]]:
    model.compile("adam", "mse", steps_per_execution=at_once)
    given = {"batch_size": 8, "verbose": 0, "shuffle": True, **options}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(X, X[:, :1], epochs=epochs, callbacks=[monitor] if monitor else [], **given)
    return history, [str(one.message) for one in caught if one.category is BatchNormWarning]


@pytest.mark.parametrize("at_once", [1, 4])
def test_training_is_the_same_bit_for_bit(k: Any, at_once: int) -> None:
    def train(monitor: Any) -> tuple[list[bytes], Any, bytes]:
        k.utils.set_random_seed(1)
        layers = [k.layers.Dense(4), k.layers.BatchNormalization(), k.layers.Dropout(0.3), k.layers.Dense(1)]
        model, history, _ = _fit(k, layers, monitor, at_once=at_once, validation_split=0.2)
        slots = model.optimizer.variables
        arrays = [*model.get_weights(), *(one.numpy() for one in (slots() if callable(slots) else slots))]
        # What the next random operation gives tells whether a random number was taken.
        after = layers[2](np.ones((4, 4), np.float32), training=True)
        return [array.tobytes() for array in arrays], history.history, np.asarray(after).tobytes()

    assert train(BatchNormMonitor(k)) == train(None)


@pytest.mark.parametrize("at_once", [1, 4])
def test_the_share_that_is_reported_is_the_one_that_is_left(k: Any, at_once: int) -> None:
    layer = k.layers.BatchNormalization(momentum=0.9, name="bn")
    monitor = BatchNormMonitor(k)
    # Each step sees the same batch: moving_mean is its mean but for the share of the initial zero.
    monitor_epochs, steps = 3, 6
    data = np.concatenate([X[:8]] * steps)
    model = k.Sequential([k.layers.Input((3,)), layer])
    model.compile("sgd", "mse", steps_per_execution=at_once)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchNormWarning)
        model.fit(data, data, batch_size=8, shuffle=False, epochs=monitor_epochs, verbose=0, callbacks=[monitor])
    mean = X[:8].mean(axis=0, dtype=np.float64)
    left = 1 - layer.moving_mean.numpy() / mean
    state = monitor.states["bn"][-1]
    assert state.updates == monitor_epochs * steps
    assert state.share == 0.9**18
    assert left == pytest.approx(np.full(3, state.share), rel=1e-4)


def test_each_cause_is_said_once_for_a_layer_in_two_trainings(k: Any) -> None:
    monitor = BatchNormMonitor(k)
    model, _, said = _fit(k, [k.layers.BatchNormalization(name="bn"), k.layers.Dense(1)], monitor)
    # 60 values in batches of 8, twice.
    assert said == [
        "bn: 0.85 of the initial statistics is left, 0.99**16: " + said[0].partition(": ")[2].split(": ")[1]
    ]
    _, again = _fit_on(model, monitor)
    assert again == []
    assert [state.updates for state in monitor.states["bn"]] == [8, 16, 24, 32]


def test_what_inference_needs_not_be_warned_of(k: Any) -> None:
    frozen = k.layers.BatchNormalization(name="frozen", trainable=False)
    settled = k.layers.BatchNormalization(name="settled", momentum=0.5)
    monitor = BatchNormMonitor(k, limits=Limits(left=0.01, drift=50.0))
    _, _, said = _fit(k, [frozen, settled, k.layers.Dense(1)], monitor)
    assert said == []
    assert monitor.states["frozen"][-1].share == 1
    assert monitor.states["settled"][-1].share == 0.5**16


def test_a_layer_that_never_moves_is_found(k: Any) -> None:
    class Still(k.layers.Layer):  # type: ignore[misc]
        """Keras 3 overrides `training=False` in the graph of a model, but not in a layer."""

        def __init__(self) -> None:
            super().__init__(name="still")
            self.norm = k.layers.BatchNormalization(name="norm")

        def build(self, shape: Any) -> None:
            self.norm.build(shape)

        def call(self, inputs: Any) -> Any:
            return self.norm(inputs, training=False)

    _, _, said = _fit(k, [Still(), k.layers.Dense(1)], BatchNormMonitor(k))
    assert said == [
        "still/norm: the moving statistics did not move in 8 training steps: is it called with training=False?"
    ]


def test_what_is_not_finite_is_found_in_nested_models(k: Any) -> None:
    inner_in = k.Input((3,))
    inner = k.Model(inner_in, k.layers.BatchNormalization(name="bn")(inner_in), name="inner")
    x = k.Input((3,))
    model = k.Model(x, k.layers.Dense(1)(inner(x)))
    model.compile("sgd", "mse")
    data = X.copy()
    data[11, 2] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(data, X[:, :1], epochs=2, verbose=0, callbacks=[BatchNormMonitor(k)])
    said = [str(one.message) for one in caught if one.category is BatchNormWarning]
    assert said == ["inner/bn: a moving statistic is NaN or infinite, and so is inference"]


def test_models_of_subclasses_are_watched_from_their_first_step(k: Any) -> None:
    class Subclassed(k.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = k.layers.BatchNormalization(name="norm")

        def call(self, inputs: Any, training: Any = None) -> Any:
            return self.norm(inputs, training=training)

    monitor = BatchNormMonitor(k)
    model = Subclassed()
    model.compile("sgd", "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, X, epochs=1, batch_size=10, verbose=0, callbacks=[monitor])
    (states,) = monitor.states.values()
    assert [state.share for state in states] == [0.99**6]


def test_a_model_of_the_other_keras_is_refused_with_what_to_write() -> None:
    monitor = BatchNormMonitor(loading.framework("keras"))
    other = loading.framework("tf_keras")
    with pytest.raises(TypeError, match=r"models of keras: use BatchNormMonitor\(keras="):
        _fit(other, [other.layers.Dense(1)], monitor)


def test_the_keras_at_hand_is_tf_keras_where_that_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    keras, other = loading.framework("keras"), loading.framework("tf_keras")
    assert isinstance(BatchNormMonitor(), other.callbacks.Callback)
    monkeypatch.delitem(sys.modules, "tf_keras")
    assert isinstance(BatchNormMonitor(), keras.callbacks.Callback)
    assert not isinstance(BatchNormMonitor(), other.callbacks.Callback)


def test_a_warning_is_about_the_line_that_called_fit(k: Any) -> None:
    model = k.Sequential([k.layers.Input((3,)), k.layers.BatchNormalization(), k.layers.Dense(1)])
    model.compile("sgd", "mse")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = sys._getframe().f_lineno + 1
        model.fit(X, X[:, :1], verbose=0, callbacks=[BatchNormMonitor(k)])
    (warning,) = (one for one in caught if one.category is BatchNormWarning)
    assert (warning.filename, warning.lineno) == (__file__, line)


def test_other_layers_with_moving_statistics_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from bninspect.runtimes.keras import matching

    strange = SimpleNamespace(path="x", layer=SimpleNamespace(moving_mean=1, moving_variance=1), parameters={})
    monkeypatch.setattr(matching, "batch_norms", lambda *_: (strange,))
    assert callbacks._norms(None) == {}
