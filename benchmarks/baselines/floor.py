"""The least that verifying can cost: import the framework, load the model, run it once; nothing compared."""

import sys

import keras
import numpy as np

model = keras.models.load_model(sys.argv[1])
batch = np.random.default_rng(0).standard_normal((1, 224, 224, 3), dtype=np.float32)
print(np.asarray(model(batch, training=False)).sum())
