"""From a checkpoint and its file to a verdict, in a real framework."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bninspect import formats
from bninspect.errors import UsageError
from bninspect.records import Evidence, LayerStatus, Status
from bninspect.settings import Settings
from bninspect.verdicts.verify_task import verify_checkpoint

pytestmark = pytest.mark.tensorflow

MODEL = "keras3_digits.keras"


def test_a_right_model_is_verified_in_the_model_and_alone(sample_models: Path) -> None:
    model = verify_checkpoint(formats.read(sample_models / MODEL), Settings()).model
    assert (model.status, model.evidence) == (Status.PASS, Evidence.MODEL)
    for layer in model.layers:
        assert [one.observed for one in layer.comparisons] == ["in-model", "probed"]
        assert all(one.elements > 0 and one.agrees for one in layer.comparisons)


def test_a_layer_that_the_reader_missed_closes_the_gate(sample_models: Path) -> None:
    whole = formats.read(sample_models / MODEL)
    lost, *rest = whole.layers
    model = verify_checkpoint(replace(whole, layers=tuple(rest)), Settings()).model
    assert model.status is Status.ERROR
    assert [(one.name, one.status) for one in model.layers if one.status is not LayerStatus.VERIFIED] == [
        (lost.name, LayerStatus.UNVERIFIED)
    ]


def test_stored_values_that_are_not_the_files_are_a_mismatch(sample_models: Path) -> None:
    whole = formats.read(sample_models / MODEL)
    first, second, *rest = whole.layers
    assert first.gamma is not None
    altered = replace(first, gamma=first.beta, beta=first.gamma)
    model = verify_checkpoint(replace(whole, layers=(altered, second, *rest)), Settings()).model
    assert model.status is Status.FAIL
    assert [one.name for one in model.layers if one.status is LayerStatus.MISMATCH] == [first.name]
    assert {finding.rule for finding in model.layers[0].findings} >= {"BN301", "BN304"}


def test_a_signature_of_what_has_none_is_wrong_usage(sample_models: Path) -> None:
    checkpoint = formats.read(sample_models / "keras2_digits.h5")
    with pytest.raises(UsageError, match="are for SavedModels"):
        verify_checkpoint(checkpoint, Settings(signature="serving_default"))
