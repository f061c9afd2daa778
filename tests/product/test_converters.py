"""The parts of benchmarks/converters.py: patterns that build, cells that are judged, and the page."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CUT = "of its input what is below -1.9 or above 1.88 is cut off"
WROTE = {"file": "model.onnx", "seconds": 1.0}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def cell(found: Any, cache: Path, pattern: str = "conv", converter: str = "onnxsim", family: str = "torch") -> Any:
    return found("converter_cells").Cell(cache, family, pattern, found("converter_list").BY_NAME[converter])


def built(code: str) -> list[Any]:
    """Run code beside the benchmarks, in a process of its own: it seeds frameworks and changes their policies."""
    command = [sys.executable, "-c", f"import json, sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.tensorflow
def test_every_pattern_of_keras_builds_and_is_known(found: Any) -> None:
    pytest.importorskip("keras")
    known = set(found("converter_patterns").BY_NAME)
    code = """
import keras_patterns as k
out = []
for name in k.BUILDERS:
    model = k.build(name)
    norms = [layer for layer in k.flattened(model) if type(layer).__name__ == "BatchNormalization"]
    signs = [float(number) for layer in norms if layer.scale for number in layer.get_weights()[0].reshape(-1)]
    out.append([name, len(norms), min(signs, default=-1), 0.0 in signs or not signs])
print(json.dumps(out))"""
    rows = built(code)
    assert {name for name, *_ in rows} == known
    assert len(rows) >= 30
    assert all(norms >= 1 and has_zero for _, norms, _, has_zero in rows)
    assert sum(least < 0 for _, _, least, _ in rows) > len(rows) // 2  # gammas of both signs


def test_every_module_of_torch_builds_and_is_known(found: Any) -> None:
    pytest.importorskip("torch")
    known = set(found("converter_patterns").BY_NAME)
    code = """
import torch, torch_patterns as t
out = []
for name in t.BUILDERS:
    module = t.build(name)
    assert torch.isfinite(module(torch.zeros(2, *t.shape(name)))).all()
    out.append([name, sum(hasattr(part, "running_mean") for part in module.modules())])
