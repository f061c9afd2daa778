"""ncnn files for tests: one that is written here by what its loaders read, and those that pnnx makes."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PARAM = """7767517
5 5
Input            data   0 1 data 0=5 1=5 2=2
Convolution      conv   1 1 data c 0=4 1=3 11=3 4=1 5=1 6=72 9=3 -23310=2,0.0,6.0
BatchNorm        norm   1 1 c n 0=4 1=2.500000e-1
InnerProduct     dense  1 1 n d 0=2 1=1 2=200
Softmax          end    1 1 d out 0=0 1=1
"""
GENERATOR = np.random.default_rng(21)
KERNEL = GENERATOR.normal(size=(4, 2, 3, 3)).astype(np.float32)
BIAS = GENERATOR.normal(size=4).astype(np.float32)
PARAMETERS = {
    name: GENERATOR.uniform(0.5, 2, 4).astype(np.float32)
    for name in ("gamma", "moving_mean", "moving_variance", "beta")
}
DENSE = GENERATOR.normal(size=(2, 100)).astype(np.float32)


def weights() -> bytes:
    """Return the `.bin` of PARAM: float32 behind a tag, bias and batch norm without one, the dense layer in float16."""
    first = struct.pack("<I", 0) + KERNEL.tobytes() + BIAS.tobytes()
    norm = b"".join(array.tobytes() for array in PARAMETERS.values())
    last = struct.pack("<I", 0x01306B47) + DENSE.astype(np.float16).tobytes() + BIAS[:2].tobytes()
    return first + norm + last


def write(folder: Path) -> Path:
    """Write both files."""
    (folder / "m.param").write_text(PARAM)
    (folder / "m.bin").write_bytes(weights())
    return folder / "m.param"


def torch_model() -> Any:
    """Return a model with batch norms that are folded and that are not, with random parameters."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")
    nn = torch.nn
    torch.manual_seed(5)
    built = nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.BatchNorm2d(8, eps=1e-3),
        nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
    ).eval()
    for one in built.modules():
        if isinstance(one, nn.BatchNorm2d):
            nn.init.uniform_(one.weight, 0.5, 1.5)
            nn.init.normal_(one.bias)
            nn.init.normal_(one.running_mean)
            nn.init.uniform_(one.running_var, 0.001, 2)
    return built


def convert(built: Any, folder: Path, **options: Any) -> tuple[Path, Path]:
    """Return a torch model as torch.export saves it, and as pnnx converts it."""
    import torch

    pytest.importorskip("pnnx", reason="pnnx is not installed: pip install pnnx")
    example = (torch.randn(1, 3, 16, 16),)
    torch.export.save(torch.export.export(built, example), folder / "m.pt2")
    torch.jit.trace(built, example).save(str(folder / "m.pt"))
    told = ["inputshape=[1,3,16,16]", *(f"{name}={value}" for name, value in options.items())]
    program = [sys.executable, "-c", "import pnnx; pnnx.pnnx()", str(folder / "m.pt"), *told]
    subprocess.run(program, cwd=folder, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return folder / "m.pt2", folder / "m.ncnn.param"
