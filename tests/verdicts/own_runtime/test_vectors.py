"""Test vectors: what they hold, and what is said of a runtime that computes something else."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layers import frozen, layer

from bninspect.errors import UsageError
from bninspect.records import Array, BatchNorm, Checkpoint, LayerStatus, ModelReport, Statistics, Status
from bninspect.settings import IgnoreRule, Settings, ToleranceRule
from bninspect.verdicts.own_runtime import outputs as returned
from bninspect.verdicts.own_runtime import vectors

GENERATOR = np.random.default_rng(11)


def _norm(name: str, channels: int, **changes: object) -> BatchNorm:
    return layer(
        name,
        **{
            "gamma": frozen(GENERATOR.uniform(0.5, 2, channels)),
            "beta": frozen(GENERATOR.normal(size=channels)),
            "moving_mean": frozen(GENERATOR.normal(size=channels)),
            "moving_variance": frozen(GENERATOR.uniform(0.001, 2, channels)),
            **changes,
        },
    )


CHECKPOINT = Checkpoint(
    "folder/m.h5",
    "keras-h5",
    "Keras 2.4.0",
    (
        _norm("block/bn", 4),
        _norm("first", 3, axis=(1,), gamma=None, scale=False),
        _norm("several", 18, axis=(1, 3)),
    ),
    sha256="ab" * 32,
)
SEVERAL = CHECKPOINT.layers[2]
CHECKPOINT = replace(
    CHECKPOINT,
    layers=(
        *CHECKPOINT.layers[:2],
        layer("several", axis=(1, 3), **{name: array.reshape(1, 6, 1, 3) for name, array in SEVERAL.arrays.items()}),
    ),
)


def _loaded(seed: int = 0) -> dict[str, Array]:
    return dict(np.load(io.BytesIO(vectors.encode(CHECKPOINT, seed)), allow_pickle=False))


def _kernel(of: BatchNorm, x: Array, axis: tuple[int, ...]) -> Array:
    """Compute batch norm in float32, as simply as can be."""
    shape = [length if place in axis else 1 for place, length in enumerate(x.shape)]
    one = np.float32(1)
    gamma, beta, mean, variance = (
        np.asarray(of.arrays[name], np.float32).reshape(shape) if name in of.arrays else default
        for name, default in (("gamma", one), ("beta", one * 0), ("moving_mean", one), ("moving_variance", one))
    )
    return (x - mean) * (gamma / np.sqrt(variance + np.float32(of.epsilon or 0))) + beta


def _returned(
    path: Path, kernel: Callable[[BatchNorm, Array, tuple[int, ...]], Array] = _kernel, seed: int = 0
) -> Path:
    answers = {
        f"{vector.key}/y": kernel(vector.layer, vector.x, vector.axis) for vector in vectors.vectors(CHECKPOINT, seed)
    }
    np.savez(path / "outputs.npz", allow_pickle=False, **answers)
    return path / "outputs.npz"


def _report(path: Path, **settings: object) -> ModelReport:
    return returned.report(CHECKPOINT, path, Settings(**settings))  # type: ignore[arg-type]


def test_what_is_in_the_file() -> None:
    found = _loaded()
    description = json.loads(str(found["__vectors__"]))
    assert description["source"] == {"file": "m.h5", "sha256": "ab" * 32}
    listed = {one["key"]: one for one in description["layers"]}
    assert list(listed) == ["block/bn", "first", "several"], "a loop over the layers must not meet the probe"
    listed["__probe__"] = description["probe"]
    assert [tuple(one["axis"]) for one in listed.values()] == [(3,), (1,), (1, 3), (3,)]
    shapes = {"block/bn": (3, 5, 7, 4), "first": (3, 3, 5, 7), "several": (3, 6, 5, 3), "__probe__": (3, 5, 7, 12)}
    for key, shape in shapes.items():
        for name, dtype in (("x", np.float32), ("y", np.float64), ("bound", np.float64)):
            array = found[f"{key}/{name}"]
            assert array.shape == shape
            assert array.dtype == dtype
            assert np.isfinite(array).all()
        assert (found[f"{key}/bound"] > 0).all()
    assert "bninspect verify m.h5 --against outputs.npz" in str(found["__readme__"])


def test_a_layer_has_the_same_vectors_whatever_is_chosen_beside_it(tmp_path: Path) -> None:
    report = _report(_returned(tmp_path), layers=("several",))
    statuses = [(one.name, one.status) for one in report.layers]
    assert statuses == [("several", LayerStatus.VERIFIED), (vectors.PROBE, LayerStatus.VERIFIED)]
    names = [vector.key for vector in vectors.vectors(CHECKPOINT, 0)]
    assert len({vector.x.tobytes()[:64] for vector in vectors.vectors(CHECKPOINT, 0)}) == len(names)


@pytest.mark.parametrize("changed", ["epsilon", "moving_mean", "moving_variance"])
def test_outputs_for_the_vectors_of_another_model_are_wrong(tmp_path: Path, changed: str) -> None:
    """The inputs are so many deviations off the mean: what is expected of them hardly depends on either."""
    path = _returned(tmp_path)
    first = CHECKPOINT.layers[0]
    value = 1e-5 if changed == "epsilon" else frozen(first.arrays[changed] * 1.5)
    checkpoint = replace(CHECKPOINT, layers=(replace(first, **{changed: value}), *CHECKPOINT.layers[1:]))  # type: ignore[arg-type]
    wrong, *others = returned.report(checkpoint, path, Settings()).layers
    assert wrong.status is LayerStatus.MISMATCH
    assert all(one.status is LayerStatus.VERIFIED for one in others)
    assert any("<layer>/x beside" in finding.hint for finding in wrong.findings)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"epsilon": None}, "does not state epsilon"), ({"statistics": Statistics.BATCH}, "statistics of each batch")],
)
def test_what_has_no_vectors_is_unverified(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = _returned(tmp_path)
    first, second, third = CHECKPOINT.layers
    checkpoint = replace(CHECKPOINT, layers=(first, replace(second, **changes), third))
    report = returned.report(checkpoint, path, Settings())
    assert [one.name for one in report.layers] == ["block/bn", "first", "several", "__probe__"]
    assert report.layers[1].status is LayerStatus.UNVERIFIED
    assert reason in report.layers[1].reason
    assert report.status is Status.ERROR
    # Nothing that could be tested is left: that is not a wrong usage.
    alone = returned.report(replace(checkpoint, layers=checkpoint.layers[1:2]), path, Settings())
    assert alone.status is Status.ERROR


@pytest.mark.parametrize(
    ("dtype", "bits"), [(np.float32, 0x7FA00001), (np.float64, 0x7FF4000000000001), (np.float64, 0x7FEFFFFFFFFFFFFF)]
)
def test_what_no_float32_runtime_returns_is_wrong(tmp_path: Path, dtype: type, bits: int) -> None:
    """Signalling NaNs, and a double beyond all floats."""

    def kernel(of: BatchNorm, x: Array, axis: tuple[int, ...]) -> Array:
        y: Array = np.ascontiguousarray(_kernel(of, x, axis)).astype(dtype)
        y.reshape(-1).view(f"u{y.itemsize}")[7] = bits
        return y

    report = _report(_returned(tmp_path, kernel))
    assert {one.status for one in report.layers} == {LayerStatus.MISMATCH}
    assert all(one.comparisons[0].violations >= 1 for one in report.layers)


def test_the_expected_outputs_are_no_runtimes(tmp_path: Path) -> None:
    (tmp_path / "v.npz").write_bytes(vectors.encode(CHECKPOINT, 0))
    with pytest.raises(UsageError, match="the expected outputs themselves"):
        _report(tmp_path / "v.npz")
    # Outputs among the rest of the vectors are welcome: their inputs are then compared, too.
    np.savez(tmp_path / "o.npz", **{**_loaded(), **np.load(_returned(tmp_path))})
    assert _report(tmp_path / "o.npz").status is Status.PASS


def test_what_a_configuration_says_of_other_models_counts_for_those(tmp_path: Path) -> None:
    path = _returned(tmp_path, lambda of, x, axis: _kernel(of, x, axis) * np.float32(1.0001))
    of_another = ToleranceRule("*", rtol=1.0, atol=1.0, models="other.h5")
    report = _report(path, tolerances=(of_another,), ignores=(IgnoreRule("BN3", "was known", expired=True),))
    assert report.status is Status.FAIL
    for one in report.layers:
        assert (one.status, one.tolerance) == (LayerStatus.MISMATCH, None)
        assert not any(found.ignored for found in one.findings)
    assert _report(path, tolerances=(replace(of_another, models="m.h5"),)).status is Status.PASS


def test_a_tolerance_counts_instead_of_the_bound(tmp_path: Path) -> None:
    path = _returned(tmp_path, lambda of, x, axis: _kernel(of, x, axis) * np.float32(1 + 1e-4))
    assert _report(path).status is Status.FAIL
    report = _report(path, rtol=2e-4, atol=1e-5)
    assert report.status is Status.PASS
    assert all(one.tolerance is not None and one.tolerance.rtol == 2e-4 for one in report.layers)
    assert _report(path, rtol=1e-5, atol=1e-5).status is Status.FAIL


def test_without_the_probe_it_is_said_what_is_not_tested(tmp_path: Path) -> None:
    outputs = dict(np.load(_returned(tmp_path)))
    assert "on which no two hypotheses agree" in _report(tmp_path / "outputs.npz").notes[-1]
    del outputs["__probe__/y"]
    np.savez(tmp_path / "outputs.npz", **outputs)
    assert "is not tested" in _report(tmp_path / "outputs.npz").notes[-1]


def test_every_channel_gets_its_mean_and_both_sides_of_it() -> None:
    for vector in vectors.vectors(CHECKPOINT, 0):
        of = vector.layer
        x = np.moveaxis(vector.x, vector.axis, range(len(vector.axis))).reshape(of.channels, -1)
        mean = np.asarray(of.arrays["moving_mean"]).reshape(-1, 1)
        deviation = np.sqrt(np.asarray(of.arrays["moving_variance"], np.float64).reshape(-1, 1) + (of.epsilon or 0))
        assert (x == mean).any(axis=1).all()
        steps = (x - mean) / deviation
        assert (steps.min(axis=1) <= -7.99).all()
        assert (steps.max(axis=1) >= 7.99).all()
        # No two places of a channel hold the same, so that none can be taken for another.
        assert min(len(np.unique(row)) for row in x) >= x.shape[1] - 2


def test_bytes_depend_on_model_and_seed_alone() -> None:
    assert vectors.encode(CHECKPOINT, 3) == vectors.encode(CHECKPOINT, 3)
    one, other = _loaded(3), _loaded(4)
    assert not np.array_equal(one["block/bn/x"], other["block/bn/x"])
    assert not np.array_equal(one["__probe__/gamma"], other["__probe__/gamma"])


def test_right_runtime(tmp_path: Path) -> None:
    model = _report(_returned(tmp_path))
    assert model.status is Status.PASS
    assert [one.name for one in model.layers] == ["block/bn", "first", "several", "__probe__"]
    for one in model.layers:
        assert one.status is LayerStatus.VERIFIED
        (comparison,) = one.comparisons
        assert comparison.elements == 105 * one.channels or one.name == "several"
        assert comparison.agrees


def test_other_types_and_layouts(tmp_path: Path) -> None:
    answers = dict(np.load(_returned(tmp_path)))
    answers["block/bn/y"] = np.moveaxis(answers["block/bn/y"], -1, 1)
    answers["first/y"] = answers["first/y"].astype(np.float64)
    answers["__probe__/y"] = answers["__probe__/y"].astype(np.float16)
    np.savez(tmp_path / "other.npz", allow_pickle=False, **answers)
    assert {one.status for one in _report(tmp_path / "other.npz").layers} == {LayerStatus.VERIFIED}


WRONG: dict[str, Callable[[Array, Array, Array, Array, float, Array], Array]] = {
    "epsilon-outside": lambda g, b, m, v, e, x: g * (x - m) / (np.sqrt(v) + e) + b,
    "gamma-absolute": lambda g, b, m, v, e, x: abs(g) * (x - m) / np.sqrt(v + e) + b,
    "beta-ignored": lambda g, b, m, v, e, x: g * (x - m) / np.sqrt(v + e),
    "gamma-ignored": lambda g, b, m, v, e, x: (x - m) / np.sqrt(v + e) + b,
    "mean-ignored": lambda g, b, m, v, e, x: g * x / np.sqrt(v + e) + b,
    "epsilon=1e-05": lambda g, b, m, v, e, x: g * (x - m) / np.sqrt(v + 1e-5) + b,
    "relu": lambda g, b, m, v, e, x: np.maximum(g * (x - m) / np.sqrt(v + e) + b, 0),
}


@pytest.mark.parametrize("cause", WRONG)
def test_the_probe_names_what_a_model_may_not_tell(tmp_path: Path, cause: str) -> None:
    def kernel(of: BatchNorm, x: Array, axis: tuple[int, ...]) -> Array:
        if of.name != vectors.PROBE:
            return _kernel(of, x, axis)
        arrays = [of.arrays[name].astype(np.float64) for name in ("gamma", "beta", "moving_mean", "moving_variance")]
        wide: Array = WRONG[cause](arrays[0], arrays[1], arrays[2], arrays[3], of.epsilon or 0, x.astype(np.float64))
        return wide.astype(np.float32)

    model = _report(_returned(tmp_path, kernel))
    assert model.status is Status.FAIL
    probe = model.layers[-1]
    assert probe.explanation is not None
    assert len(probe.explanation.causes) == 1
    found = probe.explanation.causes[0]
    words = {"gamma-absolute": "absolute value of gamma", "relu": "ReLU"}.get(cause)
    assert (words.lower() in found.sentence.lower()) if words else found.name == cause


def test_missing_layer_closes_the_gate(tmp_path: Path) -> None:
    answers = dict(np.load(_returned(tmp_path)))
    del answers["first/y"], answers["__probe__/y"]
    np.savez(tmp_path / "outputs.npz", allow_pickle=False, **answers)
    model = _report(tmp_path / "outputs.npz")
    assert model.status is Status.ERROR
    assert [(one.name, one.status) for one in model.layers] == [
        ("block/bn", LayerStatus.VERIFIED),
        ("first", LayerStatus.UNVERIFIED),
        ("several", LayerStatus.VERIFIED),
    ]
    assert "holds no first/y" in model.layers[1].reason


def test_nan_and_another_shape_never_pass(tmp_path: Path) -> None:
    answers = dict(np.load(_returned(tmp_path)))
    answers["block/bn/y"][0, 0, 0, 0] = np.nan
    answers["first/y"] = answers["first/y"][:2]
    np.savez(tmp_path / "outputs.npz", allow_pickle=False, **answers)
    nan, shape, *_ = _report(tmp_path / "outputs.npz").layers
    assert nan.status is LayerStatus.MISMATCH
    assert {finding.rule for finding in nan.findings if finding.severity == "error"} == {"BN202"}
    assert shape.status is LayerStatus.UNVERIFIED


def test_outputs_for_other_vectors(tmp_path: Path) -> None:
    path = _returned(tmp_path, seed=1)
    assert _report(path).status is Status.FAIL
    assert _report(path, seed=1).status is Status.PASS
    answers = dict(np.load(path))
    answers["block/bn/x"] = vectors.vectors(CHECKPOINT, 1)[0].x
    np.savez(path, allow_pickle=False, **answers)
    with pytest.raises(UsageError, match="other vectors"):
        _report(path)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "outputs.npz", allow_pickle=False, weights=np.ones(3))
    with pytest.raises(UsageError, match="no outputs for this model"):
        _report(tmp_path / "outputs.npz")


def test_layers_without_vectors() -> None:
    batch = replace(CHECKPOINT, layers=(_norm("bn", 3, statistics=Statistics.BATCH),))
    with pytest.raises(UsageError, match="no vectors for layer 'bn'"):
        vectors.encode(batch, 0)
    unknown = replace(CHECKPOINT, layers=(_norm("bn", 3, epsilon=None),))
    with pytest.raises(UsageError, match="epsilon"):
        vectors.encode(unknown, 0)
