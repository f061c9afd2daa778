"""Export formats: each one is a function from a Checkpoint to bytes, and one line in `EXPORTERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bninspect.exporters import limits_of_formats
from bninspect.lazy import later
from bninspect.records import Checkpoint


class Encode(Protocol):
    """Turns a checkpoint into the content of a file."""

    def __call__(self, checkpoint: Checkpoint, *, folded: bool) -> bytes:
        """Return the parameters or, `folded`, a scale and a shift per channel. Raises as `entries.fold`."""


@dataclass(frozen=True)
class Exporter:
    """A format that parameters are written in."""

    name: str
    suffix: str
    title: str
    encode: Encode
    lacks: Callable[[Checkpoint], tuple[str, ...]] = limits_of_formats.none
    """What the format cannot hold of a checkpoint, in words."""


def _encoder(home: str) -> Encode:
    return later(f"{__name__}.{home}", "encode")


EXPORTERS: tuple[Exporter, ...] = (
    Exporter("npz", ".npz", "NumPy arrays", _encoder("npz")),
    Exporter("json", ".json", "JSON with exact numbers", _encoder("json_text")),
    Exporter("csv", ".csv", "a table, one row per layer and channel", _encoder("csv_table")),
    Exporter("safetensors", ".safetensors", "safetensors", _encoder("safetensors")),
    Exporter(
        "torch",
        ".safetensors",
        "a PyTorch state_dict as safetensors",
        _encoder("state_dict"),
        limits_of_formats.of_torch,
    ),
    Exporter(
        "torch-npz",
        ".npz",
        "a PyTorch state_dict as NumPy arrays",
        later(f"{__name__}.state_dict", "encode_npz"),
        limits_of_formats.of_torch,
    ),
    Exporter("onnx", ".onnx", "ONNX, a BatchNormalization per layer", _encoder("onnx"), limits_of_formats.of_onnx),
    Exporter(
        "tflite",
        ".tflite",
        "TFLite, scale and shift as MUL and ADD",
        _encoder("tflite"),
        limits_of_formats.several_axes,
    ),
    Exporter("c", ".h", "a C header", _encoder("c_header"), limits_of_formats.several_axes),
)
