"""The converter of TensorFlow.js, from HDF5 of Keras to a layers model."""

from __future__ import annotations

from converter_cells import Cell


def _convert(cell: Cell) -> str:
    import tensorflowjs as tfjs

    if (path := cell.source / "model.h5").exists():
        import tf_keras

        model = tf_keras.models.load_model(path, compile=False)
    else:
        import keras

        model = keras.models.load_model(cell.source / "model.keras", compile=False)
    tfjs.converters.save_keras_model(model, str(cell.folder))
    return "model.json"


CONVERTERS = {"tfjs-layers": _convert}
