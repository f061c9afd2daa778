"""float16 and bfloat16: torch and ONNX Runtime compute in float32 and round once, on a million nasty elements each.

`python -m pytest -s` prints the worst ratios.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import kernel_runs, nasty, nasty_sums

from bninspect.arithmetic.kernels import (
    BFLOAT16,
    BFLOAT16_OPERANDS,
    FLOAT16,
    FLOAT16_OPERANDS,
    FLOAT16_SUMS,
    FLOAT32,
    Activation,
    Arithmetic,
    Convolution,
    Dense,
    Expected,
    Step,
    Weights,
    Window,
    activate,
    activated_bound,
    convolve,
    expect_chain,
    expect_norm,
    expect_sum,
    multiply,
    sum_bound,
)
from bninspect.arithmetic.kernels.rounding import rounded_bound
from bninspect.records import BatchNorm, Form

torch = pytest.importorskip("torch")
KINDS = {"float16": FLOAT16, "bfloat16": BFLOAT16}
LARGEST = {"float16": 65504.0, "bfloat16": 3.3e38}
DECADES = {"float16": 1.0, "bfloat16": 3.0}
WORST: dict[tuple[str, str, str], float] = {}


@pytest.fixture(scope="module", autouse=True)
def _show() -> Iterator[None]:
    yield
    for (case, kind, run), worst in sorted(WORST.items()):
        print(f"\n{case:32} {kind:10} {run:14} {worst:.4f}", end="")


def _narrow(a: Any, kind: str) -> Any:
    return torch.from_numpy(np.ascontiguousarray(a, np.float32)).to(getattr(torch, kind))


def _rounded(a: Any, kind: str) -> Any:
    return _narrow(a, kind).float().numpy()


def _worst(expected: Expected, y: Any, kind: str) -> float:
    with np.errstate(invalid="ignore"):
        inside = np.isfinite(expected.bound) & (np.abs(expected.value) + expected.bound < LARGEST[kind])
    assert inside.mean() > 0.7
    return float(expected.ratios(y)[inside].max())


def _keep(case: str, kind: str, run: str, expected: Expected, y: Any) -> None:
    WORST[case, kind, run] = _worst(expected, y, kind)
    assert 0 < WORST[case, kind, run] <= 1.0
    # Two roundings more are seen: the bound is not vacuous.
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[kind]
    if WORST[case, kind, run] > 0.5:
        assert _worst(expected, np.asarray(y, np.float64) * (1 + 2 * unit), kind) > 1.0


def _norms(kind: str, *, stored: str) -> Iterator[tuple[BatchNorm, Any]]:
    rng = np.random.default_rng(0)
    for epsilon in nasty.EPSILONS[2:]:
        domain = nasty.FLOAT16 if kind == "float16" else nasty.WIDE
        norm = nasty.layer(rng, epsilon, 256, "float16" if stored == "float16" else "float32", domain)
        arrays = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
        kept = [_rounded(a, kind) if stored == kind else np.asarray(a, np.float32) for a in arrays]
        x = _rounded(nasty.inputs(rng, norm, 1024, "float16" if kind == "float16" else "float32"), kind)
        yield BatchNorm("nasty", kept[0], kept[1], kept[2], kept[3], epsilon, axis=(-1,)), x


@pytest.mark.parametrize("stored", ["narrow", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_batch_norms_of_torch_are_affine_in_float32(kind: str, stored: str) -> None:
    wrong = 0.0
    for norm, x in _norms(kind, stored=kind if stored == "narrow" else stored):
        given = [
            _narrow(a, kind if stored == "narrow" else "float32")
            for a in (norm.moving_mean, norm.moving_variance, norm.gamma, norm.beta)
        ]
        data = _narrow(x, kind).reshape(1, 32, 32, 256).permute(0, 3, 1, 2)
        forms = {"rows": _narrow(x, kind), "first": data.contiguous(), "last": data}
        for layout, each in forms.items():
            y = torch.nn.functional.batch_norm(each, *given, False, 0.0, norm.epsilon)
            y = (y if layout == "rows" else y.permute(0, 2, 3, 1).reshape(-1, 256)).float().numpy()
            options: dict[str, Any] = {"axis": (1,), "arithmetic": KINDS[kind]}
            name = f"batch norm, {stored} parameters"
            worst = WORST.get((name, kind, "torch"), 0.0)
            _keep(name, kind, "torch", expect_norm(norm, x, form=Form.AFFINE, **options), y)
            WORST[name, kind, "torch"] = max(worst, WORST[name, kind, "torch"])
            wrong = max(wrong, _worst(expect_norm(norm, x, form=Form.CENTRED, **options), y, kind))
    # Beside a mean of more digits than x has, x - mean is never so small that the form would show.
    assert wrong > 1.0 or (kind, stored) == ("bfloat16", "float32")


def test_batch_norms_of_onnx_runtime_are_affine_in_float32() -> None:
    wrong = 0.0
    for norm, x in _norms("float16", stored="float16"):
        arrays = {"g": norm.gamma, "b": norm.beta, "m": norm.moving_mean, "v": norm.moving_variance}
        constants = {name: np.asarray(a, np.float16) for name, a in arrays.items()}
        node = kernel_runs.onnx_node("BatchNormalization", ["x", *"gbmv"], epsilon=norm.epsilon)
        y = kernel_runs.onnx_run([node], {"x": x.astype(np.float16)}, constants, opset=15)
        options: dict[str, Any] = {"axis": (1,), "arithmetic": FLOAT16}
        _keep(
            "batch norm, narrow parameters",
            "float16",
            "ONNX Runtime",
            expect_norm(norm, x, form=Form.AFFINE, **options),
            y,
        )
        wrong = max(wrong, _worst(expect_norm(norm, x, form=Form.CENTRED, **options), y, "float16"))
    assert wrong > 1.0


SAME3 = Window.of((3, 3), padding=((1, 1), (1, 1)))
CASES: dict[str, tuple[Convolution, tuple[int, ...], tuple[int, ...]]] = {
    "3x3, n 27": (Convolution(SAME3), (2, 80, 80, 3), (3, 3, 3, 80)),
    "3x3, n 1152": (Convolution(SAME3), (4, 16, 16, 128), (3, 3, 128, 32)),
    "depthwise, n 9": (Convolution(SAME3, 96), (2, 72, 72, 96), (3, 3, 1, 96)),
    "grouped, n 72": (Convolution(SAME3, 4), (2, 40, 40, 32), (3, 3, 8, 32)),
    "transposed, n 144": (
        Convolution(Window.of((2, 2), stride=(2, 2)), transposed=True),
        (2, 20, 20, 36),
        (2, 2, 36, 32),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_convolutions_sum_in_float32(case: str, kind: str) -> None:
    operation, shape, kernel = CASES[case]
    rng = np.random.default_rng(len(case))
    x, w, b = (_rounded(nasty_sums.numbers(rng, s, DECADES[kind]), kind) for s in (shape, kernel, kernel[-1:]))
    if operation.groups == 1:
        x = _rounded(nasty_sums.cancelling(x, w), kind)
    exact = convolve(operation, x, Weights.of(w.reshape(-1, *kernel[-2:]), b))
    expected = expect_sum(exact, arithmetic=KINDS[kind])
    y = kernel_runs.torch_convolve(operation, x, w, b, kind=kind)
    _keep(case, kind, "torch", expected, exact.places.pick(y))
    if kind == "float16":
        half = [each.astype(np.float16) for each in (x, w, b)]
        y = kernel_runs.onnx_convolve(operation, *half)
        _keep(case, kind, "ONNX Runtime", expected, exact.places.pick(y))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [3, 100, 4096])
def test_dense_layers_sum_in_float32(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    x, w, b = (_rounded(nasty_sums.numbers(rng, s, DECADES[kind]), kind) for s in ((3400, n), (n, 300), (300,)))
    x = _rounded(nasty_sums.cancelling(x, w), kind)
    exact = multiply(Dense(), x, Weights.of(w[np.newaxis], b))
    expected = expect_sum(exact, arithmetic=KINDS[kind])
    y = torch.nn.functional.linear(*(_narrow(a, kind) for a in (x, w.T, b))).float().numpy()
    _keep(f"dense, n {n}", kind, "torch", expected, y)
    if kind == "float16":
        constants = {"w": w.astype(np.float16), "b": b.astype(np.float16)}
        y = kernel_runs.onnx_run([kernel_runs.onnx_node("Gemm", [*"xwb"])], {"x": x.astype(np.float16)}, constants)
        _keep(f"dense, n {n}", kind, "ONNX Runtime", expected, y)


@pytest.mark.parametrize("kind", KINDS)
def test_chains_round_each_step(kind: str) -> None:
    rng = np.random.default_rng(5)
    x = _rounded(nasty_sums.numbers(rng, (5000, 200), DECADES[kind]), kind)
    constants = [_rounded(nasty_sums.numbers(rng, (200,), DECADES[kind]) + 0.01, kind) for _ in range(3)]
    steps = [Step(name, c) for name, c in zip(("subtract", "multiply", "add"), constants, strict=True)]
    arithmetic = Arithmetic(kind)
    data, (mean, scale, shift) = _narrow(x, kind), (_narrow(c, kind) for c in constants)
    y = ((data - mean) * scale + shift).float().numpy()
    _keep("x - c, * c, + c", kind, "torch", expect_chain(steps, x, arithmetic=arithmetic), y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "silu", "gelu", "hardswish", "elu"])
def test_activations_are_computed_in_float32(name: str, kind: str) -> None:
    z = _rounded(np.linspace(-30, 30, 1_000_003), kind)
    activation = Activation({"silu": "swish", "hardswish": "hard_swish"}.get(name, name), alpha=1.0)
    value = activate(activation, z.astype(np.float64))
    bound = activated_bound(activation, z.astype(np.float64), np.zeros(z.shape), y=value)
    expected = Expected(value, rounded_bound(bound, value, KINDS[kind]))
    y = getattr(torch.nn.functional, name)(_narrow(z, kind)).float().numpy()
    _keep(name, kind, "torch", expected, y)


def test_sums_in_float16_have_a_bound_while_they_are_short() -> None:
    rng = np.random.default_rng(6)
    for n, holds in ((9, True), (200, True), (203, False)):
        x, w = (nasty_sums.numbers(rng, shape, 0.7, np.float16) for shape in ((500, n), (n, 8)))
        total = np.zeros((500, 8), np.float16)
        for term in range(n):
            total += x[:, term, np.newaxis] * w[term]
        exact = multiply(Dense(), x, Weights.of(w[np.newaxis]))
        bound = sum_bound(exact, FLOAT16_SUMS)
        assert np.isfinite(bound).all() == holds
        assert not holds or (np.abs(total - exact.value) <= bound).all()
        assert not holds or (np.abs(total - exact.value) > expect_sum(exact, arithmetic=FLOAT16).bound).any()


@pytest.mark.parametrize(("kind", "arithmetic"), [("float16", FLOAT16_OPERANDS), ("bfloat16", BFLOAT16_OPERANDS)])
def test_a_float32_file_computed_in_a_narrower_type_is_declared(kind: str, arithmetic: Arithmetic) -> None:
    rng = np.random.default_rng(7)
    x, w, b = (nasty_sums.numbers(rng, shape, DECADES[kind]) for shape in ((1000, 27), (27, 100), (100,)))
    exact = multiply(Dense(), x, Weights.of(w[np.newaxis], b))
    y = torch.nn.functional.linear(*(_narrow(a, kind) for a in (x, w.T, b))).float().numpy()
    assert 0.05 < _worst(expect_sum(exact, arithmetic=arithmetic), y, kind) <= 1.0
    assert _worst(expect_sum(exact, arithmetic=KINDS[kind]), y, kind) > 1.0
    assert _worst(expect_sum(exact, arithmetic=FLOAT32), y, kind) > 1.0
