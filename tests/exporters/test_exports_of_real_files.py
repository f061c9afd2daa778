"""Exports of real models, read back through the one entrance that all files take."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bninspect import formats
from bninspect.exporters import EXPORTERS
from bninspect.records import BatchNorm

if TYPE_CHECKING:
    from pathlib import Path

FILES = (
    "face-classification/fer2013_mini_XCEPTION.102-0.66.hdf5",
    "mlperf-tiny/pretrainedResnet.h5",
    "writers/k315/nested.keras",
    "writers/k315/noscale.weights.h5",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_the_layers_of_the_export_are_those_of_the_model(
    shared_models: Path, tmp_path: Path, name: str, form: str
) -> None:
    model = formats.read(shared_models / name)
    (exporter,) = (exporter for exporter in EXPORTERS if exporter.name == form)
    (tmp_path / "export").write_bytes(exporter.encode(model, folded=False))
    export = formats.read(tmp_path / "export")
    assert (export.writer, export.notes) == (model.writer, model.notes)
    assert len(export.layers) == len(model.layers) > 0
    for stored, restored in zip(model.layers, export.layers, strict=True):
        for item in fields(BatchNorm):
            one, other = getattr(stored, item.name), getattr(restored, item.name)
            if isinstance(one, np.ndarray):
                np.testing.assert_array_equal(other, one, strict=True)
            else:
                assert other == one


def test_safetensors_of_torch_are_called_what_they_are(shared_models: Path) -> None:
    read = formats.read(shared_models / "torch" / "m.safetensors")
    assert read.layers
    assert {layer.epsilon for layer in read.layers} == {None}  # the file does not hold it
