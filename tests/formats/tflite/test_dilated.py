"""Convolutions with gaps that TensorFlow's converter spells out as space to batch and batch to space."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from bninspect import formats
from bninspect.records.graph import CONVOLUTION

tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")


@pytest.mark.parametrize(("side", "padding"), [(6, "same"), (7, "same"), (7, "valid")])
def test_the_three_are_one_convolution(tmp_path: Path, side: int, padding: str) -> None:
    import keras

    start = keras.Input((side, side, 3))
    model = keras.Model(start, keras.layers.Conv2D(4, 3, dilation_rate=2, padding=padding)(start))
    path = tmp_path / "dilated.tflite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    network = formats.read_network(path)
    (node,) = (one for one in network.nodes if one.kernel is not None)
    assert node.operation == CONVOLUTION
    assert node.geometry is not None
    assert node.geometry.dilation == (2, 2)
    assert not any("batch" in one.operation for one in network.nodes)
    padded = (2, 2) if padding == "same" else (0, 0)
    assert node.geometry.padding in {"same" if padding == "same" else (padded, padded), (padded, padded)}
    kernel = np.asarray(model.layers[-1].get_weights()[0])
    assert node.kernel is not None
    np.testing.assert_array_equal(node.kernel.weights.reshape(3, 3, 3, 4), kernel)
