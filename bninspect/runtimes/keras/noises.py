"""What a Keras model adds to its tensors in training alone: dropout, noise and augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bninspect.runtimes.keras import hook, matching
from bninspect.runtimes.keras.framework import Framework

_KINDS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout")
_MORE = ("GaussianDropout", "GaussianNoise", "RandAugment", "AugMix", "MixUp", "CutMix")


def layers(framework: Framework, model: Any) -> tuple[Any, ...]:
    """Return the layers of a model, at any depth, that do something in training alone; those of rate 0 are none."""
    return tuple(layer for layer in matching.layers(model) if _is_noise(framework, layer))


def _is_noise(framework: Framework, layer: Any) -> bool:
    name = type(layer).__name__
    known = getattr(framework.keras.layers, name, None) is type(layer)
    rate = getattr(layer, "rate", getattr(layer, "stddev", 1.0))
    return known and (name in _KINDS or name in _MORE or name.startswith("Random")) and rate != 0


@contextmanager
def active(noise: Sequence[Any]) -> Iterator[None]:
    """Have these layers do meanwhile what they do in training."""
    originals = {kind: kind.call for kind in {type(layer) for layer in noise}}
    try:
        for kind, original in originals.items():
            kind.call = hook.in_training(original, frozenset(map(id, noise)))
        yield
    finally:
        for kind, original in originals.items():
            kind.call = original
