"""Activations are what mpmath says, widen errors as stated, and kernels are as close to them as stated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import kernel_runs
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.kernels import Activation, activate, activated_bound
from bninspect.arithmetic.kernels.activation import KINDS
from bninspect.errors import BninspectError

ALPHA, SIXTH = float(np.float32(0.3)), float(np.float32(1 / 6))
EVERY = {
    kind: Activation(kind, low=-1.5, high=2.5, alpha={"elu": 1.0, "hard_sigmoid": SIXTH}.get(kind, ALPHA), beta=0.5)
    for kind in KINDS
}


def _mp(kind: str, of: Activation, z: Any) -> Any:
    import mpmath as mp

    sigmoid, softplus = 1 / (1 + mp.exp(-z)), mp.log(1 + mp.exp(z))
    gate = mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3)
    cases: dict[str, Callable[[], Any]] = {
        "none": lambda: z,
        "relu": lambda: max(z, mp.mpf(0)),
        "relu6": lambda: min(max(z, mp.mpf(0)), mp.mpf(6)),
        "relu_n1_to_1": lambda: min(max(z, mp.mpf(-1)), mp.mpf(1)),
        "relu_0_to_1": lambda: min(max(z, mp.mpf(0)), mp.mpf(1)),
        "clip": lambda: min(max(z, mp.mpf(-1.5)), mp.mpf(2.5)),
        "leaky_relu": lambda: z if z > 0 else of.alpha * z,
        "sigmoid": lambda: sigmoid,
        "tanh": lambda: mp.tanh(z),
        "hard_sigmoid": lambda: min(max(of.alpha * z + of.beta, mp.mpf(0)), mp.mpf(1)),
        "hard_swish": lambda: z * min(max(z + 3, mp.mpf(0)), mp.mpf(6)) / 6,
        "swish": lambda: z * sigmoid,
        "gelu": lambda: z * (1 + mp.erf(z / mp.sqrt(2))) / 2,
        "gelu_tanh": lambda: z * (1 + mp.tanh(gate)) / 2,
        "elu": lambda: z if z > 0 else of.alpha * (mp.exp(z) - 1),
        "softplus": lambda: softplus,
        "softsign": lambda: z / (1 + abs(z)),
        "mish": lambda: z * mp.tanh(softplus),
    }
    return cases[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_an_activation_is_what_its_definition_says(kind: str) -> None:
    mp = pytest.importorskip("mpmath")
    z = np.concatenate([np.linspace(-30, 30, 241), [-1e-9, 1e-9, -0.0, 88.0, -88.0]])
    found = activate(EVERY[kind], z)
    with mp.workdps(60):
        for value, y in zip(z.tolist(), found.tolist(), strict=True):
            assert abs(_mp(kind, EVERY[kind], mp.mpf(value)) - y) <= 4e-16 * max(1.0, abs(value))


@given(st.sampled_from(sorted(KINDS)), st.floats(-12, 12), st.floats(1e-6, 2))
@settings(max_examples=600, deadline=None)
def test_an_error_is_widened_by_no_more_than_stated(kind: str, z: float, off: float) -> None:
    centre, ends = np.array([z]), np.array([z - off, z + off])
    bound = activated_bound(EVERY[kind], centre, np.array([off]))
    moved = np.abs(activate(EVERY[kind], ends) - activate(EVERY[kind], centre))
    assert (moved <= bound * (1 + 1e-9)).all()


@pytest.mark.parametrize("kind", ["sigmoid", "hard_swish", "swish", "gelu", "gelu_tanh", "mish", "tanh"])
def test_the_widening_is_not_larger_than_it_must_be(kind: str) -> None:
    z = np.linspace(-5, 5, 10001)
    slope = np.abs(np.diff(activate(EVERY[kind], z))) / np.diff(z)
    stated = float(activated_bound(EVERY[kind], np.zeros(1), np.array([1e6]))[0]) / 1e6
    assert 0.999 * stated < slope.max() <= stated


def _runs(kind: str, z: Any) -> Iterator[tuple[str, Any]]:
    import tensorflow as tf
    import torch

    functional = torch.nn.functional
    in_torch: dict[str, Callable[..., Any]] = {
        "leaky_relu": lambda t: functional.leaky_relu(t, 0.3),
        "hard_sigmoid": functional.hardsigmoid,
        "hard_swish": functional.hardswish,
        "swish": functional.silu,
        "gelu_tanh": lambda t: functional.gelu(t, approximate="tanh"),
    }
    run = in_torch.get(kind) or getattr(functional, kind)
    yield "torch", run(torch.from_numpy(z)).numpy()
    in_onnx: dict[str, tuple[str, dict[str, Any]]] = {
        "leaky_relu": ("LeakyRelu", {"alpha": 0.3}),
        "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        "hard_swish": ("HardSwish", {}),
        "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
        **{
            name: (name.capitalize(), {}) for name in ("sigmoid", "tanh", "gelu", "elu", "softplus", "softsign", "mish")
        },
    }
    if kind in in_onnx:
        name, attributes = in_onnx[kind]
        opset = 22 if kind == "hard_swish" else 20
        node = kernel_runs.onnx_node(name, ["x"], **attributes)
        yield "ONNX Runtime", kernel_runs.onnx_run([node], {"x": z}, {}, opset=opset)
    in_litert: dict[str, Callable[[Any], Any]] = {
        "leaky_relu": lambda t: tf.nn.leaky_relu(t, 0.3),
        "sigmoid": tf.sigmoid,
        "tanh": tf.tanh,
        "hard_swish": lambda t: t * tf.nn.relu6(t + 3) * np.float32(1 / 6),
        "swish": lambda t: t * tf.sigmoid(t),
        "gelu": lambda t: tf.nn.gelu(t, approximate=False),
        "gelu_tanh": lambda t: tf.nn.gelu(t, approximate=True),
        "elu": tf.nn.elu,
        "softsign": tf.nn.softsign,
    }
    if kind in in_litert:
        model = kernel_runs.litert_model(in_litert[kind], z.shape)
        yield "LiteRT", kernel_runs.litert_run(model, z)
        yield "XNNPACK", kernel_runs.litert_run(model, z, xnnpack=True)


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not EVERY[kind].is_exact])
def test_kernels_are_as_close_as_stated(kind: str) -> None:
    rng = np.random.default_rng(0)
    small = 10 ** rng.uniform(-30, 2.2, 30000) * rng.choice([-1, 1], 30000)
    z = np.concatenate([np.linspace(-30, 30, 60001), small, rng.uniform(-4, 4, 30000)]).astype(np.float32)
    wide = z.astype(np.float64)
    y = activate(EVERY[kind], wide)
    bound = activated_bound(EVERY[kind], wide, np.zeros_like(wide), y=y)
    for run, actual in _runs(kind, z):
        worst = float((np.abs(actual - y) / bound).max())
        print(f"\n{kind:12} {run:14} {worst:.3f}", end="")
        assert 0.02 < worst <= 1.0
    # Something else is beyond the bound: float16 in between.
    assert (np.abs(activate(EVERY[kind], z.astype(np.float16).astype(float)) - y) > bound).any()


def test_what_has_no_bound_keeps_none_and_no_other_activation_is_known() -> None:
    assert np.isnan(activated_bound(EVERY["gelu"], np.zeros(1), np.full(1, np.nan))).all()
    assert np.isnan(activated_bound(EVERY["relu"], np.zeros(1), np.full(1, np.nan))).all()
    with pytest.raises(BninspectError):
        Activation("sine")
