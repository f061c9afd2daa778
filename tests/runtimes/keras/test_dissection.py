"""Parts of a Keras model: each computes what the model computes, with the variables that it takes and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bninspect.runtimes import loading
from bninspect.runtimes.keras import dissection, keras3, symbolic_input

pytestmark = pytest.mark.tensorflow


def test_a_part_takes_its_own_variables_along_and_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    k = loading.framework("keras")
    x = k.Input((5, 3))
    first, second = k.layers.BatchNormalization(name="first"), k.layers.BatchNormalization(name="second")
    model = k.Model(x, k.layers.Dense(2)(second(k.layers.LSTM(4, return_sequences=True)(first(x)))))
    made: list[Any] = []
    original = dissection._part

    def part(*given: Any) -> Any:
        made.append(original(*given))
        return made[-1]

    monkeypatch.setattr(dissection, "_part", part)
    layers = {"first": first, "second": second}
    data = np.random.default_rng(0).standard_normal((2, 5, 3), np.float32)
    taken = symbolic_input.taken_by(model, k.layers.Embedding, "")
    apart = dissection.dissect(keras3.framework(), model, layers, taken, {taken[0].name: data})
    ends = {arriving.layer: arriving.x for arriving in apart.arriving}
    given = apart.feed({taken[0].name: data})
    found = apart.compute(given, [ends["second"]])[ends["second"]]
    lstm = model.layers[2]
    np.testing.assert_array_equal(found, lstm(first(data, training=False), training=False))
    assert len(made[0].captured_inputs) == len(first.weights) + len(lstm.weights)
