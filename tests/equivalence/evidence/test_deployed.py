"""The run that everybody gets: whole numbers that it rounds the other way are no fault, more than that is one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bninspect.equivalence.evidence import deployed
from bninspect.equivalence.evidence.rounds import Subject
from bninspect.records.graph import Network, Quantisation, Value

STEP = 1 / 256


@pytest.mark.parametrize(("steps", "agrees"), [(0, True), (1, True), (2, False)])
def test_floats_made_of_whole_numbers_may_be_one_step_off(steps: int, agrees: bool) -> None:
    """As ONNX Runtime's own softmax of whole numbers is, where the plain one is saturated and nothing moves it."""
    plain = np.array([[1.0, 0.0]], np.float32)
    fast = plain - np.float32(steps * STEP)
    session = SimpleNamespace(optimised=lambda _: {"y": fast}, deployed=None, compute=lambda _, __: {"y": plain})
    grid = Quantisation(np.array(STEP), np.array(0), "uint8")
    export = Network((), (Value("y", (1, 2), "float32"),), (), dequantised={"y": grid})
    subject = Subject(export, export, session, None, True, ())  # type: ignore[arg-type]  # nothing else is asked
    (found,) = deployed.deployed(subject, {}, {"y": plain}, {})
    assert found.agrees is agrees
