"""A model that is run again without the calls that nobody needs returns what it returns with all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from bninspect.records import Array
from bninspect.runtimes import loading
from bninspect.runtimes.keras import tracing
from bninspect.runtimes.keras.idle_calls import SkippableCalls

pytestmark = pytest.mark.tensorflow


def _model(k: Any, *, own: bool) -> Any:
    """Return a model with branches, a nested model that is called twice, and values that pass through layers."""

    class Twice(k.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x * 2

    layers = k.layers
    inner_x = k.Input((6, 6, 4))
    inner = k.Model(inner_x, layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(inner_x))))
    x = k.Input((6, 6, 4))
    first = inner(layers.Conv2D(4, 1, activation="relu")(x))
    second = layers.SeparableConv2D(4, 3, padding="same")(layers.Dropout(0.5)(inner(first)))
    joined = layers.Add()([first, Twice()(second) if own else second])
    return k.Model(x, [layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(joined)), second])


def _values(trace: tracing.Trace, k: Any, forced: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
    with tracing.traced(trace, k):
        return trace.replay(None, forced, wanted)


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
@pytest.mark.parametrize("own", [True, False])
def test_what_is_wanted_is_the_same_without_the_calls_that_nobody_needs(
    package: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    k = loading.framework(package)
    k.utils.set_random_seed(3)
    model, trace = _model(k, own=own), tracing.Trace()
    data = np.random.default_rng(1).standard_normal((2, 6, 6, 4), np.float32)
    with tracing.traced(trace, k):
        model(data, training=False)
    labels = [label for node in trace.network().nodes for label in node.outputs]
    labels = [label for label in labels if label.startswith("value") and "between" not in label]
    every = _values(trace, k, {}, [*labels, "output 0", "output 1"])
    assert every.keys() == {*labels, "output 0", "output 1"}
    left_out = 0
    for seed in range(8):
        generator = np.random.default_rng(seed)
        forced = {label: every[label] + np.float32(1) for label in labels if generator.random() < 0.5}
        wanted = [label for label in every if generator.random() < 0.25]
        found = _values(trace, k, forced, wanted)
        left_out += len(trace._calls.idle)
        with monkeypatch.context() as patched:
            patched.setattr(SkippableCalls, "_left_out", lambda *_: {})
            whole = _values(trace, k, forced, wanted)
        assert found.keys() == whole.keys() == set(wanted)
        for label, values in whole.items():
            np.testing.assert_array_equal(found[label], values)
    assert (left_out == 0) is own  # nobody knows what else a layer of a user's looks at
