"""onnx2tf, from ONNX to TFLite in float32 and float16."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace

import numpy as np
import onnx2tf
from converter_cells import Cell
from converter_list import BY_NAME

IMAGES = "calibration_image_sample_data_20x128x128x3_float32.npy"
"""Pictures that it would fetch from its home page, unless they lie in the working folder."""


def _beside(cell: Cell) -> str:
    """Take the file of halves that the conversion to float32 has written as well; convert where it has not."""
    other = replace(cell, converter=BY_NAME["onnx2tf"])
    halves = sorted(other.folder.glob("*_float16.tflite")) if "file" in other.told("conversion") else []
    if not halves:
        return _convert(cell)
    shutil.copy(halves[0], cell.folder)
    return halves[0].name


def _convert(cell: Cell) -> str:
    numbers = np.random.default_rng(0)
    np.save(cell.folder / IMAGES, numbers.uniform(0, 1, (20, 128, 128, 3)).astype(np.float32))
    try:
        with contextlib.chdir(cell.folder):
            return _converted(cell)
    finally:
        (cell.folder / IMAGES).unlink()


def _converted(cell: Cell) -> str:
    onnx2tf.convert(
        input_onnx_file_path=str(cell.taken),
        output_folder_path=str(cell.folder),
        not_use_onnxsim=True,  # another converter, which has a column of its own
        non_verbose=True,
    )
    kind = "float16" if cell.converter.name.endswith("float16") else "float32"
    return next(path.name for path in sorted(cell.folder.glob(f"*_{kind}.tflite")))


CONVERTERS = {"onnx2tf": _convert, "onnx2tf-float16": _beside}
