"""Runs what converters wrote, each file in its own runtime, and compares the outputs with those of the model.

    python converter_runs.py CACHE RUNTIME

Started by converters.py in the environment of the runtime. Nothing of bninspect takes part: an output is right if it is
as near to the model's as the roundings of its kind bring it, eight times what the largest of four random roundings of
every stored number changed, and four units of the largest output. A quantised file that is not gets the same inputs
halved as well: its ranges were chosen by calibration, and may cut off the largest of the very inputs that it was given.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from converter_cells import Cell, cells, shortened
from converter_list import RUNS_IN
from converter_patterns import BY_NAME, UNITS
from converter_sources import HALVED, MEDIAN

SPREADS, LARGEST = 8, 4
Run = Callable[[Any], Any]
"""From one sample with its batch axis to the output."""


def litert(path: Path) -> Run:
    """Return what runs a TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(entry["index"], [1, *entry["shape"][1:]])
    interpreter.allocate_tensors()

    def run(x: Any) -> Any:
        interpreter.set_tensor(entry["index"], fitted(x, entry["shape"]))
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run


def onnxruntime(path: Path) -> Run:
    """Return what runs an ONNX file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]


def savedmodel(path: Path) -> Run:
    """Return what runs a SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda x: np.asarray(loaded.serve(x))


def torch(path: Path) -> Run:
    """Return what runs TorchScript and exported programs."""
    import torch as framework

    is_program = path.suffix == ".pt2"
    module = framework.export.load(path).module() if is_program else framework.jit.load(str(path))
    return lambda x: module(framework.from_numpy(x)).detach().numpy()


def openvino(path: Path) -> Run:
    """Return what runs an IR, in float32 whatever the processor would rather do."""
    import openvino as ov

    compiled = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: compiled(x)[0]


def ncnn(path: Path) -> Run:
    """Return what runs ncnn's param and bin, in float32."""
    import ncnn as framework

    net = framework.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = net.opt.use_vulkan_compute = False
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise RuntimeError("ncnn does not load what pnnx wrote")

    def run(x: Any) -> Any:
        extractor = net.create_extractor()
        # A copy: a first layer that works in place would write into the array.
        extractor.input(net.input_names()[0], framework.Mat(np.ascontiguousarray(x[0])).clone())
        code, y = extractor.extract(net.output_names()[0])
        if code:
            raise RuntimeError(f"ncnn returned {code}")
        return np.array(y)[None]

    return run


RUNTIMES: dict[str, Callable[[Path], Run]] = {
    "litert": litert,
    "onnxruntime": onnxruntime,
    "savedmodel": savedmodel,
    "torch": torch,
    "openvino": openvino,
    "ncnn": ncnn,
}


def fitted(x: Any, shape: Any) -> Any:
    """Return an array with its channels behind, if that is the shape that is asked for, as it is otherwise."""
    moved = np.moveaxis(x, 1, -1)
    fits = tuple(x.shape[1:]) == tuple(shape[1:])
    return np.ascontiguousarray(moved) if not fits and tuple(moved.shape[1:]) == tuple(shape[1:]) else x


def compared(y: Any, expected: Any, allowed: float, typical: float) -> dict[str, Any]:
    """Return the largest difference of outputs, as such and as a part of what is allowed.

    Where a model rounds to steps, a number near the middle between two of them may fall to either: few of the outputs
    may be off by that, and the median by `typical` alone.

    An output is compared with its channels moved to the front as well, if it has the model's shape then; the nearer of
    the two counts, and which it is.
    """
    ways = {"as the model's": y} | ({"channels last": np.moveaxis(y, -1, 1)} if y.ndim > 2 else {})
    fit = {layout: way.astype(np.float64) for layout, way in ways.items() if way.shape == expected.shape}
    if not fit:
        return {"error": f"returns the shape {list(y.shape)} for {list(expected.shape)}"}
    offs = {layout: np.abs(way - expected) for layout, way in fit.items()}
    worsts = {
        layout: float(off.max()) if bool(np.isfinite(off).all()) else float("inf") for layout, off in offs.items()
    }
    layout, worst = min(worsts.items(), key=lambda item: item[1])
    ratio = max(worst / allowed, float(np.median(offs[layout])) / typical)
    return {"off": worst, "allowed": allowed, "ratio": ratio, "right": ratio <= 1, "layout": layout}


def rounded(path: Path) -> str:
    """Return to what a file says itself that it rounds weights, whatever its converter was asked for.

    ONNX Runtime's optimiser writes weights of 8 bits into the files of models that quantise what flows.
    """
    if path.suffix != ".onnx":
        return "float32"
    import onnx

    graph = onnx.load(path).graph
    whole = {one.name for one in graph.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1}
    return (
        "int8" if any(one.op_type == "DequantizeLinear" and one.input[0] in whole for one in graph.node) else "float32"
    )


def measured(run: Run, x: Any, known: Any, ending: str, kinds: tuple[str, str], own: str) -> dict[str, Any]:
    """Return how outputs compare with what is known of the model for these inputs.

    Args:
        run: the file.
        x: the inputs.
        known: the arrays of converter_sources.py.
        ending: of the names of those for these inputs.
        kinds: the coarsest rounding of file and model, and that of the file.
        own: the rounding of the model itself.
    """
    expected = known[f"y{ending}"]
    largest = float(np.abs(expected).max())
    kind, stated = kinds
    allowed = SPREADS * float(known[f"{kind}{ending}"]) + LARGEST * UNITS[kind] * largest
    typical = SPREADS * float(known[f"{stated}{MEDIAN}{ending}"]) + LARGEST * UNITS[stated] * largest
    y = np.concatenate([run(sample[None]) for sample in x])
    return compared(y, expected, allowed, typical if own == "int8" != stated else allowed)


def judge(cell: Cell, name: str, start: Callable[[Path], Run]) -> None:
    """Run one file and keep what came of it."""
    if cell.told("outputs"):
        return
    cell.tell("outputs", error="the process ended")
    known = np.load(cell.source / "expected.npz")
    stated = max(cell.converter.kind, rounded(cell.folder / name), key=UNITS.__getitem__)
    kind = max(stated, BY_NAME[cell.pattern].kind, key=UNITS.__getitem__)
    try:
        run = start(cell.folder / name)
        found = measured(run, known["x"], known, "", (kind, stated), BY_NAME[cell.pattern].kind)
        if stated == "int8" and not found.get("right"):
            halved = (known["x"] / 2).astype(known["x"].dtype)
            again = measured(run, halved, known, HALVED, (kind, stated), BY_NAME[cell.pattern].kind)
            found["halved"] = again.get("ratio")
        cell.tell("outputs", **found)
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises is what it says
        cell.tell("outputs", error=shortened(f"{type(error).__name__}: {error}"))


def main() -> None:
    """Run every file that the runtime is for."""
    cache, runtime = Path(sys.argv[1]), sys.argv[2]
    warnings.simplefilter("ignore")
    for cell in cells(cache):
        name = cell.told("conversion").get("file")
        if cell.converter.runtime == runtime and name:
            judge(cell, name, RUNTIMES[runtime])


if __name__ == "__main__":
    assert set(RUNTIMES) == set(RUNS_IN)
    main()
