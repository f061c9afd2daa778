"""The script that people write today: a sub-model and a `predict` per batch norm, judged by `allclose`."""

import sys

import keras
import numpy as np

model = keras.models.load_model(sys.argv[1])
batch = np.random.default_rng(0).standard_normal((1, 224, 224, 3), dtype=np.float32)
for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        x, y = keras.Model(model.input, [layer.input, layer.output]).predict(batch, verbose=0)
        gamma, beta, mean, variance = layer.get_weights()
        expected = gamma * (x - mean) / np.sqrt(variance + layer.epsilon) + beta
        agrees = np.allclose(y, expected, rtol=1e-4, atol=1e-4)
        print(layer.name, "ok" if agrees else "MISMATCH", np.abs(y - expected).max())
