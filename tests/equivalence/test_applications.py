"""Right exports of models of keras.applications, with random parameters: each of some fifty batch norms is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.exports import FORMATS, converted, counterparts, held, save, statuses

from bninspect.records import LayerStatus, Status

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("name", "count"), [("MobileNetV2", 52), ("ResNet50", 53)])
def test_models_of_keras(tmp_path: Path, name: str, count: int, form: str) -> None:
    import keras

    built = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=3)
    generator = np.random.default_rng(0)
    for layer in built.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.get_weights()[0].size
            spread = (
                generator.uniform(low, high, channels) for low, high in ((0.5, 1.5), (-0.4, 0.4), (-0.4, 0.4), (0.3, 2))
            )
            layer.set_weights(list(spread))
    model = held(save(built, tmp_path / "m.keras"), converted(built, tmp_path, form))
    assert len(counterparts(model)) == count
    assert set(statuses(model).values()) == {LayerStatus.VERIFIED}
    assert model.status is Status.PASS
    assert model.against is not None
    assert len(model.against.outputs) == 2
