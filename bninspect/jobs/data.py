"""Models and data in the library: `bninspect.drift` and `bninspect.recalibrate`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bninspect import atomic_files
from bninspect.errors import BninspectError, UsageError
from bninspect.jobs import called, elsewhere, live_model, pipeline, processes
from bninspect.jobs.context import DEFAULTS, SILENT, Surroundings
from bninspect.jobs.spool import spool
from bninspect.records import Report
from bninspect.records.recalibrated import Recalibrated
from bninspect.settings import Settings
from bninspect.verdicts import selection
from bninspect.workers import tasks


def drift(model: Any, data: Any, settings: Settings = DEFAULTS, around: Surroundings = SILENT) -> Report:
    """Hold the statistics that a model stores against those of data, in inference mode.

    Args:
        model: the path of a model, or several; or a live, built model of Keras 3 or tf_keras, which is left as it was.
        data: the path of a .npy or .npz file or of a folder of them or of images; an array, or arrays by the names of
            the inputs, samples along the first axis; or an iterable of batches of these, such as a dataset or a
            loader. Labels that come along are passed over.
        settings: `limit`, `trained_batch`, `max_effect` and others.
        around: who is told of what is going on.

    Returns:
        The report. `fit` of a layer says whether it fits, `data` of a model what explains that it does not.

    Raises:
        UsageError: the data or the settings do not fit the model.
    """
    with _at_hand(data, settings) as (chosen, names):
        if isinstance(model, (str, os.PathLike)):
            report = pipeline.drift(Path(model), chosen, around)
        elif isinstance(model, (list, tuple)):
            report = pipeline.drift(model, chosen, around)
        else:
            report = live_model.drift(model, chosen)
        return called.result(report, names)


def recalibrate(
    model: str | os.PathLike[str],
    data: Any,
    output: str | os.PathLike[str],
    settings: Settings = DEFAULTS,
    around: Surroundings = SILENT,
    *,
    into: str | os.PathLike[str] | None = None,
    force: bool = False,
    resume: bool = False,
) -> Recalibrated:
    """Write a copy of a model with the exact statistics of data: mean and variance of what arrives at each batch norm.

    Layer after layer, in inference mode, with sums that no order changes. Nothing else in the file changes.

    Args:
        model: the path of a model that runs.
        data: as for `drift`.
        output: the copy, which is written whole or not at all; never the model itself.
        settings: `limit`, `layers` and others; forward passes are in batches of a fixed size, whatever `batch_size` is.
        around: who is told of what is going on.
        into: a file of weights of the same model, to copy instead of it.
        force: whether the output may be replaced.
        resume: whether to go on where an interrupted run to the same output has ended.

    Returns:
        What became of each layer.

    Raises:
        UsageError: the data, the output or the settings do not fit the model.
        BninspectError: a layer is not reached, would not be finite or cannot be replaced in the file, or the model
            cannot be read or run.
    """
    if not isinstance(model, (str, os.PathLike)):
        why = f"a copy of a file is written, and {type(model).__name__} is not one"
        raise UsageError("recalibrate takes the path of a model", why=why, hint=live_model.to_a_file(model))
    target, inputs = Path(output), [Path(one) for one in (model, into) if one is not None]
    atomic_files.check_target(target, force=force, inputs=inputs)
    with _at_hand(data, settings) as (chosen, names):
        reading = elsewhere.RemoteReading(chosen)
        with (
            closing(reading),
            processes.reader(chosen, around) as reader,
            processes.runner(chosen, around) as runner,
        ):
            reader.start(tasks.read_file)
            runner.start(tasks.recalibrate_model)
            checkpoint, other = (reading.of_place(reader, str(place), whole=True) for place in (model, into or model))
            arguments = {
                "checkpoint": selection.complete(checkpoint, chosen),
                "into": other,
                "output": str(target.absolute()),
                "settings": chosen,
                "resume": resume,
                "force": force,
            }
            try:
                found = runner.call(tasks.recalibrate_model, Recalibrated, arguments, around.progress)
            except BninspectError as error:
                raise reading.named_error(error) from None
            found = called.result(reading.named(found), names)
    return replace(found, output=str(output))


@contextmanager
def _at_hand(data: Any, settings: Settings) -> Iterator[tuple[Settings, Mapping[str, str]]]:
    """Yield settings that name a file of the data, and how it is called if it is a temporary one."""
    with tempfile.TemporaryDirectory(prefix="bninspect-") as folder:
        path = spool(data, Path(folder), settings.limit)
        if not path.exists():
            raise UsageError(f"there is no data at '{path}'")
        names = {str(path): "the data"} if path.parent == Path(folder) else {}
        try:
            yield replace(settings, data=str(path)), names
        except BninspectError as error:
            raise called.error(error, names) from None
