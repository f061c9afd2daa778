"""What reading costs through the framework: import it and load the whole model. Argument: the model file."""

import sys

import keras

model = keras.models.load_model(sys.argv[1])
layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
print(len(layers), sum(float(array.sum()) for layer in layers for array in layer.get_weights()))
