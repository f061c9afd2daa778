"""pnnx, from a traced module to ncnn's param and bin, in float32 and in its default float16."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torch_patterns
from converter_cells import Cell


def _convert(cell: Cell) -> str:
    x = torch.from_numpy(np.load(cell.source / "expected.npz")["x"][:1])
    torch.jit.trace(torch_patterns.build(cell.pattern), x).save(str(cell.folder / "model.pt"))
    half = int(cell.converter.name == "pnnx-float16")
    shape = ",".join(map(str, x.shape))
    command = [str(Path(sys.executable).with_name("pnnx")), "model.pt", f"inputshape=[{shape}]", f"fp16={half}"]
    done = subprocess.run(command, cwd=cell.folder, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    if done.returncode:
        raise RuntimeError(f"pnnx exited with {done.returncode}: {done.stderr[-200:]}")
    if not (cell.folder / "model.ncnn.param").exists():
        raise RuntimeError("pnnx exited with 0 and wrote no model.ncnn.param")
    return "model.ncnn.param"


CONVERTERS = {"pnnx": _convert, "pnnx-float16": _convert}
