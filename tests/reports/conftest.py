"""One run over all sample models for all tests of reports: frameworks take seconds to start."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.written_reports import REPOSITORY, Written, write


@pytest.fixture(scope="session")
def report_of_samples(tmp_path_factory: pytest.TempPathFactory, sample_models: Path) -> Written:
    """The reports on all sample models, of which some fail and some cannot be read."""
    models = sorted(path for path in sample_models.iterdir() if path.suffix in {".h5", ".keras"})
    return write([path.relative_to(REPOSITORY) for path in models], tmp_path_factory.mktemp("reports"))
