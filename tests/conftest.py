"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes depends on the machine: no test fails for that. A gate says the same of the same commit, so
# examples follow from the test alone; `make fuzz` looks for new ones.
settings.register_profile("bninspect", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None)
settings.load_profile("bninspect")

REPOSITORY = Path(__file__).parents[1]


def _shared_models() -> Path:
    return Path(os.environ.get("BNINSPECT_MODELS") or REPOSITORY.parent / "shared" / "models")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder of real third-party models, which is not part of the project."""
    folder = _shared_models()
    if not folder.is_dir():
        pytest.skip("the folder of real models is not here; BNINSPECT_MODELS names it")
    return folder


@pytest.fixture(scope="session")
def sample_models() -> Path:
    """The small trained models of this repository."""
    return REPOSITORY / "sample_models"
