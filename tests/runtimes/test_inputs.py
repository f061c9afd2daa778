"""The input of a model: random or given, by name, shape and type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bninspect.errors import RuntimeFailure, UsageError
from bninspect.runtimes import inputs
from bninspect.runtimes.runtime import Input, RunSettings

IMAGE = Input("image", (None, None, None, 3), "float32")
WORDS = Input("words", (None, None), "int32", below=7)


def _seeded(*taken: Input, attempt: int = 0, **settings: Any) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    return inputs.seeded(taken, RunSettings(**settings), attempt)


def test_floats_are_standard_normal_and_the_same_for_the_same_seed() -> None:
    (one, _), (again, _), (other, _) = (_seeded(IMAGE, seed=seed) for seed in (3, 3, 4))
    assert one["image"].dtype == np.float32
    assert one["image"].std() == pytest.approx(1, abs=0.05)
    assert np.array_equal(one["image"], again["image"])
    assert not np.array_equal(one["image"], other["image"])


def test_whole_numbers_stay_below_their_limit() -> None:
    data, _ = _seeded(WORDS, batch=50)
    assert data["words"].dtype == np.int32
    assert sorted(set(data["words"].ravel().tolist())) == list(range(7))


@pytest.mark.parametrize(("attempt", "length"), [(0, 64), (1, 224), (2, 299)])
def test_open_dimensions_of_an_image_grow_with_each_attempt(attempt: int, length: int) -> None:
    data, notes = _seeded(IMAGE, attempt=attempt)
    assert data["image"].shape == (1, length, length, 3)
    assert notes == (f"shape (1, {length}, {length}, 3) was chosen for input 'image', which takes (any, any, any, 3)",)


def test_closed_dimensions_need_no_note() -> None:
    data, notes = _seeded(Input("x", (None, 8), "float32"), Input("y", (4, 2), "float64"), batch=3)
    assert {name: array.shape for name, array in data.items()} == {"x": (3, 8), "y": (4, 2)}
    assert data["y"].dtype == np.float64
    assert notes == ()


def test_types_without_numbers_get_something_too() -> None:
    data, _ = _seeded(Input("flag", (None, 4), "bool"), Input("text", (None, 1), "string"))
    assert data["flag"].dtype == np.bool_
    assert data["text"].tolist() == [["text"]]


@pytest.mark.parametrize("name", ["image", ""])
def test_the_user_chooses_the_shape(name: str) -> None:
    data, notes = _seeded(IMAGE, input_shapes={name: (2, 5, 6, 3)})
    assert data["image"].shape == (2, 5, 6, 3)
    assert notes == ()


@pytest.mark.parametrize(
    ("shapes", "what"),
    [
        ({"image": (2, 5, 6, 4)}, "--input-shape has shape"),
        ({"image": (5, 6, 3)}, "--input-shape has shape"),
        ({"imgae": (2, 5, 6, 3)}, "the model has no input 'imgae'"),
    ],
)
def test_a_shape_that_does_not_fit_is_wrong_usage(shapes: dict[str, tuple[int, ...]], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        _seeded(IMAGE, input_shapes=shapes)


def test_an_unnamed_shape_is_wrong_usage_where_there_are_several_inputs() -> None:
    with pytest.raises(UsageError) as raised:
        _seeded(IMAGE, WORDS, input_shapes={"": (1, 8, 8, 3)})
    assert "image, words" in raised.value.why


def test_a_model_that_does_not_say_what_it_takes_needs_a_shape() -> None:
    with pytest.raises(RuntimeFailure) as raised:
        _seeded()
    assert "--input-shape" in raised.value.hint
    assert _seeded(input_shapes={"": (2, 3)})[0][""].shape == (2, 3)


X = np.zeros((2, 8, 8, 3), np.float32)
Y = np.zeros((2, 5), np.int64)


def _save(path: Path, **arrays: np.ndarray) -> Path:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path


def test_one_array_is_for_the_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    assert inputs.given([IMAGE], tmp_path / "x.npy")["image"].shape == X.shape
    assert inputs.given([], tmp_path / "x.npy")[""].shape == X.shape


@pytest.mark.parametrize(
    "arrays", [{"image": X, "words": Y}, {"words": Y, "image": X}, {"0": X, "1": Y}, {"arr_0": X, "arr_1": Y}]
)
def test_arrays_are_named_after_inputs_or_positions(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    for source in (_save(tmp_path / "x.npz", **arrays), arrays):
        data = inputs.given([IMAGE, WORDS], source)
        assert {name: array.dtype.kind for name, array in data.items()} == {"image": "f", "words": "i"}


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"image": X}, "holds 1 array, the model takes 2"),
        ({"image": X, "sentence": Y}, "holds no array for input 'words'"),
        ({"image": X[..., :2], "words": Y}, "takes \\(any, any, any, 3\\)"),
        ({"image": X, "words": Y.astype(np.float32)}, "takes int32, the array holds float32"),
        ({"image": np.full_like(X, np.nan), "words": Y}, "NaN or infinity"),
    ],
)
def test_arrays_that_do_not_fit_are_wrong_usage(tmp_path: Path, arrays: dict[str, np.ndarray], what: str) -> None:
    for source in (_save(tmp_path / "x.npz", **arrays), arrays):
        with pytest.raises(UsageError, match=what):
            inputs.given([IMAGE, WORDS], source)


def test_a_missing_batch_dimension_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X[0])
    with pytest.raises(UsageError) as raised:
        inputs.given([IMAGE], tmp_path / "x.npy")
    assert raised.value.hint == "add the batch as the first dimension"
