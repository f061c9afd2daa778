"""ONNX Runtime as a runtime, and the cases that the onnx package publishes for every backend."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import onnx_files as build
from helpers.outcomes import observed, verified

from bninspect import formats, runtimes
from bninspect.arithmetic import bounds, compare, formula
from bninspect.arithmetic.formula import Parameters
from bninspect.arithmetic.moments import Moments, output_allowances, updated
from bninspect.errors import RuntimeFailure, UnreadableFile
from bninspect.records import (
    Array,
    BatchNorm,
    Evidence,
    Form,
    LayerStatus,
    Observation,
    Statistics,
    Status,
)
from bninspect.runtimes.onnxruntime import run as onnxruntime
from bninspect.runtimes.runtime import RunSettings
from bninspect.settings import Settings
from bninspect.verdicts import verify_task

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'bninspect[onnx]'")

GENERATOR = np.random.default_rng(2)
BN = {name: GENERATOR.uniform(0.5, 2, 3).astype(np.float32) for name in ("s", "b", "m", "v")}
INPUTS = ("x", "s", "b", "m", "v")


def _norm(x: str, y: str, **attributes: Any) -> bytes:
    return build.node("BatchNormalization", (x, *INPUTS[1:]), [y], f"norm_{y}", **attributes)


def _written(path: Path, data: bytes) -> Path:
    (path / "m.onnx").write_bytes(data)
    return path / "m.onnx"


def test_every_call_is_seen_in_the_model_and_alone(tmp_path: Path) -> None:
    arrays = {**BN, **{f"{name}1": array.reshape(3, 1, 1) for name, array in BN.items()}, "e": np.array([0.5], "f4")}
    nodes = [
        _norm("x", "h1", epsilon=0.125),
        build.node("Relu", ["h1"], ["h2"], "relu"),
        build.node("Add", ["v1", "e"], ["ve"], "epsilon"),
        build.node("Sqrt", ["ve"], ["deviation"], "root"),
        build.node("Sub", ["h2", "m1"], ["h3"], "centre"),
        build.node("Div", ["h3", "deviation"], ["h4"], "normalise"),
        build.node("Mul", ["h4", "s1"], ["h5"], "scale"),
        build.node("Add", ["h5", "b1"], ["y"], "shift"),
    ]
    path = _written(tmp_path, build.model(build.graph(nodes, arrays)))
    run, seen = observed(path)
    assert run.evidence is Evidence.MODEL
    assert [(one.layer, one.observed) for one in seen] == [
        ("norm_h1", "in-model"),
        ("shift", "in-model"),
        ("norm_h1", "probed"),
        ("shift", "probed"),
    ]
    norm, spelt, *_ = seen
    expected = (norm.x.astype(np.float64) - BN["m"].reshape(3, 1, 1)) * (
        BN["s"] / np.sqrt(BN["v"].astype(np.float64) + 0.125)
    ).reshape(3, 1, 1) + BN["b"].reshape(3, 1, 1)
    np.testing.assert_allclose(norm.y, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(spelt.x, np.maximum(norm.y, 0))
    expected = (spelt.x - arrays["m1"]) / np.sqrt(arrays["v1"].astype(np.float64) + 0.5) * arrays["s1"] + arrays["b1"]
    np.testing.assert_allclose(spelt.y, expected, rtol=0, atol=2e-6)
    assert spelt.form is Form.CENTRED
    np.testing.assert_array_equal(spelt.loaded["beta"], BN["b"])
    assert [layer.status for layer in verified(path).layers] == [LayerStatus.VERIFIED] * 2


def test_a_runtime_that_computes_something_else_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime is handed another epsilon than the file states."""
    path = _written(tmp_path, build.model(build.graph([_norm("x", "y", epsilon=0.125)], BN)))
    checkpoint = formats.read(path)
    original = onnxruntime.session_of
    stored, changed = build.field(2, 0.125), build.field(2, 0.25)
    monkeypatch.setattr(
        onnxruntime,
        "session_of",
        lambda model, where, **options: original(model.replace(stored, changed), where, **options),
    )
    seen: list[Observation] = []
    runtimes.run(checkpoint, RunSettings(), lambda: seen.append)
    comparisons = [compare.judge(one, checkpoint.layers[0]) for one in seen]
    assert [one.agrees for one in comparisons] == [False, False]


