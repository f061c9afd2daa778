"""The least that holding an export against its model can cost: load both, run both once; nothing compared."""

import sys
from pathlib import Path

import keras
import numpy as np

source, export = map(Path, sys.argv[1:])
model = keras.models.load_model(source)
batch = np.random.default_rng(0).standard_normal((1, *model.inputs[0].shape[1:]), dtype=np.float32)
print(np.asarray(model(batch, training=False)).sum())
if export.suffix == ".tflite":
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(export))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
    interpreter.invoke()
    print(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).sum())
else:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(export), providers=["CPUExecutionProvider"])
    print(session.run(None, {session.get_inputs()[0].name: batch})[0].sum())
