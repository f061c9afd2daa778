"""Structures that only ONNX can hold, written and broken node by node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import onnx_files as build
from helpers.exports import causes, counterparts, held, statuses

from bninspect.records import Array, LayerStatus, Status

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'bninspect[onnx]'")

GENERATOR = np.random.default_rng(12)
BN = {name: GENERATOR.uniform(0.5, 2, 4).astype(np.float32) for name in ("s", "b", "m", "v")}
CONV = {"w": GENERATOR.normal(size=(4, 3, 3, 3)).astype(np.float32), "c": GENERATOR.normal(size=4).astype(np.float32)}
EPSILON = 1e-3


def _written(path: Path, nodes: list[bytes], arrays: dict[str, Array]) -> Path:
    x, y = build.value("x", "N", 3, 6, 6), build.value("y", "N", 4, 4, 4)
    path.write_bytes(build.model(build.graph(nodes, arrays, inputs=(x,), outputs=(y,))))
    return path


def _norm(x: str, y: str, name: str) -> bytes:
    return build.node("BatchNormalization", (x, "s", "b", "m", "v"), [y], name, epsilon=EPSILON)


def test_folded_and_applied_again(tmp_path: Path) -> None:
    scale = BN["s"] / np.sqrt(BN["v"] + np.float32(EPSILON))
    folded = {"w": CONV["w"] * scale.reshape(4, 1, 1, 1), "c": (CONV["c"] - BN["m"]) * scale + BN["b"]}
    conv = build.node("Conv", ["x", "w", "c"], ["h"], "conv")
    source = _written(tmp_path / "source.onnx", [conv, _norm("h", "y", "bn")], {**CONV, **BN})
    right = _written(tmp_path / "right.onnx", [build.node("Conv", ["x", "w", "c"], ["y"], "conv")], folded)
    assert held(source, right).status is Status.PASS
    wrong = _written(tmp_path / "wrong.onnx", [conv, _norm("h", "y", "bn")], {**folded, **BN})
    model = held(source, wrong)
    assert model.status is Status.FAIL
    assert [one.name for one in causes(model, "bn")] == ["applied-again"]


def test_batch_norm_kept_with_another_epsilon(tmp_path: Path) -> None:
    nodes = [build.node("Conv", ["x", "w", "c"], ["h"], "conv"), _norm("h", "y", "bn")]
    source = _written(tmp_path / "source.onnx", nodes, {**CONV, **BN})
    changed = [nodes[0], build.node("BatchNormalization", ("h", "s", "b", "m", "v"), ["y"], "bn")]
    tiny = {**BN, "v": np.array([1e-4, 0.5, 1, 2], np.float32)}
    assert held(source, _written(tmp_path / "same.onnx", nodes, {**CONV, **BN})).status is Status.PASS
    source = _written(tmp_path / "tiny.onnx", nodes, {**CONV, **tiny})
    model = held(source, _written(tmp_path / "default.onnx", changed, {**CONV, **tiny}))
    assert model.status is Status.FAIL
    assert causes(model, "bn")[0].name == "epsilon=1e-05"


def _two(tmp_path: Path) -> tuple[Path, list[bytes]]:
    """Write a source of a convolution and two batch norms, the second behind an activation."""
    nodes = [build.node("Conv", ["x", "w", "c"], ["h"], "conv"), _norm("h", "y", "bn")]
    nodes += [build.node("Relu", ["y"], ["z"], "relu"), _norm("z", "e", "bn2")]
    return _whole(tmp_path / "source.onnx", nodes, "e"), nodes


def _whole(path: Path, nodes: list[bytes], last: str, **more: Array) -> Path:
    x, end = build.value("x", "N", 3, 6, 6), build.value(last, "N", 4, 4, 4)
    path.write_bytes(build.model(build.graph(nodes, {**CONV, **BN, **more}, inputs=(x,), outputs=(end,))))
    return path


def test_left_out_where_nothing_else_could_hold_it(tmp_path: Path) -> None:
    source, nodes = _two(tmp_path)
    model = held(source, _whole(tmp_path / "half.onnx", nodes[:3], "z"))
    assert statuses(model) == {"bn": LayerStatus.VERIFIED, "bn2": LayerStatus.MISMATCH}
    assert [one.name for one in causes(model, "bn2")] == ["left-out"]


def test_an_addition_and_a_division_are_a_batch_norm(tmp_path: Path) -> None:
    """What is added before and what is divided by give its scale and its shift."""
    source, nodes = _two(tmp_path)
    scale = BN["s"].astype(np.float64) / np.sqrt(BN["v"].astype(np.float64) + EPSILON)
    per_channel = {"r": 1 / scale, "t": (BN["b"] - BN["m"] * scale) / scale}
    constants = {name: one.astype(np.float32).reshape(-1, 1, 1) for name, one in per_channel.items()}
    odd = [build.node("Add", ["z", "t"], ["d"], "add"), build.node("Div", ["d", "r"], ["e"], "divide")]
    model = held(source, _whole(tmp_path / "odd.onnx", [*nodes[:3], *odd], "e", **constants))
    assert statuses(model) == {"bn": LayerStatus.VERIFIED, "bn2": LayerStatus.VERIFIED}
    assert counterparts(model)["bn2"].how == "scale and shift"
    assert model.status is Status.PASS


@pytest.mark.parametrize(("order", "fine"), [([0, 2, 3, 1], True), ([0, 1, 2, 3], False)])
def test_bias_behind_a_transpose(tmp_path: Path, order: list[int], *, fine: bool) -> None:
    """What is added along the axis that the channels were moved to is the bias; along another axis it is none."""
    scale = BN["s"] / np.sqrt(BN["v"] + np.float32(EPSILON))
    arrays = {"w": CONV["w"] * scale.reshape(4, 1, 1, 1), "c": (CONV["c"] - BN["m"]) * scale + BN["b"]}
    nodes = [build.node("Conv", ["x", "w", "c"], ["h"], "conv"), _norm("h", "y", "bn")]
    source = _written(tmp_path / "source.onnx", nodes, {**CONV, **BN})
    moved = [
        build.node("Conv", ["x", "w"], ["h"], "conv"),
        build.node("Transpose", ["h"], ["t"], "there", perm=order),
        build.node("Add", ["t", "c"], ["a"], "add"),
        build.node("Transpose", ["a"], ["y"], "back", perm=np.argsort(order).tolist()),
    ]
    model = held(source, _written(tmp_path / "moved.onnx", moved, arrays))
    assert (statuses(model)["bn"], model.status) == (
        (LayerStatus.VERIFIED, Status.PASS) if fine else (LayerStatus.MISMATCH, Status.FAIL)
    )


def test_what_only_some_data_goes_through_is_not_proved(tmp_path: Path) -> None:
    """All of it goes through the right branch here; nobody has seen what the other one does."""
    nodes = [build.node("Conv", ["x", "w", "c"], ["h"], "conv"), _norm("h", "y", "bn")]
    source = _written(tmp_path / "source.onnx", nodes, {**CONV, **BN})
    right = build.graph([_norm("h", "r", "bn")], {}, inputs=(), outputs=(build.value("r"),))
    wrong = build.graph([build.node("BatchNormalization", ("h", *"sbmv"), ["t"])], {}, (), (build.value("t"),))
    choosing = [
        nodes[0],
        build.node("ReduceSum", ["x"], ["total"], keepdims=0),
        build.node("Greater", ["total", "least"], ["large"]),
        build.node("If", ["large"], ["y"], "if", then_branch=right, else_branch=wrong),
    ]
    arrays = {**CONV, **BN, "least": np.array(-1e9, np.float32)}
    model = held(source, _written(tmp_path / "choosing.onnx", choosing, arrays))
    assert model.status is Status.ERROR
    assert model.against is not None
    assert any("if of the export: 2 kernels and batch norms" in reason for reason in model.against.open)


def test_two_batch_norms_directly_in_a_row_stay_two(tmp_path: Path) -> None:
    second = {f"{name}2": array[::-1].copy() for name, array in BN.items()}
    nodes = [build.node("Conv", ["x", "w", "c"], ["h"], "conv"), _norm("h", "y", "bn")]
    nodes.append(build.node("BatchNormalization", ("y", *second), ["e"], "bn2", epsilon=EPSILON))
    source = _whole(tmp_path / "source.onnx", nodes, "e", **second)
    model = held(source, _whole(tmp_path / "same.onnx", nodes, "e", **second))
    assert statuses(model) == {"bn": LayerStatus.VERIFIED, "bn2": LayerStatus.VERIFIED}
    model = held(source, _whole(tmp_path / "wrong.onnx", nodes, "e", **{**second, "b2": second["b2"] + np.float32(1)}))
    assert statuses(model)["bn2"] is LayerStatus.MISMATCH


@pytest.mark.parametrize(("off", "status"), [(0.0, Status.PASS), (0.01, Status.FAIL)])
def test_bias_in_the_convolution_and_the_shift_added_behind_it(tmp_path: Path, off: float, status: Status) -> None:
    nodes = [build.node("Conv", ["x", "w", "c"], ["h"], "conv"), _norm("h", "y", "bn")]
    source = _whole(tmp_path / "source.onnx", nodes, "y")
    scale = BN["s"] / np.sqrt(BN["v"] + np.float32(EPSILON))
    shift = (BN["b"] - BN["m"] * scale + np.float32(off)).reshape(1, 4, 1, 1)
    folded = {"w": CONV["w"] * scale.reshape(4, 1, 1, 1), "c": CONV["c"] * scale, "shift": shift}
    nodes = [nodes[0], build.node("Add", ["h", "shift"], ["y"], "add")]
    assert held(source, _whole(tmp_path / "split.onnx", nodes, "y", **folded)).status is status
