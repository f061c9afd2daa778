"""Structures that only ONNX can hold, written and broken node by node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_files as build
import pytest
from exports import causes, held, statuses

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


def test_no_place_for_it_is_unverified(tmp_path: Path) -> None:
    nodes = [build.node("Conv", ["x", "w", "c"], ["h"], "conv"), _norm("h", "y", "bn")]
    more = [build.node("Relu", ["y"], ["z"], "relu"), build.node("BatchNormalization", ("z", *"sbmv"), ["e"], "bn2")]
    x, end = build.value("x", "N", 3, 6, 6), build.value("e", "N", 4, 4, 4)
    source = tmp_path / "source.onnx"
    source.write_bytes(build.model(build.graph(nodes + more, {**CONV, **BN}, inputs=(x,), outputs=(end,))))
    model = held(source, _written(tmp_path / "half.onnx", nodes, {**CONV, **BN}))
    assert statuses(model) == {"bn": LayerStatus.VERIFIED, "bn2": LayerStatus.UNVERIFIED}
    assert model.status is Status.ERROR
