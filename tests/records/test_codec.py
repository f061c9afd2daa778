"""Records survive the way through JSON and through a pipe; nothing else comes out of it."""

from __future__ import annotations

import contextlib
import io
import json
import struct
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
    codec,
)
from bninspect.settings import EpsilonRule, Settings

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
    codec.write_frame(pipe, {"result": value})
    pipe.seek(0)
    frame = codec.read_frame(pipe)
    assert frame is not None
    assert codec.read_frame(pipe) is None
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
    ("kind", "data"),
    [
        (Finding, []),
        (Finding, {"rule": 1, "severity": "error", "message": ""}),
        (Finding, {"rule": "BN1", "severity": "grave", "message": ""}),
        (Finding, {"rule": "BN1", "severity": "error", "message": "", "unknown": 1}),
        (Report, {"command": "verify"}),
        (BatchNorm, {"name": "x", "gamma": {"array": 7}}),
    ],
)
def test_what_does_not_fit_the_record_is_refused(kind: Any, data: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.decode(kind, data)


@given(st.binary(max_size=200))
def test_garbage_in_a_pipe_is_an_error_or_the_end(data: bytes) -> None:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        codec.read_frame(io.BytesIO(data))


@pytest.mark.parametrize(
    "array", [{"dtype": "|O", "shape": [1]}, {"dtype": "<f4", "shape": [1 << 40]}, {"dtype": "<f4", "shape": [-1]}]
)
def test_a_frame_cannot_ask_for_objects_or_for_all_memory(array: dict[str, Any]) -> None:
    text = json.dumps({"message": {}, "arrays": [array]}).encode()
    with pytest.raises(ValueError, match=r"."):
        codec.read_frame(io.BytesIO(struct.pack(">Q", len(text)) + text))
