"""Activations are what NumPy says, widen errors as stated, and kernels are as close to them as stated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import kernel_runs
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.kernels import NONE, Activation, activate, activated_bound
from bninspect.errors import BninspectError

CLIP, TANH = Activation("clip", -1.5, 2.5), Activation("tanh")


@given(st.sampled_from([NONE, CLIP, TANH]), st.floats(-12, 12), st.floats(1e-6, 2))
@settings(max_examples=300, deadline=None)
def test_an_error_is_widened_by_no_more_than_stated(activation: Activation, z: float, off: float) -> None:
    centre, ends = np.array([z]), np.array([z - off, z + off])
    bound = activated_bound(activation, centre, np.array([off]))
    moved = np.abs(activate(activation, ends) - activate(activation, centre))
    assert (moved <= bound * (1 + 1e-9)).all()


def _runs(z: Any) -> Iterator[tuple[str, Any]]:
    import tensorflow as tf
    import torch

    yield "torch", torch.tanh(torch.from_numpy(z)).numpy()
    yield "ONNX Runtime", kernel_runs.onnx_run([kernel_runs.onnx_node("Tanh", ["x"])], {"x": z}, {})
    model = kernel_runs.litert_model(tf.tanh, z.shape)
    yield "LiteRT", kernel_runs.litert_run(model, z)
    yield "XNNPACK", kernel_runs.litert_run(model, z, xnnpack=True)


@pytest.mark.tensorflow
def test_kernels_are_as_close_as_stated() -> None:
    rng = np.random.default_rng(0)
    small = 10 ** rng.uniform(-30, 2.2, 30000) * rng.choice([-1, 1], 30000)
    z = np.concatenate([np.linspace(-30, 30, 60001), small, rng.uniform(-4, 4, 30000)]).astype(np.float32)
    wide = z.astype(np.float64)
    y = np.tanh(wide)
    bound = activated_bound(TANH, wide, np.zeros_like(wide), y=y)
    for run, actual in _runs(z):
        worst = float((np.abs(actual - y) / bound).max())
        print(f"\ntanh {run:14} {worst:.3f}", end="")
        assert 0.02 < worst <= 1.0
    # Something else is beyond the bound: float16 in between.
    assert (np.abs(np.tanh(z.astype(np.float16).astype(float)) - y) > bound).any()


def test_what_has_no_bound_keeps_none_and_no_other_activation_is_known() -> None:
    assert activate(CLIP, np.array([-3.0, 1.0, 3.0])).tolist() == [-1.5, 1.0, 2.5]
    for activation in (TANH, CLIP):
        assert np.isnan(activated_bound(activation, np.zeros(1), np.full(1, np.nan))).all()
    with pytest.raises(BninspectError):
        Activation("sine")
