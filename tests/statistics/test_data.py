"""Data in files reaches the model as it is, a few samples at a time, and what does not fit is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bninspect.errors import BninspectError
from bninspect.jobs.spool import spool
from bninspect.records import Array
from bninspect.runtimes.runtime import Input
from bninspect.statistics.data import preparations, samples
from bninspect.statistics.data.open import opened

ONE = (Input("x", (None, 4, 3), "float32"),)
TWO = (Input("left", (None, 2), "float32"), Input("right", (None, 3), "int64"))
IMAGE = (Input("image", (None, 6, 8, 3), "float32"),)
X = np.arange(10 * 12, dtype=np.float32).reshape(10, 4, 3)


def everything(path: Path, taken: tuple[Input, ...] = ONE, size: int = 4) -> dict[str, Array]:
    with opened(path, taken) as data:
        batches = list(samples.batches(data, samples.places(data.count, None, None), size))
    return {name: np.concatenate([one.arrays[name][: one.samples] for one in batches]) for name in batches[0].arrays}


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_npy_file_is_its_samples(tmp_path: Path, order: str) -> None:
    np.save(tmp_path / "x.npy", np.asarray(X, order="F" if order == "F" else "C"))
    assert np.array_equal(everything(tmp_path / "x.npy")["x"], X)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_npz_file_goes_by_the_names_of_the_inputs(tmp_path: Path, write: object) -> None:
    left, right = np.random.default_rng(0).random((7, 2)), np.arange(21).reshape(7, 3)
    write(tmp_path / "x.npz", right=right, left=left)  # type: ignore[operator]
    found = everything(tmp_path / "x.npz", TWO)
    assert np.array_equal(found["left"], left)
    assert np.array_equal(found["right"], right)


def test_labels_beside_arrays_with_the_names_of_all_inputs_are_passed_over(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", right=np.ones((7, 3), int), y=np.zeros(5), left=np.ones((7, 2)))
    assert everything(tmp_path / "x.npz", TWO).keys() == {"left", "right"}


def test_each_input_may_have_a_folder_or_a_file_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    left, right = np.random.default_rng(0).random((7, 2)), np.arange(21).reshape(7, 3)
    np.save(tmp_path / "left" / "b.npy", left[4:])
    np.save(tmp_path / "left" / "a.npy", left[:4])
    np.save(tmp_path / "right.npy", right)
    found = everything(tmp_path, TWO)
    assert np.array_equal(found["left"], left)
    assert np.array_equal(found["right"], right)
    np.save(tmp_path / "right.npy", right[:6])
    with pytest.raises(BninspectError, match="left: 7 samples, right: 6 samples"):
        everything(tmp_path, TWO)


def test_of_several_inputs_those_that_are_images_are_prepared() -> None:
    arrays = {"image": np.full((1, 2, 2, 1), 51.0), "table": np.full((1, 3), 51.0)}
    read = preparations.prepared(samples.Samples("x", 1, lambda _: arrays), "unit").read([0])
    assert [float(values.max()) for values in read.values()] == [pytest.approx(0.2), 51.0]


def test_files_of_a_folder_follow_each_other_by_name(tmp_path: Path) -> None:
    for name, part in (("b.npy", X[4:]), ("a.npy", X[:4])):
        np.save(tmp_path / name, part)
    assert np.array_equal(everything(tmp_path, size=3)["x"], X)


def test_a_parquet_file_goes_by_the_names_of_the_inputs_or_by_how_many_numbers_they_take(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    columns = {"label": np.arange(10), "values": list(X.reshape(10, 12)), "name": ["a"] * 10}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=4)
    assert np.array_equal(everything(tmp_path / "x.parquet", size=3)["x"], X)
    left, right = list(np.arange(14.0).reshape(7, 2)), list(np.arange(21).reshape(7, 3))
    pq.write_table(pa.table({"right": right, "left": left}), tmp_path / "two.parquet")
    assert np.array_equal(everything(tmp_path / "two.parquet", TWO)["right"], np.stack(right))
    with pytest.raises(BninspectError) as caught:
        everything(tmp_path / "x.parquet", (Input("z", (None, 5), "float32"),))
    assert caught.value.hint == "name the field after the input"
    pq.write_table(pa.table({"a": [1, 2], "b": [3, 4]}), tmp_path / "wide.parquet")
    with pytest.raises(BninspectError) as caught:
        everything(tmp_path / "wide.parquet", (Input("z", (None, 2), "float32"),))
    assert "into one array" in caught.value.hint
    pq.write_table(pa.table({"z": [[1.0, None]]}), tmp_path / "missing.parquet")
    with pytest.raises(BninspectError, match="NaN or infinity; sample 0"):
        everything(tmp_path / "missing.parquet", (Input("z", (None, 2), "float32"),))


def test_images_are_brought_to_the_size_of_the_input(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "class").mkdir()
    plain = np.full((12, 16, 3), (10, 20, 200), np.uint8)
    image.fromarray(plain).save(tmp_path / "class" / "a.png")
    image.fromarray(plain[..., 0]).save(tmp_path / "grey.png")
    with opened(tmp_path, IMAGE) as data:
        assert data.count == 2
        found = data.read([0, 1])["image"]
    assert found.shape == (2, 6, 8, 3)
    assert found[0, 2, 2].tolist() == [10, 20, 200]
    assert found[1, 2, 2].tolist() == [10, 10, 10]


def test_an_image_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "a.png").write_bytes(b"\x89PNG nothing")
    with opened(tmp_path, IMAGE) as data, pytest.raises(BninspectError, match="is not an image"):
        data.read([0])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: np.save(path, X[:, :3]), "has shape"),
        (lambda path: np.save(path, X[0]), "has shape"),
        (lambda path: np.save(path, np.array(["a"])), "has shape|takes float32"),
        (lambda path: np.save(path, X[:0]), "no data"),
        (lambda path: path.write_bytes(b"nothing of the kind"), "NumPy"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "damaged"),
        (lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True), "Python objects"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, write: object, said: str) -> None:
    write(tmp_path / "x.npy")  # type: ignore[operator]
    with pytest.raises(BninspectError, match=said), opened(tmp_path / "x.npy", ONE) as data:
        data.read([0])


@pytest.mark.parametrize(
    ("write", "taken", "hint"),
    [
        (lambda path: np.save(path, X[0]), ONE, "add the batch as the first dimension"),
        (lambda path: np.save(path, np.ones((9, 6, 8))), (Input("x", (None, 6, 8, 1), "float32"),), "last dimension"),
        (lambda path: np.save(path, np.ones((9, 6, 8))), (Input("x", (None, 1, 6, 8), "float32"),), "second dimension"),
        (lambda path: np.save(path, np.ones((9, 3, 6, 8))), IMAGE, "numpy.moveaxis(x, 1, -1)"),
        (lambda path: np.save(path, np.ones((9, 6, 8, 3))), (Input("x", (None, 3, 6, 8), "float32"),), "(x, -1, 1)"),
        (lambda path: np.save(path, np.ones((9, 144))), IMAGE, "x.reshape(-1, 6, 8, 3)"),
        (lambda path: np.save(path, np.ones((9, 8, 6, 3))), IMAGE, ""),
        (lambda path: np.save(path, np.ones((54, 8, 3))), IMAGE, "x.reshape(-1, 6, 8, 3), or let a dataset yield"),
        (lambda path: path.write_text("1,2\n3,4\n"), ONE, "delimiter=','))"),
        (lambda path: path.write_text("a,b\n3,4\n"), ONE, "skiprows=1"),
        (lambda path: _savez(path, left=np.ones((7, 3), int), right=np.ones((7, 2))), TWO, "swap the names"),
        (lambda path: _savez(path, left=np.ones((7, 2))), TWO, "numpy.savez"),
        (lambda path: _savez(path, x_train=X, y_train=np.ones(10)), ONE, "numpy.save("),
    ],
)
def test_what_does_not_fit_is_mended_by_a_command(
    tmp_path: Path, write: Callable[[Path], None], taken: tuple[Input, ...], hint: str
) -> None:
    path = tmp_path / "x.csv"  # NumPy adds its own ending to a path, not to an open file
    write(path)
    with pytest.raises(BninspectError) as caught:
        everything(next(tmp_path.iterdir()), taken)
    assert hint in caught.value.hint
    assert bool(hint) == bool(caught.value.hint)


def _savez(path: Path, **arrays: Array) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def test_a_value_that_is_not_finite_is_named_by_its_sample(tmp_path: Path) -> None:
    x = X.copy()
    x[7, 1, 1] = np.inf
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(BninspectError) as caught:
        everything(tmp_path / "x.npy")
    assert "sample 7" in str(caught.value)


def test_the_last_batch_is_filled_up_and_says_how_many_count(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    with opened(tmp_path / "x.npy", ONE) as data:
        batches = list(samples.batches(data, range(10), 4))
    assert [(len(one.arrays["x"]), one.samples) for one in batches] == [(4, 4), (4, 4), (4, 2)]


def test_a_limit_takes_the_first_and_with_a_seed_random_ones() -> None:
    assert list(samples.places(10, 3, None)) == [0, 1, 2]
    chosen = samples.places(1000, 50, 7)
    assert chosen == samples.places(1000, 50, 7)
    assert len(set(chosen)) == 50
    assert sorted(chosen) != list(range(50))


def test_batches_of_a_dataset_become_one_file(tmp_path: Path) -> None:
    batches = ((X[start : start + 3], np.zeros(3)) for start in range(0, 10, 3))
    assert np.array_equal(np.load(spool(batches, tmp_path)), X)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ((np.ones((4, 2)), np.ones(4)), "or (inputs, labels)"),
        ([[[1.0, 2.0], [3.0, 4.0]]], "numpy.asarray("),
        (np.ones((4, 2), object), "numpy.asarray("),
    ],
)
def test_objects_that_are_not_batches_are_refused_with_what_mends_them(tmp_path: Path, data: Any, hint: str) -> None:
    with pytest.raises(BninspectError) as caught:
        spool(data, tmp_path)
    assert hint in caught.value.hint


def test_tensors_of_torch_are_data_with_their_gradients_and_types(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones((2, 3), dtype=torch.bfloat16, requires_grad=True)
    assert np.array_equal(np.load(spool([x], tmp_path)), np.ones((2, 3)))


def test_named_batches_become_one_file_and_a_limit_ends_the_reading(tmp_path: Path) -> None:
    def endless() -> object:
        while True:
            yield {"left": np.ones((4, 2)), "right": np.zeros((4, 3), np.int64)}

    path = spool(endless(), tmp_path, 10)
    assert {name: array.shape for name, array in np.load(path).items()} == {"left": (12, 2), "right": (12, 3)}


def test_caffe_and_torch_are_those_of_keras_applications() -> None:
    keras = pytest.importorskip("keras")
    x = np.random.default_rng(0).uniform(0, 255, (2, 5, 5, 3)).astype(np.float32)
    for name in ("caffe", "torch", "tf"):
        expected = keras.applications.imagenet_utils.preprocess_input(x.copy(), mode=name)
        np.testing.assert_allclose(preparations.PREPARATIONS[name][1](x), expected, rtol=1e-4, atol=1e-4)
