"""litert-torch, from a module to TFLite."""

from __future__ import annotations

import litert_torch
import numpy as np
import torch
import torch_patterns
from converter_cells import Cell


def _convert(cell: Cell) -> str:
    x = torch.from_numpy(np.load(cell.source / "expected.npz")["x"][:1])
    litert_torch.convert(torch_patterns.build(cell.pattern), (x,)).export(str(cell.folder / "model.tflite"))
    return "model.tflite"


CONVERTERS = {"litert-torch": _convert}