def test_a_mean_for_every_element_is_unverified_in_old_files_too(tmp_path: Path) -> None:
    """ONNX Runtime has no BatchNormalization of opset 6, and what is left, the layer alone, has no such axes."""
    arrays = {name: np.resize(array, (3, 4, 4)) for name, array in BN.items()}
    node = _norm("x", "y", is_test=1, spatial=0)
    model = verified(_written(tmp_path, build.model(build.graph([node], arrays), opset=6)), accept=("layer",))
    (layer,) = model.layers
    assert (layer.status, model.status) == (LayerStatus.UNVERIFIED, Status.ERROR)
    assert "for every element" in layer.reason


def test_outputs_that_are_not_numbers_do_not_change(tmp_path: Path) -> None:
    arrays = {**BN, "v": np.array([1, -4, 1], np.float32)}
    run, _ = observed(_written(tmp_path, build.model(build.graph([_norm("x", "y")], arrays))))
    assert run.notes == ()


def test_training_mode_is_notverified(tmp_path: Path) -> None:
    node = build.node("BatchNormalization", INPUTS, ["y", "rm", "rv"], "bn", training_mode=1)
    model = verified(_written(tmp_path, build.model(build.graph([node], BN))))
    (layer,) = model.layers
    assert (layer.status, model.status) == (LayerStatus.UNVERIFIED, Status.ERROR)
    assert "statistics of each batch" in layer.reason


def test_a_batch_norm_in_a_branch_is_unverified_by_name(tmp_path: Path) -> None:
    branch = build.graph([_norm("x", "inner")], {}, inputs=(), outputs=(build.value("inner", "N", 3, 4, 4),))
    nodes = [
        build.node("Constant", [], ["zero"], value=np.array(0, np.float32)),
        build.node("ReduceMax", ["x"], ["largest"], "max", keepdims=0),
        build.node("Greater", ["largest", "zero"], ["c"], "greater"),
        build.node("If", ["c"], ["h"], "if", then_branch=branch, else_branch=branch),
        _norm("h", "y"),
    ]
    model = verified(_written(tmp_path, build.model(build.graph(nodes, BN))))
    statuses = {layer.name: layer.status for layer in model.layers}
    assert statuses["norm_y"] is LayerStatus.VERIFIED
    assert statuses["if/then_branch/norm_inner"] is LayerStatus.UNVERIFIED
    assert model.status is Status.ERROR


def test_changed_after_it_was_read(tmp_path: Path) -> None:
    from dataclasses import replace

    path = _written(tmp_path, build.model(build.graph([_norm("x", "y")], BN)))
    checkpoint = replace(formats.read(path), sha256="0" * 64)
    with pytest.raises(UnreadableFile, match="changed"):
        runtimes.run(checkpoint, RunSettings(), lambda: lambda _: None)


def test_what_onnxruntime_cannot_run_is_run_alone(tmp_path: Path) -> None:
    nodes = [build.node("NoSuchOperation", ["x"], ["h"], "odd"), _norm("h", "y")]
    path = _written(tmp_path, build.model(build.graph(nodes, BN)))
    run, seen = observed(path)
    assert run.evidence is Evidence.LAYER
    assert "NoSuchOperation" in run.reason
    assert [one.observed for one in seen] == ["probed"]
    assert verified(path, accept=("layer",)).status is Status.PASS


def test_input_that_it_does_not_accept(tmp_path: Path) -> None:
    path = _written(tmp_path, build.model(build.graph([_norm("x", "y")], BN, inputs=(build.value("x", "N", 4, 4, 4),))))
    run, _ = observed(path)
    assert run.evidence is Evidence.LAYER
    with pytest.raises(RuntimeFailure):
        onnxruntime.observe(formats.read(path), RunSettings(), lambda: lambda _: None)


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "m.data").write_bytes(b"12345678" + BN["v"].tobytes())
    arrays = {name: array for name, array in BN.items() if name != "v"}
    outside = build.tensor("v", BN["v"], {"location": "m.data", "offset": "8", "length": "12"})
    path = _written(tmp_path, build.model(build.graph([_norm("x", "y")], arrays, tensors=[outside])))
    assert verified(path).status is Status.PASS
    checkpoint = formats.read(path)
    (tmp_path / "m.data").write_bytes(b"87654321" + BN["v"].tobytes())
    with pytest.raises(UnreadableFile, match="changed while it was being checked"):
        onnxruntime.observe(checkpoint, RunSettings(), lambda: lambda _: None)


