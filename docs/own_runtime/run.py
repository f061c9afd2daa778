"""Feed every test vector to a program and collect what it returns: python run.py PROGRAM vectors.npz outputs.npz."""

import json
import subprocess
import sys

import numpy as np

program, source, target = sys.argv[1:]
vectors = np.load(source)
outputs = {}
for layer in json.loads(str(vectors["__vectors__"]))["layers"]:
    x = vectors[f"{layer['key']}/x"]
    (axis,) = layer["axis"]
    inner = np.ascontiguousarray(np.moveaxis(x, axis, -1))  # the program has the channels innermost
    answer = subprocess.run([program, layer["name"]], input=inner.tobytes(), capture_output=True, check=True).stdout
    y = np.frombuffer(answer, np.float32).reshape(inner.shape)
    outputs[f"{layer['key']}/y"] = np.moveaxis(y, -1, axis)
    outputs[f"{layer['key']}/x"] = x  # so that nobody takes them for the outputs of other vectors
np.savez(target, **outputs)
