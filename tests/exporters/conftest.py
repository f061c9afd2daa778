"""What the tests of exporters share."""

from __future__ import annotations

import numpy as np
import pytest

from bninspect.records import BatchNorm, Checkpoint


def _layer(name: str) -> BatchNorm:
    gamma, beta, mean, variance = np.array([[0.5, 1.5], [0.25, -2], [3, 0], [1, 0.125]], dtype=np.float32)
    return BatchNorm(name, gamma, beta, mean, variance, epsilon=0.001, momentum=0.99, axis=(-1,), epsilon_source="file")


@pytest.fixture
def checkpoint() -> Checkpoint:
    """Two ordinary layers."""
    return Checkpoint("model.h5", "keras-h5", "Keras 2.4.0", (_layer("bn1"), _layer("block1/bn")))