print(json.dumps(out))"""
    rows = built(code)
    assert {name for name, _ in rows} <= known
    assert len(rows) >= 30
    assert all(norms >= 1 for _, norms in rows)


@pytest.mark.parametrize(
    ("conversion", "outputs", "verdict", "measured", "asked", "disagrees"),
    [
        ({"error": "TypeError: no"}, {}, {}, "refused", "", False),
        (WROTE, {"ratio": 0.1, "right": True}, {"code": 0, "said": []}, "right", "proved", False),
        (WROTE, {"ratio": 0.1, "right": True}, {"code": 1, "said": ["far"]}, "right", "failed", True),
        (WROTE, {"ratio": 0.1, "right": True}, {"code": 3, "said": ["?"]}, "right", "unverified", False),
        (WROTE, {"ratio": 9.0, "right": False}, {"code": 0, "said": []}, "wrong", "proved", True),
        (WROTE, {"ratio": 9.0, "right": False, "halved": 0.2}, {"code": 0, "said": []}, "wrong", "proved", True),
        (WROTE, {"ratio": 9.0, "right": False, "halved": 2.0}, {"code": 0, "said": [CUT]}, "wrong", "proved", True),
        (WROTE, {"ratio": 9.0, "right": False, "halved": 0.2}, {"code": 0, "said": [CUT]}, "wrong", "proved", False),
        (WROTE, {"ratio": 9.0, "right": False}, {"code": 1, "said": ["far"]}, "wrong", "failed", False),
        (WROTE, {"error": "returns the shape [1] for [2]"}, {"code": 0, "said": []}, "wrong", "proved", True),
        (WROTE, {"error": "InvalidGraph: no"}, {"code": 3, "said": ["no"]}, "broken", "unverified", False),
        (WROTE, {"error": "InvalidGraph: no"}, {"code": 0, "said": []}, "broken", "proved", True),
        (WROTE, {}, {"code": 0, "said": []}, "not run", "proved", False),
        (WROTE, {"ratio": 0.1, "right": True}, {}, "right", "", False),
    ],
)
def test_what_the_steps_of_a_cell_come_to(
    found: Any,
    tmp_path: Path,
    conversion: Any,
    outputs: Any,
    verdict: Any,
    measured: str,
    asked: str,
    disagrees: bool,
) -> None:
    result = found("converter_results").classified(cell(found, tmp_path), conversion, outputs, verdict)
    assert (result.measured, result.verdict, result.disagrees) == (measured, asked, disagrees)


def test_a_converter_that_had_nothing_to_take_has_no_result(found: Any, tmp_path: Path) -> None:
    assert found("converter_results").classified(cell(found, tmp_path), {"absent": True}, {}, {}) is None
    assert found("converter_results").result(cell(found, tmp_path)) is None


@pytest.mark.parametrize(("off", "right"), [(0.9, True), (1.1, False), (float("nan"), False), (float("inf"), False)])
def test_outputs_are_right_within_what_is_allowed(found: Any, off: float, right: bool) -> None:
    expected = np.zeros((2, 3))
    y = expected.copy()
    y[1, 2] = off
    assert found("converter_runs").compared(y, expected, 1.0, 1.0)["right"] is right


def test_where_numbers_are_rounded_to_steps_half_of_the_outputs_are_nearer(found: Any) -> None:
    expected, compared = np.zeros((2, 3)), found("converter_runs").compared
    few, most = np.array([[9, 0, 0], [0, 0, 9]]), np.array([[9, 9, 0], [9, 0, 9]])
    assert compared(few, expected, 10.0, 1.0)["right"]
    assert not compared(most, expected, 10.0, 1.0)["right"]


def test_outputs_with_the_channels_behind_are_compared_as_such(found: Any) -> None:
    expected = np.arange(24.0).reshape(1, 2, 3, 4)
    told = found("converter_runs").compared(np.moveaxis(expected, 1, -1), expected, 1.0, 1.0)
    assert told["right"]
    assert told["layout"] == "channels last"
    assert "error" in found("converter_runs").compared(expected[..., :2], expected, 1.0, 1.0)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_numbers_move_by_at_most_one_rounding(found: Any, kind: str) -> None:
    patterns = found("converter_patterns")
    values = np.array([1.0, -8.0, 0.5])
    moved = np.abs(patterns.nudged(values, kind, np.random.default_rng(0), patterns.STORED) - values)
    size = 8.0 if kind == "int8" else np.abs(values)
    assert (moved > 0).all()
    assert (moved <= patterns.STORED[kind] * size).all()


def test_the_spread_of_a_sum_is_that_of_its_roundings(found: Any) -> None:
    sources = found("converter_sources")
    x, arrays = np.ones((1, 4), np.float32), [np.ones(4, np.float32)]

    def compute(given: list[Any], at: Any) -> Any:
        return (given[0].astype(np.float64) * at).sum(axis=1)

    most = sources.spread(compute, arrays, x, compute(arrays, x), "conv")
    assert 0 < most["float32"] < most["float16"] < most["int8"] <= 8.2 * 2.0**-8


def test_a_converter_that_dies_is_not_tried_again_and_one_that_raises_is_quoted(found: Any, tmp_path: Path) -> None:
    programs = found("converter_programs")
    one = cell(found, tmp_path, converter="torch-onnx-old")

    def die(_: Any) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        programs.convert(one, die)
    programs.convert(one, lambda _: "model.onnx")
    assert one.told("conversion") == {"error": "the process ended"}

    def refuse(_: Any) -> str:
        raise ValueError("no such layer in /home/somebody/networks/model.onnx")

    other = cell(found, tmp_path, converter="torch-onnx-new")
    programs.convert(other, refuse)
    assert other.told("conversion")["error"] == "ValueError: no such layer in ..."


def test_a_converter_waits_for_the_file_that_it_takes(found: Any, tmp_path: Path) -> None:
    programs = found("converter_programs")
    after, before = cell(found, tmp_path), cell(found, tmp_path, converter="torch-onnx-plain")
    programs.convert(after, lambda one: str(one.taken))
    assert after.told("conversion") == {}
    before.tell("conversion", error="no")
    programs.convert(after, lambda one: str(one.taken))
    assert after.told("conversion") == {"absent": True}


@pytest.fixture
def results(found: Any, tmp_path: Path) -> list[Any]:
    classified = found("converter_results").classified
    right, wrong = {"ratio": 0.1, "right": True}, {"ratio": 50.0, "right": False}
    return [
        classified(cell(found, tmp_path), WROTE, right, {"code": 0, "said": []}),
        classified(cell(found, tmp_path, "dense"), WROTE, wrong, {"code": 1, "said": ["folded twice"]}),
        classified(cell(found, tmp_path, "shared"), WROTE, wrong, {"code": 0, "said": []}),
        classified(cell(found, tmp_path, converter="onnxslim"), {"error": "ValueError: a | b"}, {}, {}),
    ]


def test_the_page_has_a_mark_for_each_cell_and_a_row_for_each_fault(found: Any, results: list[Any]) -> None:
    table: ModuleType = found("converter_table")
    assert [table.mark(result) for result in (*results, None)] == [".", "X", "!", "R", " "]
    page = table.render(table.Page(results, {"onnxsim": "0.8.1"}, {"coremltools": "ERROR: none"}, "1 May 2026", 5.0))
    lines = page.splitlines()
    assert "| onnxsim | torch | onnxsim 0.8.1 | 1 | 2 | 0 | 0 | 2 | 1 | 0 | 1 |" in lines
    assert next(line for line in lines if line.startswith("dense ")).split() == ["dense", "X"]
    assert "`converters.py make torch onnxsim dense`" in page
    assert "The environment `coremltools` could not be installed: `ERROR: none`" in page
    assert "ValueError: a / b" in page  # a bar would end the cell of the table


def test_one_command_writes_the_page(
    found: Any, results: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converters = found("converters")
    monkeypatch.setattr(converters, "result", dict(enumerate(results)).get)
    monkeypatch.setattr(converters, "cells", lambda _: [0, 1])
    monkeypatch.setattr(converters.environments, "installed", lambda *_: {"onnxsim": "0.8.1"})
    monkeypatch.setattr(converters.environments, "install", lambda *_: None)
    converters.main(["--cache", str(tmp_path / "cache"), "table", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text().startswith("# Which converters get batch norm right")


def test_a_converter_can_neither_install_nor_see_the_home_of_the_user(found: Any, tmp_path: Path) -> None:
    around = found("converter_environments").shut_in(tmp_path, "onnx")
    assert around["PIP_NO_INDEX"] == "1"
    assert Path(around["HOME"]).is_relative_to(tmp_path)
    assert around["PATH"].split(":")[0] == str(tmp_path / "environments" / "onnx" / "bin")