def _cases(kind: str, part: str) -> list[Any]:
    pytest.importorskip("onnx", reason="onnx is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return [case for case in load_model_tests(kind=kind) if part in case.name.lower()]


def _bound(layer: BatchNorm, x: Array, axis: tuple[int, ...]) -> tuple[Array, Array]:
    expected = formula.normalise(layer, x, axis=axis)
    of = Parameters.of(layer)
    return expected, bounds.bound(of, x, expected, form=Form.UNKNOWN, axis=axis)


def _as_initializers(model: Any, arrays: list[Array]) -> Any:
    """Return the model with all inputs but the first as constants, as exporters write it."""
    import onnx.numpy_helper

    names = [value.name for value in model.graph.input]
    for name, array in zip(names[1:], arrays[1:], strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    del model.graph.input[1:]
    return model


def test_cases_of_the_onnx_package(tmp_path: Path) -> None:
    """Example and epsilon, with moving and with batch statistics: the published outputs, within the bound."""
    cases = _cases("node", "batchnorm")
    assert len(cases) == 4
    for case in cases:
        for inputs, outputs in case.data_sets:
            model = _as_initializers(case.model, inputs)
            path = _written(tmp_path, model.SerializeToString())
            (layer,) = formats.read(path).layers
            x, y = inputs[0], outputs[0]
            trains = "training" in case.name
            assert layer.statistics is (Statistics.BATCH if trains else Statistics.MOVING)
            if trains:
                x, y = (np.moveaxis(array, 1, -1) for array in (x, y))
                batch, stored = Moments.of(x, (3,)), Parameters.of(layer, "float32")
                used = batch.parameters(stored)
                expected = formula.normalise(used, x, axis=(3,))
                sizes = np.abs((x - used.mean) * used.slope), np.abs(x), np.abs(expected)
                forms = output_allowances(batch, stored, Form.UNKNOWN, "float32", "float32")
                allowed = np.maximum.reduce([one.at(*sizes) for one in forms])
                assert (np.abs(y - expected) <= allowed).all(), case.name
                # What the node returns beside y: 0.9 of the old statistics, and the batch's biased variance.
                for old, moment, error, new in (
                    (inputs[3], batch.mean, batch.mean_error, outputs[1]),
                    (inputs[4], batch.variance, batch.variance_error, outputs[2]),
                ):
                    moved, bound = updated(old, moment, error, layer.momentum or 0.0)
                    assert (np.abs(new - moved) <= bound).all(), case.name
                assert verified(path).layers[0].status is LayerStatus.UNVERIFIED
                continue
            expected, bound = _bound(layer, x, (1,))
            assert (np.abs(y - expected) <= bound).all(), case.name
            assert verified(path).status is Status.PASS


def test_batch_norms_of_pytorch_that_the_onnx_package_ships(tmp_path: Path) -> None:
    """BatchNorm1d, 2d and 3d as torch exported them, with the outputs that torch gave."""
    import onnx
    import onnx.numpy_helper

    cases = _cases("pytorch-converted", "batchnorm")
    assert {case.name[5:16] for case in cases} == {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d"}
    for case in cases:
        folder = Path(case.model_dir)
        (layer,) = formats.read(folder / "model.onnx").layers
        arrays = {}
        for name in ("input_0", "output_0"):
            tensor = onnx.TensorProto.FromString((folder / "test_data_set_0" / f"{name}.pb").read_bytes())
            arrays[name] = onnx.numpy_helper.to_array(tensor)
        expected, bound = _bound(layer, arrays["input_0"], (1,))
        assert (np.abs(arrays["output_0"] - expected) <= bound).all(), case.name


HALF = {name: array.astype(np.float16) for name, array in BN.items()}


def _half_value(name: str) -> bytes:
    lengths = b"".join(build.field(1, build.field(1, length)) for length in (2, 3, 4, 4))
    return build.field(1, name) + build.field(2, build.field(1, build.field(1, 10) + build.field(2, lengths)))


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([build.node("Sigmoid", ["x"], ["h"]), _norm("h", "y")], ["y"]),
        ([build.node("Sigmoid", ["x"], ["h"]), _norm("h", "i"), _norm("i", "j"), _norm("j", "y")], ["y"]),
        ([build.node("Tanh", ["x"], ["h"]), _norm("h", "y")], ["h", "y"]),
        ([_norm("x", "y")], ["y"]),
        (
            [
                build.node("Cast", ["x"], ["wide"], to=1),
                build.node("Sigmoid", ["wide"], ["sigmoid"]),
                build.node("Cast", ["sigmoid"], ["h"], to=10),
                _norm("h", "y"),
            ],
            ["y"],
        ),
    ],
    ids=["behind-an-operator", "one-behind-another", "input-is-an-output", "at-once", "cast-by-hand"],
)
def test_half_precision_is_compared_with_what_the_runtime_computes_with(
    tmp_path: Path, nodes: list[bytes], outputs: list[str]
) -> None:
    """Between operators that it only has for float32 ONNX Runtime rounds nothing, and so must not what we look at."""
    values = [_half_value(name) for name in outputs]
    path = _written(tmp_path, build.model(build.graph(nodes, HALF, [_half_value("x")], values)))
    model = verified(path)
    assert model.status is Status.PASS, [layer.findings for layer in model.layers]
    assert {one.observed for layer in model.layers for one in layer.comparisons} == {"in-model", "probed"}
    ratios = [one.ratio for layer in model.layers for one in layer.comparisons if one.observed == "in-model"]
    assert max(ratio for ratio in ratios if ratio is not None) > 0.05, "the bound is not that of float16"


def test_a_wrong_half_precision_norm_is_found_out(tmp_path: Path) -> None:
    nodes = [build.node("Sigmoid", ["x"], ["h"]), _norm("h", "y")]
    path = _written(tmp_path, build.model(build.graph(nodes, HALF, [_half_value("x")], [_half_value("y")])))
    checkpoint = formats.read(path)
    (layer,) = checkpoint.layers
    moved = replace(layer, epsilon=0.01)
    verified = verify_task.verify_checkpoint(replace(checkpoint, layers=(moved,)), Settings()).model
    assert verified.layers[0].status is LayerStatus.MISMATCH


def test_norms_in_functions_are_seen_where_they_are_called(tmp_path: Path) -> None:
    inner = ("x", *INPUTS[1:])
    body = [build.node("Relu", ["x"], ["h"]), build.node("BatchNormalization", ("h", *INPUTS[1:]), ["y"])]
    calls = [
        build.of_domain(build.node("Block", (x, *INPUTS[1:]), [y], f"call_{y}"), "my")
        for x, y in (("x", "h"), ("h", "y"))
    ]
    content = build.model(build.graph(calls, BN))
    path = _written(tmp_path, build.with_functions(content, "my", build.function("my", "Block", inner, ["y"], body)))
    model = verified(path)
    assert model.status is Status.PASS
    assert [layer.name for layer in model.layers] == ["call_h/y", "call_y/y"]
    assert {one.observed for layer in model.layers for one in layer.comparisons} == {"in-model", "probed"}


def test_further_inputs_may_be_single_numbers_or_texts(tmp_path: Path) -> None:
    text = build.field(1, "t") + build.field(2, build.field(1, build.field(1, 8) + build.field(2, b"")))
    said = build.field(1, "u") + build.field(2, build.field(1, build.field(1, 8) + build.field(2, b"")))
    nodes = [_norm("x", "h"), build.node("Mul", ["h", "gain"], ["y"]), build.node("Identity", ["t"], ["u"])]
    inputs = [build.value("x", "N", 3, 4, 4), build.value("gain"), text]
    path = _written(tmp_path, build.model(build.graph(nodes, BN, inputs, [build.value("y", "N", 3, 4, 4), said])))
    assert verified(path).status is Status.PASS


def test_an_input_of_rank_one_has_one_channel(tmp_path: Path) -> None:
    """onnx/defs/nn/defs.cc: it also accepts a single dimension of size N, in which case C is assumed to be 1."""
    arrays = {name: array[:1] for name, array in BN.items()}
    content = build.graph([_norm("x", "y")], arrays, [build.value("x", 10)], [build.value("y", 10)])
    model = verified(_written(tmp_path, build.model(content)))
    assert model.status is Status.PASS
    assert [one.elements for one in model.layers[0].comparisons if one.observed == "in-model"] == [10]


def test_a_model_in_training_mode_is_unverified_and_each_layer_is_named(tmp_path: Path) -> None:
    nodes = [
        build.node("BatchNormalization", ("x", *INPUTS[1:]), ["h", "m2", "v2"], "one", training_mode=1),
        build.node("BatchNormalization", ("h", *INPUTS[1:]), ["y", "m3", "v3"], "two", training_mode=1),
    ]
    model = verified(_written(tmp_path, build.model(build.graph(nodes, BN))))
    assert model.status is Status.ERROR
    assert [layer.status for layer in model.layers] == [LayerStatus.UNVERIFIED] * 2
    assert [[one.rule for one in layer.findings] for layer in model.layers] == [["BN123"]] * 2
    assert all("model.eval()" in layer.findings[0].hint for layer in model.layers)
