"""Models and data in the library: `bninspect.drift`."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bninspect.errors import UsageError
from bninspect.jobs import live, pipeline
from bninspect.jobs.context import Surroundings
from bninspect.jobs.spool import spool
from bninspect.records import Report
from bninspect.settings import Settings

DEFAULTS = Settings()
SILENT = Surroundings()


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
    with tempfile.TemporaryDirectory(prefix="bninspect-") as folder:
        path = spool(data, Path(folder), settings.limit)
        if not path.exists():
            raise UsageError(f"there is no data at '{path}'")
        chosen = replace(settings, data=str(path))
        if isinstance(model, (str, os.PathLike)):
            return pipeline.drift(Path(model), chosen, around)
        return pipeline.drift(model, chosen, around) if isinstance(model, (list, tuple)) else live.drift(model, chosen)
