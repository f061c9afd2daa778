"""What is said of an export that cannot hold all that is known of its layers."""

from __future__ import annotations

import numpy as np
import pytest

from bninspect.exporters import EXPORTERS
from bninspect.records import BatchNorm, Checkpoint

LACKS = {exporter.name: exporter.lacks for exporter in EXPORTERS}


def _lacks(form: str, *axes: tuple[int, ...], epsilons: tuple[float | None, ...] = (1e-5,)) -> str:
    two = np.ones(2, np.float32)
    layers = tuple(
        BatchNorm(f"bn{place}", two, two, two, two, epsilon=epsilons[place % len(epsilons)], axis=axis)
        for place, axis in enumerate(axes)
    )
    return " / ".join(LACKS[form](Checkpoint("m.h5", "keras-h5", "", layers)))


@pytest.mark.parametrize("form", ["torch", "torch-npz"])
def test_torch_has_no_epsilon_and_another_default(form: str) -> None:
    assert "eps=0.001, the default of torch is 1e-05" in _lacks(form, (1,), epsilons=(1e-3,))
    assert "the eps of each" in _lacks(form, (1,), (1,), epsilons=(1e-3, 1e-5))
    assert _lacks(form, (1,), (1,), epsilons=(1e-5, None)) == ""


def test_onnx_has_no_axis() -> None:
    assert "the model has those of bn0 and 1 more along -1, 3" in _lacks("onnx", (-1,), (3,), (1,))
    assert _lacks("onnx", (1,), (1,)) == ""


@pytest.mark.parametrize("form", ["torch", "onnx", "c", "tflite"])
def test_several_axes_are_one_there(form: str) -> None:
    assert "bn0 normalises over axes 1, 3: move them together" in _lacks(form, (1, 3))


@pytest.mark.parametrize("form", ["npz", "json", "csv", "safetensors"])
def test_our_own_hold_everything(form: str) -> None:
    assert _lacks(form, (1, 3), (-1,), epsilons=(1e-3,)) == ""
