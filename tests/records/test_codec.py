"""Records survive the way through JSON and through a pipe; nothing else comes out of it."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bninspect.records import (
    BatchNorm,
    Checkpoint,
    Finding,
    LayerReport,
    LayerStatus,
    Report,
    Severity,
    Statistics,
    Summary,
    codec,
)
from bninspect.settings import EpsilonRule, Settings
from bninspect.workers.frames import read_frame, write_frame

COUNTS = {
    **dict.fromkeys(("models", "layers", "verified", "mismatch", "unverified", "exit_code"), 0),
    "findings": {},
    "status": "pass",
}
SHARD = {"index": 1, "count": 1, "models": 0, "digest": "", "places": []}
REPORT = {"command": "verify", "tool": {}, "summary": COUNTS, "models": []}
TEXT = st.text(max_size=20)
ARRAYS = hnp.arrays(st.sampled_from([np.float16, np.float32, np.float64]), hnp.array_shapes(max_dims=3, max_side=4))
LAYERS = st.builds(
    BatchNorm,
    name=TEXT,
    gamma=st.none() | ARRAYS,
    beta=st.none() | ARRAYS,
    moving_mean=ARRAYS,
    moving_variance=ARRAYS,
    epsilon=st.none() | st.floats(0, 1),
    axis=st.none() | st.lists(st.integers(-4, 4), max_size=3).map(tuple),
    statistics=st.sampled_from(Statistics),
    notes=st.lists(TEXT, max_size=2).map(tuple),
)


def _through_a_pipe(kind: Any, value: Any) -> Any:
    pipe = io.BytesIO()
    write_frame(pipe, {"result": value})
    pipe.seek(0)
    frame = read_frame(pipe)
    assert frame is not None
    assert read_frame(pipe) is None
    return codec.decode(kind, frame[0]["result"], frame[1])


@given(st.lists(LAYERS, max_size=3))
def test_a_checkpoint_arrives_bit_for_bit(layers: list[BatchNorm]) -> None:
    sent = Checkpoint("p", "keras-h5", "Keras 2", tuple(layers), code=("Lambda 'x'",))
    got = _through_a_pipe(Checkpoint, sent)
    assert (got.path, got.writer, got.code) == (sent.path, sent.writer, sent.code)
    for before, after in zip(sent.layers, got.layers, strict=True):
        assert (before.name, before.epsilon, before.axis, before.statistics, before.notes) == (
            after.name,
            after.epsilon,
            after.axis,
            after.statistics,
            after.notes,
        )
        assert before.arrays.keys() == after.arrays.keys()
        for name, array in before.arrays.items():
            assert after.arrays[name].dtype == array.dtype
            assert after.arrays[name].shape == array.shape
            assert after.arrays[name].tobytes() == array.tobytes()
            assert not after.arrays[name].flags.writeable


def test_settings_and_findings_keep_their_types() -> None:
    settings = Settings(epsilon=(EpsilonRule("a*", 1e-3),), input_shapes={"x": (1, 2)}, rtol=0.0, atol=1.0)
    assert _through_a_pipe(Settings, settings) == settings
    finding = Finding("BN101", Severity.ERROR, "m", {"channels": [1, 2], "share": 0.5})
    assert _through_a_pipe(Finding, finding) == finding


@pytest.mark.parametrize("axis", [None, -1, (1, 3)])
def test_an_axis_is_a_number_or_a_list(axis: Any) -> None:
    layer = LayerReport("n", "", 1, axis, 1e-3, "file", None, "float32", True, True, status=LayerStatus.VERIFIED)
    assert codec.decode(LayerReport, json.loads(json.dumps(codec.encode(layer)))) == layer


def test_numbers_that_are_not_finite_become_null_not_nan() -> None:
    text = json.dumps(codec.encode({"a": float("nan"), "b": np.float32("inf"), "c": 0.1}), allow_nan=False)
    assert json.loads(text) == {"a": None, "b": None, "c": 0.1}


def test_an_array_does_not_slip_into_a_report() -> None:
    with pytest.raises(TypeError):
        codec.encode({"a": np.zeros(3)})


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (Finding, [], "Expected `object`, got `array`"),
        (Finding, {"rule": 1, "severity": "error", "message": ""}, r"got `int` - at `\$.rule`"),
        (Finding, {"rule": "BN1", "severity": "grave", "message": ""}, r"'grave' - at `\$.severity`"),
        (Finding, {"rule": "BN1", "severity": "error", "message": "", "more": 1}, r"unknown `more` - at `\$`"),
        (Report, {"command": "verify"}, "missing required field `tool`"),
        (Summary, {**COUNTS, "layers": True}, r"got `bool` - at `\$.layers`"),
        (Summary, {**COUNTS, "findings": {"note": 0.5}}, r"got `float` - at `\$.findings\[...\]`"),
        (Report, {**REPORT, "shard": {**SHARD, "new": 1}}, r"unknown `new` - at `\$.shard`"),
        (Report, {**REPORT, "models": [{}]}, r"missing required field `path` - at `\$.models\[0\]`"),
        (
            Report,
            {**REPORT, "options": {"x": {"value": 1, "source": "", "new": 1}}},
            r"unknown `new` - at `\$.options\[...\]`",
        ),
        (tuple[Finding, ...], [{"rule": "a", "severity": "note", "message": "", "b": 1}], r"`b` - at `\$\[0\]`"),
        (BatchNorm, {"name": "x", "gamma": {"array": 7}}, "an array that is not there"),
    ],
)
def test_what_does_not_fit_the_record_is_refused_with_its_path(kind: Any, data: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        codec.decode(kind, data)


@given(st.characters(categories=["Cs", "Cc", "Lu"]))
def test_a_lone_surrogate_in_a_name_survives(character: str) -> None:
    name = f"bn_{character}_1"
    finding = Finding("BN101", Severity.ERROR, name, {name: name})
    assert codec.decode(Finding, json.loads(json.dumps(codec.encode(finding)))) == finding
