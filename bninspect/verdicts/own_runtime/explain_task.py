"""A task of the reading process: arrays in files of the user's to what explains them, beside a model's layers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bninspect.arithmetic import training_step
from bninspect.errors import UsageError
from bninspect.formats.encodings import npy
from bninspect.records import BatchNorm, codec
from bninspect.records.explained import Answer, TrainingStep, answer
from bninspect.verdicts.own_runtime import given_files


@dataclass(frozen=True)
class AnswerText:
    """An answer on its way between processes: JSON in which numbers that are not finite stay what they are."""

    text: str

    def read(self) -> Answer:
        """Return the answer. Raises ValueError if it is none."""
        return codec.decode(Answer, json.loads(self.text))


@dataclass(frozen=True)
class GivenFiles:
    """What `explain` is to look at: outputs for inputs or, without them, a batch to train on."""

    layers: tuple[BatchNorm, ...]
    input: str
    output: str | None = None
    axis: tuple[int, ...] = ()
    channel: int | None = None
    others: tuple[BatchNorm, ...] = ()
    """All layers of the model, whose parameters may have been used by mistake."""


def explain(arguments: Mapping[str, Any], arrays: list[Any], _progress: Callable[[str], None]) -> AnswerText:
    """Explain the outputs, or the training step, that `arguments["given"]` names."""
    given = codec.decode(GivenFiles, arguments["given"], arrays)
    if given.output is None:
        found = answer((), _step(given))
    else:
        paths = Path(given.input), Path(given.output)
        found = answer(given_files.explained(given.layers, *paths, given.axis, given.others))
    return AnswerText(json.dumps(msgspec.to_builtins(found)))


def _step(given: GivenFiles) -> TrainingStep:
    arrays = npy.read(Path(given.input))
    if len(arrays) != 1:
        raise UsageError(f"--input holds {len(arrays)} arrays: a training step takes one batch")
    (batch,) = arrays.values()
    layer = given.layers[0] if given.layers else None
    named = given.axis or (layer.axis if layer else None) or (-1,)
    axis = given_files.normalised(batch, named)
    return training_step.of_layer(batch, axis, layer, given.channel)
