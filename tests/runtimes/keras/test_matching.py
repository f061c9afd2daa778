"""Pairing the layers of a loaded model with those of its file."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from bninspect.records import Array, BatchNorm
from bninspect.runtimes.keras import matching
from bninspect.runtimes.keras.matching import LoadedNorm


def _arrays(seed: int, channels: int = 3) -> dict[str, Array]:
    values = np.random.default_rng(seed).uniform(0.5, 2, (4, channels)).astype(np.float32)
    return dict(zip(("gamma", "beta", "moving_mean", "moving_variance"), values, strict=True))


def _stored(name: str, seed: int, channels: int = 3) -> BatchNorm:
    gamma, beta, mean, variance = _arrays(seed, channels).values()
    return BatchNorm(name, gamma, beta, mean, variance, class_name="BatchNormalization")


def _loaded(path: str, seed: int, channels: int = 3) -> LoadedNorm:
    return LoadedNorm(path, SimpleNamespace(name=path.rpartition("/")[2]), _arrays(seed, channels))


def _paths(stored: list[BatchNorm], loaded: list[LoadedNorm]) -> dict[str, str]:
    names = matching.match(stored, loaded)
    return {names[id(one.layer)]: one.path for one in loaded if id(one.layer) in names}


def test_paths_come_before_values() -> None:
    """A framework that loads one layer's values into another must not be made to look right."""
    assert _paths([_stored("a", 1), _stored("b", 2)], [_loaded("a", 2), _loaded("b", 1)]) == {"a": "a", "b": "b"}


def test_names_that_no_configuration_states_do_not_count() -> None:
    """Parts of custom layers are numbered anew in every process: the same name is another layer."""
    stored = [replace(_stored(name, seed), class_name="") for name, seed in (("bn_1", 1), ("bn_2", 2), ("bn_3", 3))]
    loaded = [_loaded("bn", 1), _loaded("bn_1", 2), _loaded("bn_2", 9)]
    assert _paths(stored, loaded) == {"bn_1": "bn", "bn_2": "bn_1"}


def test_what_paths_leave_is_paired_by_the_last_part_of_the_name() -> None:
    stored = [_stored("inner/bn", 1), _stored("top", 2)]
    assert _paths(stored, [_loaded("wrapper/inner/bn", 9), _loaded("top", 2)]) == {
        "inner/bn": "wrapper/inner/bn",
        "top": "top",
    }


def test_a_name_with_another_number_of_channels_is_another_layer() -> None:
    assert _paths([_stored("x/bn", 1, channels=4)], [_loaded("y/bn", 1, channels=3)]) == {}


def test_what_names_leave_is_paired_by_values() -> None:
    stored = [_stored("blocks/0/bn", 1), _stored("blocks/1/bn", 2)]
    loaded = [_loaded("batch_normalization_1", 2), _loaded("batch_normalization", 1)]
    assert _paths(stored, loaded) == {
        "blocks/0/bn": "batch_normalization",
        "blocks/1/bn": "batch_normalization_1",
    }


def test_layers_that_cannot_be_told_apart_are_not_paired() -> None:
    assert _paths([_stored("x/bn", 1), _stored("y/bn", 1)], [_loaded("p/bn", 1), _loaded("q/bn", 1)]) == {}


def test_a_layer_is_met_once_even_if_layers_hold_each_other() -> None:
    outer, inner, leaf = (SimpleNamespace(name=name, layers=[]) for name in ("outer", "inner", "leaf"))
    model = SimpleNamespace(layers=[outer, leaf])
    outer.layers.append(inner)
    inner.layers.extend([outer, leaf])
    assert list(matching._walk(model, "", set())) == [
        ("outer", outer),
        ("outer/inner", inner),
        ("outer/inner/leaf", leaf),
    ]


def test_an_absent_array_differs_from_any_array() -> None:
    without = replace(_stored("stored", 1), gamma=None)
    assert _paths([without], [_loaded("loaded", 1)]) == {}
