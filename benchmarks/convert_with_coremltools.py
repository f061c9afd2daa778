"""coremltools, from a traced module to an ML program, which nothing but macOS runs."""

from __future__ import annotations

import coremltools
import numpy as np
import torch
import torch_patterns
from converter_cells import Cell


def _convert(cell: Cell) -> str:
    x = torch.from_numpy(np.load(cell.source / "expected.npz")["x"][:1])
    traced = torch.jit.trace(torch_patterns.build(cell.pattern), x)
    taken = [coremltools.TensorType(name="x", shape=tuple(x.shape))]
    model = coremltools.convert(traced, inputs=taken, convert_to="mlprogram", skip_model_load=True)
    model.save(str(cell.folder / "model.mlpackage"))
    return "model.mlpackage"


CONVERTERS = {"coreml": _convert}
