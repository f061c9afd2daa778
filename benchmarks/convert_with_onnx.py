"""What takes ONNX and writes better ONNX: simplifiers, ONNX Runtime's optimiser and its quantisers."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import onnx
from converter_cells import Cell

NAME = "model.onnx"


def _simplify(cell: Cell) -> str:
    import onnxsim

    model, checked = onnxsim.simplify(onnx.load(cell.taken))
    if not checked:
        raise ValueError("its own check of the result failed")
    onnx.save(model, cell.folder / NAME)
    return NAME


def _slim(cell: Cell) -> str:
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(cell.taken)), cell.folder / NAME)
    return NAME


def _optimize(cell: Cell) -> str:
    import onnxoptimizer

    passes = onnxoptimizer.get_fuse_and_elimination_passes()
    onnx.save(onnxoptimizer.optimize(onnx.load(cell.taken), passes), cell.folder / NAME)
    return NAME


def _script(cell: Cell) -> str:
    from onnxscript import optimizer, rewriter

    model = optimizer.optimize(onnx.load(cell.taken))
    onnx.save(rewriter.rewrite(model), cell.folder / NAME)
    return NAME


def _runtime(cell: Cell) -> str:
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = {
        "ort-basic": levels.ORT_ENABLE_BASIC,
        "ort-extended": levels.ORT_ENABLE_EXTENDED,
        "ort-all": levels.ORT_ENABLE_ALL,
    }[cell.converter.name]
    options.optimized_model_filepath = str(cell.folder / NAME)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(cell.taken), options, providers=["CPUExecutionProvider"])
    return NAME


def _prepared(cell: Cell) -> str:
    """Write what ONNX Runtime asks to be done before quantisation, and return its path."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = cell.folder / "prepared.onnx"
    with contextlib.chdir(cell.folder):  # it leaves a file in the working folder
        quant_pre_process(str(cell.taken), str(path))
    return str(path)


def _dynamic(cell: Cell) -> str:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(_prepared(cell), str(cell.folder / NAME), per_channel=True)
    return NAME


def _static(cell: Cell) -> str:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    every = np.load(cell.source / "expected.npz")["every"]
    name = onnx.load(cell.taken).graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is Any to mypy
        def __init__(self) -> None:
            self.left = iter(every)

        def get_next(self) -> dict[str, Any] | None:
            return next(({name: sample[None]} for sample in self.left), None)

    form = QuantFormat.QDQ if cell.converter.name == "ort-qdq" else QuantFormat.QOperator
    how: dict[str, Any] = {"per_channel": True, "weight_type": QuantType.QInt8}
    quantize_static(_prepared(cell), str(cell.folder / NAME), Reader(), quant_format=form, **how)
    return NAME


CONVERTERS = {
    "onnxsim": _simplify,
    "onnxslim": _slim,
    "onnxoptimizer": _optimize,
    "onnxscript": _script,
    "ort-basic": _runtime,
    "ort-extended": _runtime,
    "ort-all": _runtime,
    "ort-dynamic": _dynamic,
    "ort-qdq": _static,
    "ort-qoperator": _static,
}
