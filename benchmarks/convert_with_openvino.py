"""OpenVINO's conversion of SavedModels and modules, in float32 and float16, and NNCF's quantisation to int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from converter_cells import Cell

NAME = "model.xml"


def _converted(cell: Cell) -> Any:
    x = np.load(cell.source / "expected.npz")["x"][:1]
    if cell.family == "keras":
        return openvino.convert_model(str(cell.source / "saved_model"))
    import torch
    import torch_patterns

    example = torch.from_numpy(x)
    return openvino.convert_model(torch_patterns.build(cell.pattern), example_input=example, input=list(x.shape))


def _convert(cell: Cell) -> str:
    half = cell.converter.name == "openvino-float16"
    openvino.save_model(_converted(cell), str(cell.folder / NAME), compress_to_fp16=half)
    return NAME


def _quantize(cell: Cell) -> str:
    import nncf

    every = np.load(cell.source / "expected.npz")["every"]
    dataset = nncf.Dataset([sample[None] for sample in every])
    quantized = nncf.quantize(_converted(cell), dataset, subset_size=len(every))
    openvino.save_model(quantized, str(cell.folder / NAME), compress_to_fp16=False)
    return NAME


CONVERTERS = {"openvino": _convert, "openvino-float16": _convert, "openvino-int8": _quantize}
