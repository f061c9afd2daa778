"""What the tests of runtimes share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.watching import Save, randomise, saved

from bninspect import runtimes
from bninspect.records import Checkpoint

WRITERS = {"keras": "Keras 3.15.1", "tf_keras": "Keras 2.21.0"}


@pytest.fixture(scope="session")
def prepared() -> None:
    """A process that is ready to run models."""
    runtimes.prepare()


@pytest.fixture
def save(tmp_path: Path, prepared: None) -> Iterator[Save]:
    """Save a live model whose batch norms, by the names that they should get, have random parameters."""

    def _save(model: Any, layers: dict[str, Any], ending: str = ".keras", **changes: Any) -> Checkpoint:
        randomise(layers)
        path = tmp_path / f"model{ending}"
        model.save(path)
        writer = next(
            WRITERS[one.__module__.partition(".")[0]] for one in type(model).__mro__ if "keras" in one.__module__
        )
        return saved(path, layers, writer, **changes)

    # Saving warns of old formats, which are what is tested.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield _save
