"""Small models of every format whose models are several files, each in a folder of its own."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from helpers import ncnn_files, onnx_files, tensorflow_files
from helpers.tensorflow_files import message, node, tensor_info, write_bundle

GENERATOR = np.random.default_rng(17)
NAMES = ("gamma", "beta", "moving_mean", "moving_variance")
WEIGHTS = "weights #1.bin"
ARRAYS = {name: GENERATOR.uniform(0.5, 2, 3).astype(np.float32) for name in NAMES}


def ncnn(folder: Path) -> Path:
    """Write `.param` and `.bin`."""
    return ncnn_files.write(folder)


def darknet(folder: Path) -> Path:
    """Write `.cfg` and `.weights`, whose name a URL must escape."""
    section = (
        "[net]\nheight=4\nwidth=4\nchannels=1\n\n[convolutional]\nbatch_normalize=1\nfilters=3\nsize=1\nstride=1\n"
    )
    (folder / "a b.cfg").write_text(section)
    numbers = [ARRAYS[name] for name in ("beta", "gamma", "moving_mean", "moving_variance")]
    head = struct.pack("<iii", 0, 2, 5) + struct.pack("<Q", 1)
    (folder / "a b.weights").write_bytes(head + np.concatenate([*numbers, np.ones(3, np.float32)]).tobytes())
    return folder / "a b.weights"


def openvino(folder: Path) -> Path:
    """Write `.xml` and `.bin`."""
    layers, start = [], 0
    edges = ""
    for number, name in enumerate(("x", *NAMES)):
        dims = "<dim>1</dim><dim>3</dim><dim>2</dim><dim>2</dim>" if name == "x" else "<dim>3</dim>"
        kind, data = "Parameter", 'shape="1,3,2,2" element_type="f32"'
        if name != "x":
            kind, data = "Const", f'element_type="f32" shape="3" offset="{start}" size="12"'
            start += 12
        layers.append(
            f'<layer id="{number}" name="{name}" type="{kind}" version="opset1"><data {data}/>'
            f'<output><port id="0" precision="FP32">{dims}</port></output></layer>'
        )
        edges += f'<edge from-layer="{number}" from-port="0" to-layer="5" to-port="{number}"/>'
    whole = "<dim>1</dim><dim>3</dim><dim>2</dim><dim>2</dim>"
    ports = "".join(f'<port id="{n}" precision="FP32">{"<dim>3</dim>" if n else whole}</port>' for n in range(5))
    layers.append(
        '<layer id="5" name="norm" type="BatchNormInference" version="opset5"><data epsilon="0.25"/>'
        f'<input>{ports}</input><output><port id="5" precision="FP32">{whole}</port></output></layer>'
        f'<layer id="6" name="end" type="Result" version="opset1"><input><port id="0">{whole}</port></input></layer>'
    )
    edges += '<edge from-layer="5" from-port="5" to-layer="6" to-port="0"/>'
    text = f'<net name="n" version="11"><layers>{"".join(layers)}</layers><edges>{edges}</edges></net>'
    (folder / "m.xml").write_text(f'<?xml version="1.0"?>\n{text}')
    (folder / "m.bin").write_bytes(b"".join(array.tobytes() for array in ARRAYS.values()))
    return folder / "m.xml"


def onnx(folder: Path, location: str = WEIGHTS) -> Path:
    """Write a model with external data of that name."""
    places = enumerate(ARRAYS.items())
    tensors = [
        onnx_files.tensor(name, array, {"location": location, "offset": str(12 * n), "length": "12"})
        for n, (name, array) in places
    ]
    operation = onnx_files.node("BatchNormalization", ["x", *NAMES], ["y"], "bn")
    (folder / "m.onnx").write_bytes(onnx_files.model(onnx_files.graph([operation], {}, tensors=tensors)))
    if location == WEIGHTS:
        (folder / location).write_bytes(b"".join(array.tobytes() for array in ARRAYS.values()))
    return folder / "m.onnx"


def tensorflowjs(folder: Path, second: str = "shard2of2.bin") -> Path:
    """Write `model.json` and two shards."""
    layer = {"class_name": "BatchNormalization", "config": {"name": "bn", "axis": -1, "epsilon": 0.25, "momentum": 0.9}}
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}
    weights = [{"name": f"bn/{name}", "shape": [3], "dtype": "float32"} for name in NAMES]
    content = {
        "format": "layers-model",
        "modelTopology": {"keras_version": "2.15.0", "model_config": config},
        "weightsManifest": [{"paths": ["shard1of2.bin", second], "weights": weights}],
    }
    data = b"".join(array.tobytes() for array in ARRAYS.values())
    (folder / "shard1of2.bin").write_bytes(data[:20])
    (folder / "shard2of2.bin").write_bytes(data[20:])
    (folder / "model.json").write_text(json.dumps(content))
    return folder / "model.json"


def checkpoint(folder: Path) -> Path:
    """Write an index and a data file in which a kernel takes most of the bytes."""
    arrays = {f"bn/{name}": array for name, array in ARRAYS.items()}
    return write_bundle(folder / "ck", {**arrays, "a/kernel": np.ones((200, 1000), np.float32)}).with_name("ck.index")


def saved_model(folder: Path) -> Path:
    """Write a graph that restores its variables from the checkpoint in the folder of a SavedModel."""
    float32 = np.dtype("float32")

    def texts(name: str, *values: str) -> bytes:
        proto = message((1, 7), (2, message((2, message((1, len(values)))))), *((8, value) for value in values))
        return message((1, name), (2, "Const"), (5, message((1, "value"), (2, message((8, proto))))))

    variables = [
        (
            node(name, "VarHandleOp"),
            node(f"{name}/read", "ReadVariableOp", name),
            node(f"{name}/assign", "AssignVariableOp", name, f"restore:{number}" if number else "restore"),
        )
        for number, name in enumerate(NAMES)
    ]
    nodes = (
        node("file", "Placeholder", dtype=float32),
        node("x", "Placeholder", dtype=float32),
        texts("names", *NAMES),
        texts("parts", *([""] * len(NAMES))),
        node("restore", "RestoreV2", "file", "names", "parts"),
        *(one for each in variables for one in each),
        node("all", "NoOp", *(f"^{name}/assign" for name in NAMES)),
        node(
            "y",
            "FusedBatchNormV3",
            "x",
            *(f"{name}/read" for name in NAMES),
            T=float32,
            is_training=False,
            epsilon=0.25,
        ),
    )
    output = message((1, "serving_default"), (2, message((2, message((1, "y"), (2, tensor_info("y:0")))))))
    meta = message(
        (1, message((4, "serve"))),
        (2, tensorflow_files.graph(*nodes)),
        (3, message((1, "file:0"), (3, "all"))),
        (5, output),
    )
    (folder / "saved_model.pb").write_bytes(message((1, 1), (2, meta)))
    (folder / "variables").mkdir()
    write_bundle(folder / "variables" / "variables", {**ARRAYS})
    return folder / "saved_model.pb"


FORMATS: tuple[Callable[[Path], Path], ...] = (ncnn, darknet, openvino, onnx, tensorflowjs, checkpoint, saved_model)
