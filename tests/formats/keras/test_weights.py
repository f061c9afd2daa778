"""Keras 3 weights without a model: what the real writers wrote, what can be told and what cannot, and shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import keras_files as files

from bninspect import formats
from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.keras import hdf5
from bninspect.formats.keras import weights as keras_weights
from bninspect.records import PARAMETERS, Array, BatchNorm, Checkpoint

WEIGHTS_ONLY = "weights only: the file states no epsilon, momentum and axis"


def truth_of(path: Path) -> dict[str, dict[str, Array]]:
    """Return what the framework held when it wrote the file, by layer."""
    with np.load(path) as stored:
        found: dict[str, dict[str, Array]] = {}
        for key in stored:
            layer, _, parameter = key.replace("|", "/").rpartition("/")
            if parameter in PARAMETERS:
                found.setdefault(layer, {})[parameter] = stored[key]
    return found


def contents(layer: BatchNorm) -> dict[str, bytes]:
    return {role: array.tobytes() for role, array in layer.arrays.items()}


def write(path: Path, objects: files.Objects, names: dict[str, str] | None = None) -> Path:
    path.write_bytes(files.weights(objects, names))
    return path


@pytest.mark.parametrize("name", ["simple", "seq", "nested"])
def test_real_files_with_names(shared_models: Path, name: str) -> None:
    path = shared_models / "writers" / "k315" / f"{name}.weights.h5"
    expected = truth_of(path.with_name(f"{name}_truth.npz"))
    read = formats.read(path)
    assert (read.format, read.writer, read.architecture) == ("keras-weights", "", None)
    assert read.notes == (WEIGHTS_ONLY,)
    assert {layer.name for layer in read.layers} == set(expected)
    for layer in read.layers:
        assert contents(layer) == {role: array.tobytes() for role, array in expected[layer.name].items()}
        assert (layer.epsilon, layer.momentum, layer.axis, layer.epsilon_source) == (None, None, None, None)
        assert (layer.scale, layer.center, layer.undecided, layer.notes) == (None, None, None, ())


@pytest.mark.parametrize("name", ["simple", "seq"])
def test_real_files_without_names(shared_models: Path, name: str) -> None:
    """Before Keras 3.6 the groups are all there is; within a model they are numbered in its order."""
    path = shared_models / "writers" / "k30" / f"{name}.weights.h5"
    expected = truth_of(path.with_name(f"{name}_truth.npz"))
    layers = formats.read(path).layers
    numbers = ["", *(f"_{number}" for number in range(1, len(expected)))]
    assert [layer.name for layer in layers] == [f"layers/batch_normalization{number}" for number in numbers]
    for layer, parameters in zip(layers, expected.values(), strict=True):
        assert contents(layer) == {role: array.tobytes() for role, array in parameters.items()}


@pytest.mark.parametrize("writer", ["k30", "k315"])
def test_what_three_arrays_do_not_tell(shared_models: Path, writer: str) -> None:
    path = shared_models / "writers" / writer / "noscale.weights.h5"
    expected = truth_of(path.with_name("noscale_truth.npz"))
    layers = dict(zip(expected, formats.read(path).layers, strict=True))
    if writer == "k315":
        assert list(expected) == [layer.name for layer in layers.values()]
    for name, first in (("noscale", "beta"), ("nocenter", "gamma"), ("neither", None)):
        layer = layers[name]
        assert list(layer.arrays) == ["moving_mean", "moving_variance"]
        for role, array in layer.arrays.items():
            assert array.tobytes() == expected[name][role].tobytes()
        if first is None:
            assert (layer.undecided, layer.notes) == (None, ())
        else:
            assert layer.undecided is not None
            assert layer.undecided.tobytes() == expected[name][first].tobytes()
            assert layer.notes == ("the file does not say whether the first array is gamma or beta",)


@pytest.mark.parametrize("version", ["3.0.5", "3.3.3", "3.9.2"])
def test_other_versions(shared_models: Path, version: str) -> None:
    """The weights alone and the whole model of one run hold the same arrays."""
    folder = shared_models / "writers"
    alone = formats.read(folder / f"v{version}.weights.h5").layers
    whole = formats.read(folder / f"v{version}.keras").layers
    assert [layer.location for layer in alone] == [layer.location for layer in whole]
    assert [contents(layer) for layer in alone] == [contents(layer) for layer in whole]
    if version == "3.9.2":
        assert [layer.name for layer in alone] == [layer.name for layer in whole] == ["mybn", "sub/inbn"]


def test_all_hdf5_is_claimed_once(shared_models: Path) -> None:
    paths = [*shared_models.rglob("*.h5"), *shared_models.rglob("*.hdf5"), shared_models / "writers/tfk2.12.1.keras"]
    assert len(paths) > 60
    for path in paths:
        head = path.read_bytes()[:4096]
        weights = path.name.endswith(".weights.h5")
        assert keras_weights.matches(path, head) == weights, path
        assert hdf5.FORMAT.matches(path, head) == (not weights), path


def test_what_tells_the_layouts_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", {"layers/batch_normalization": files.arrays(1)})
    assert keras_weights.matches(path, path.read_bytes())
    for mark, value in (("layer_names", np.array([b"a"])), ("model_config", "{}")):
        with h5py.File(path, "r+") as file:
            file.attrs[mark] = value
        assert not keras_weights.matches(path, path.read_bytes())
        with h5py.File(path, "r+") as file:
            del file.attrs[mark]
    with h5py.File(path, "w") as file:
        file["measurements/1"] = np.ones(3)
    assert not keras_weights.matches(path, path.read_bytes())


def floats(*lengths: int, low: float = 0.5) -> list[Array]:
    chance = np.random.default_rng(len(lengths))
    return [chance.uniform(low, 2.0, length).astype(np.float32) for length in lengths]


def only(tmp_path: Path, path: str, stored: Sequence[Array], name: str | None = None) -> Checkpoint:
    return formats.read(write(tmp_path / "m.weights.h5", {path: stored}, {path: name} if name else None))


ALL, UNDECIDED, LAST = (
    ["gamma", "beta", "moving_mean", "moving_variance"],
    ["undecided"],
    ["moving_mean", "moving_variance"],
)
RECOGNISED: list[tuple[str, str | None, int, list[str]]] = [
    ("layers/batch_normalization", None, 4, ALL),
    ("layers/batch_normalization_12", None, 2, LAST),
    ("layers/batch_normalization", "group_norm", 4, ALL),
    ("layers/sync_batch_normalization_1", None, 4, ALL),
    ("layers/my_bn", None, 4, ALL),
    ("layers/my_layer", "bn_3", 2, LAST),
    ("bn", None, 3, UNDECIDED + LAST),
    ("stem/bn1", None, 4, ALL),
    ("blocks/batch_norm", None, 2, LAST),
    ("layers/batch_normalization", None, 7, ALL),
    ("layers/batch_normalization", None, 6, UNDECIDED + LAST),
    ("layers/batch_normalization", None, 5, LAST),
    ("anything", None, 4, ALL),
]


@pytest.mark.parametrize(("path", "name", "count", "roles"), RECOGNISED)
def test_what_is_recognised(tmp_path: Path, path: str, name: str | None, count: int, roles: list[str]) -> None:
    stored = floats(*[3] * count)
    (layer,) = only(tmp_path, path, stored, name).layers
    assert (layer.name, layer.location) == (name or path, f"{path}/vars")
    for role in (*PARAMETERS, "undecided"):
        if role in roles:
            np.testing.assert_array_equal(getattr(layer, role), stored[roles.index(role)], strict=True)
        else:
            assert getattr(layer, role) is None
    assert any("nothing names it" in note for note in layer.notes) == (path == "anything")
    assert any("gamma or beta" in note for note in layer.notes) == ("undecided" in roles)


NEVER: list[tuple[str, str | None, list[Array]]] = [
    ("layers/layer_normalization", None, floats(3, 3)),
    ("layers/group_normalization_1", None, floats(3, 3)),
    ("layers/my_layer", "instance_norm", floats(3, 3, 3, 3)),
    ("ln_1", None, floats(3, 3, 3, 3)),
    ("layers/conv_bn", None, [np.ones((3, 3), np.float32), *floats(3)]),
    ("layers/dense", None, [np.ones((3, 3), np.float32), *floats(3)]),
    ("bn", None, floats(3)),
    ("bn", None, floats(3, 3, 3, 4)),
    ("bn", None, floats(3, 3, 3, 3, 3, 3, 3, 3)),
    ("layers/embedding", None, floats(3)),
    ("anything", None, [np.ones((2, 3), np.float32)] * 4),
    ("anything", None, [np.ones(3, np.int32)] * 4),
    ("masks", None, [np.ones(3, np.bool_)] * 4),
    ("anything", None, floats(3, 3, 3, 3, 3)),
    ("layers/normalization", None, [*floats(3, 3), np.array(5, np.int64)]),
    ("ebner", None, floats(3, 3, low=-1)),
    ("optimizer", "adam", [np.array(3), np.array(0.1, np.float32), *floats(3, 3, 3, 3)]),
]


@pytest.mark.parametrize(("path", "name", "stored"), NEVER)
def test_what_is_none(tmp_path: Path, path: str, name: str | None, stored: list[Array]) -> None:
    read = only(tmp_path, path, stored, name)
    assert read.layers == ()
    assert read.notes == (WEIGHTS_ONLY,)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (floats(3, 3), "2 arrays, nothing names it"),
        (floats(3, 3, 3), "3 arrays, nothing names it"),
        ([*floats(3, 3, 3), np.array([1, -1, -2], np.float32)], "4 arrays, its last array has 2 negative values"),
    ],
)
def test_what_comes_close_is_noted(tmp_path: Path, stored: list[Array], words: str) -> None:
    read = only(tmp_path, "some/thing", stored)
    assert read.layers == ()
    assert read.notes[1:] == (f"some/thing/vars may be a batch norm and is left out: {words}",)


def test_a_negative_variance_is_told_as_it_is(tmp_path: Path) -> None:
    stored = [*floats(3, 3, 3), np.array([1, -1, np.nan], np.float32)]
    (layer,) = only(tmp_path, "layers/batch_normalization", stored).layers
    assert layer.moving_variance is not None
    assert layer.moving_variance.tobytes() == stored[3].tobytes()


def test_several_axes(tmp_path: Path) -> None:
    stored = [np.full((1, 4, 1, 6), number, np.float32) for number in range(4)]
    (layer,) = only(tmp_path, "layers/batch_normalization", stored).layers
    assert layer.channels == 24
    np.testing.assert_array_equal(layer.beta, stored[1], strict=True)


def test_types(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    bits = np.array([0x3F80, 0xBF00, 0x7F80], np.uint16)  # 1, -0.5 and infinity in bfloat16
    with h5py.File(path, "w") as file:
        for number in range(4):
            dataset = file.create_dataset(f"layers/batch_normalization/vars/{number}", data=bits.view("V2"))
            dataset.attrs["dtype"] = "bfloat16"
            half = file.create_dataset(f"bn/vars/{number}", data=np.array([1.5], np.float16 if number else np.float64))
            del half
    bn, norm = formats.read(path).layers
    assert (bn.dtype, norm.dtype) == ("float64+float16", "bfloat16")
    assert bn.gamma is not None
    assert bn.gamma.dtype == np.float64
    np.testing.assert_array_equal(norm.gamma, np.array([1, -0.5, np.inf], np.float32), strict=True)


@pytest.mark.parametrize("names", [("0", "1", "3", "4"), ("0", "1", "2", "kernel"), ("1", "2", "3", "4")])
def test_a_batch_norm_with_other_arrays_is_damaged(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        for name in names:
            file[f"layers/batch_normalization/vars/{name}"] = np.ones(3, np.float32)
    with pytest.raises(DamagedFile, match="contradicts itself") as caught:
        formats.read(path)
    assert ", ".join(names) in caught.value.why


def test_order_and_names(tmp_path: Path) -> None:
    paths = [f"layers/batch_normalization{number}" for number in ("", "_1", "_2", "_9", "_10", "_11", "_100")]
    objects = {path: files.arrays(seed) for seed, path in enumerate(reversed(paths))}
    assert [layer.name for layer in formats.read(write(tmp_path / "a.weights.h5", objects)).layers] == paths
    twins = {"block/bn": files.arrays(1), "other/bn": files.arrays(2), "third/bn": files.arrays(3)}
    names = {"block/bn": "same", "other/bn": "same", "third/bn": "own"}
    layers = formats.read(write(tmp_path / "b.weights.h5", twins, names)).layers
    assert [layer.name for layer in layers] == ["block/bn", "other/bn", "own"]
    around = {"": "model", "block": "first", "block/inner/deep": "", "block/inner/deep/bn": "x"}
    layers = formats.read(write(tmp_path / "c.weights.h5", {"block/inner/deep/bn": files.arrays(1)}, around)).layers
    assert [layer.name for layer in layers] == ["first/x"]


def test_an_attribute_called_vars(tmp_path: Path) -> None:
    """A layer may keep its batch norms in `self.vars`, so that objects stand among its arrays."""
    objects = {"layers/block": [np.ones((2, 2), np.float32)], "layers/block/vars/batch_normalization": files.arrays(1)}
    (layer,) = formats.read(write(tmp_path / "m.weights.h5", objects)).layers
    assert layer.location == "layers/block/vars/batch_normalization/vars"


def test_damaged_and_unsafe_files_are_refused(tmp_path: Path) -> None:
    objects = {"layers/batch_normalization": files.arrays(1)}
    content = files.weights(objects)
    path = tmp_path / "m.weights.h5"
    for tenth in range(10):
        path.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(UnreadableFile):
            formats.read(path)
    write(path, objects)
    with h5py.File(path, "r+") as file:
        file["layers/dense"] = h5py.ExternalLink("/etc/other.h5", "/x")
    with pytest.raises(UnsafeFile, match="link"):
        formats.read(path)


Shards = dict[str, dict[str, dict[int, Array]]]


def shard(folder: Path, shards: Shards, index: Any = None, names: dict[str, str] | None = None) -> Path:
    """Write shards, {file: {path: {number: array}}}, and an index of them or `index`."""
    listed: dict[str, list[str]] = {}
    for file_name, objects in shards.items():
        with h5py.File(folder / file_name, "w") as file:
            for path, numbered in objects.items():
                group = file.create_group(f"{path}/vars")
                listed.setdefault(f"/{path}/vars", []).append(file_name)
                if names:
                    group.attrs["name"] = names[path]
                for number, array in numbered.items():
                    group[str(number)] = array
    total = float(
        sum(array.nbytes for objects in shards.values() for numbered in objects.values() for array in numbered.values())
    )
    target = folder / "m.weights.json"
    target.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": listed if index is None else index}))
    return target


A, B = "m_00000.weights.h5", "m_00001.weights.h5"
BN = "layers/batch_normalization"


def spread() -> tuple[list[Array], Shards]:
    stored = files.arrays(1)
    return stored, {A: {BN: {0: stored[0], 1: stored[1]}}, B: {BN: {2: stored[2], 3: stored[3]}}}


def test_arrays_of_one_layer_in_several_shards(tmp_path: Path) -> None:
    stored, shards = spread()
    read = formats.read(shard(tmp_path, shards, names={BN: "my_layer"}))
    (layer,) = read.layers
    assert (read.format, layer.name, layer.location) == ("keras-weights", "my_layer", f"{BN}/vars")
    np.testing.assert_array_equal(list(layer.arrays.values()), stored)


def test_an_index_with_plain_names(tmp_path: Path) -> None:
    stored = files.arrays(1)
    path = shard(tmp_path, {A: {BN: dict(enumerate(stored))}}, {f"/{BN}/vars": A})
    np.testing.assert_array_equal(list(formats.read(path).layers[0].arrays.values()), stored)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({f"/{BN}/vars": [A]}, "its shards hold 24 bytes, the index says 48.0"),
        ({f"/{BN}/vars": [A, B], "/layers/dense/vars": [A]}, "contradicts its shards"),
        ({f"/{BN}/vars": [A, B, "none.weights.h5"]}, "no file none.weights.h5"),
        ({f"/{BN}/vars": [f"../{A}", B]}, "not the name of a file beside it"),
        ({f"/{BN}/vars": ["/etc/passwd", B, A]}, "not the name of a file beside it"),
        ({f"/{BN}/vars": ["..", B, A]}, "not the name of a file beside it"),
        ({f"/{BN}/vars": ["C:\\x.weights.h5", B, A]}, "not the name of a file beside it"),
        ({f"/{BN}/vars": ["a\0.weights.h5", B, A]}, "not the name of a file beside it"),
        ({f"/{BN}/vars": [A, 3]}, "does not list shards"),
        ({f"/{BN}/vars": [[A]]}, "does not list shards"),
        ({f"/{BN}": [A, B]}, "does not list shards"),
        ({f"/{BN}/vars": [], "/x/vars": A}, "does not list shards"),
        ([A], "weight_map is missing"),
        ({}, "weight_map is missing"),
    ],
)
def test_an_index_that_is_not_right(tmp_path: Path, index: Any, words: str) -> None:
    path = shard(tmp_path, spread()[1], index)
    with pytest.raises(UnreadableFile) as caught:
        keras_weights.read(path)
    assert words in str(caught.value)


def test_shards_with_arrays_that_are_not_of_numbers(tmp_path: Path) -> None:
    """Their size cannot be told in the way in which Keras tells it, so it is not compared."""
    stored, shards = spread()
    shards[A]["layers/mask"] = {0: np.array([True, False])}
    (layer,) = formats.read(shard(tmp_path, shards)).layers
    np.testing.assert_array_equal(list(layer.arrays.values()), stored)


def test_one_array_in_two_shards(tmp_path: Path) -> None:
    stored, shards = spread()
    shards[B][BN][1] = stored[1]
    with pytest.raises(DamagedFile, match="contradicts itself"):
        formats.read(shard(tmp_path, shards))


def test_a_shard_that_leads_elsewhere(tmp_path: Path) -> None:
    path = shard(tmp_path, spread()[1])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / B).rename(tmp_path / "elsewhere" / B)
    (tmp_path / B).symlink_to(tmp_path / "elsewhere" / B)
    with pytest.raises(UnsafeFile, match="leads to something else"):
        formats.read(path)


def test_indexes_of_other_libraries_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": {"bn.weight": "model-00001.safetensors"}}))
    assert not keras_weights.matches(path, path.read_bytes())


def test_an_index_beyond_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(tmp_path, spread()[1])
    monkeypatch.setattr(keras_weights, "SHARDS", 1)
    with pytest.raises(UnsafeFile, match="2 shards, at most 1"):
        formats.read(path)
    monkeypatch.setattr(keras_weights, "INDEX_BYTES", 10)
    with pytest.raises(UnsafeFile, match="bytes"):
        formats.read(path)
