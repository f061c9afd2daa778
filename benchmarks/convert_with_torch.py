"""PyTorch's own ways: two exporters to ONNX, the fusion of torch.fx, and TorchScript frozen and optimised."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch_patterns
from converter_cells import Cell


def _module(cell: Cell) -> tuple[Any, Any]:
    """Return the module and one sample of input."""
    return torch_patterns.build(cell.pattern), torch.from_numpy(np.load(cell.source / "expected.npz")["x"][:1])


def _plain(cell: Cell) -> str:
    """Write ONNX with every batch norm left as it is: what the tools that take ONNX are given."""
    module, x = _module(cell)
    how: dict[str, Any] = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    torch.onnx.export(module, (x,), str(cell.folder / "model.onnx"), dynamo=False, input_names=["x"], **how)
    return "model.onnx"


def _old(cell: Cell) -> str:
    module, x = _module(cell)
    torch.onnx.export(module, (x,), str(cell.folder / "model.onnx"), dynamo=False, input_names=["x"])
    return "model.onnx"


def _new(cell: Cell) -> str:
    module, x = _module(cell)
    path = cell.folder / "model.onnx"
    torch.onnx.export(module, (x,), str(path), dynamo=True, input_names=["x"], external_data=False, verbose=False)
    return path.name


def _fuse(cell: Cell) -> str:
    from torch.fx.experimental.optimization import fuse

    module, x = _module(cell)
    torch.export.save(torch.export.export(fuse(module), (x,)), cell.folder / "model.pt2")
    return "model.pt2"


def _freeze(cell: Cell) -> str:
    module, x = _module(cell)
    torch.jit.freeze(torch.jit.trace(module, x)).save(str(cell.folder / "model.pt"))
    return "model.pt"


def _optimize(cell: Cell) -> str:
    module, x = _module(cell)
    torch.jit.optimize_for_inference(torch.jit.trace(module, x)).save(str(cell.folder / "model.pt"))
    return "model.pt"


CONVERTERS = {
    "torch-onnx-plain": _plain,
    "torch-onnx-old": _old,
    "torch-onnx-new": _new,
    "torch-fx-fuse": _fuse,
    "torch-jit-freeze": _freeze,
    "torch-jit-optimize": _optimize,
}
