"""`.keras` files: those of the real writers bit for bit, and what happens to those that are not as they should be."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import keras_files as files

from bninspect import formats
from bninspect.errors import BninspectError, DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats.keras import archive as keras_zip
from bninspect.records import PARAMETERS, BatchNorm, Checkpoint

WRITTEN = [
    *(f"k30/{name}" for name in ("simple", "seq", "noscale")),
    *(f"{writer}/{name}" for writer in ("k315", "tfk221") for name in ("simple", "seq", "noscale", "nested")),
]


def settings_in(config: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of every batch norm by its own name, found by their keys alone."""
    found: dict[str, dict[str, Any]] = {}
    if isinstance(config, dict):
        if {"epsilon", "momentum", "axis"} <= config.keys():
            found[config["name"]] = config
        for value in config.values():
            found |= settings_in(value)
    elif isinstance(config, list):
        for value in config:
            found |= settings_in(value)
    return found


def truth_of(path: Path) -> dict[str, dict[str, Any]]:
    """Return what the framework held when it wrote the file, by layer."""
    with np.load(path) as stored:
        found: dict[str, dict[str, Any]] = {}
        for key in stored:
            layer, _, parameter = key.replace("|", "/").rpartition("/")
            found.setdefault(layer, {})[parameter] = stored[key]
    return found


def assert_truth(layer: BatchNorm, expected: dict[str, Any]) -> None:
    assert set(layer.arrays) == expected.keys() & set(PARAMETERS)
    for role, array in layer.arrays.items():
        assert array.dtype == expected[role].dtype
        assert array.tobytes() == expected[role].tobytes(), (layer.name, role)
        assert not array.flags.writeable


@pytest.mark.parametrize("name", WRITTEN)
def test_real_files_give_what_the_framework_held(shared_models: Path, name: str) -> None:
    path = shared_models / "writers" / f"{name}.keras"
    expected = truth_of(path.with_name(f"{path.stem}_truth.npz"))
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    settings = settings_in(config)
    read = formats.read(path)
    assert read.format == "keras-zip"
    writers = {"k30": "Keras 3.0.5", "k315": "Keras 3.15.1", "tfk221": "Keras 2.21.0"}
    assert read.writer == writers[name.partition("/")[0]]
    assert json.loads(read.architecture or "") == config
    assert (read.notes, read.code) == ((), ())
    assert [layer.name for layer in read.layers] == list(expected)
    for layer in read.layers:
        assert_truth(layer, expected[layer.name])
        stated = settings[layer.name.rpartition("/")[2]]
        axis = stated["axis"]
        assert layer.epsilon == stated["epsilon"] == expected[layer.name]["epsilon"]
        assert (layer.epsilon_source, layer.momentum) == ("file", stated["momentum"])
        assert layer.axis == (tuple(axis) if isinstance(axis, list) else (axis,))
        assert (layer.scale, layer.center) == (stated["scale"], stated["center"])
        assert (layer.class_name, layer.dtype) == ("BatchNormalization", "float32")
        assert layer.location.startswith("layers/")
        assert layer.location.endswith("/vars")


@pytest.mark.parametrize("version", ["3.0.5", "3.3.3", "3.9.2"])
def test_other_versions(shared_models: Path, version: str) -> None:
    read = formats.read(shared_models / "writers" / f"v{version}.keras")
    assert read.writer == f"Keras {version}"
    assert [layer.name for layer in read.layers] == ["mybn", "sub/inbn"]
    assert [layer.location for layer in read.layers] == [
        "layers/batch_normalization/vars",
        "layers/functional/layers/batch_normalization/vars",
    ]
    assert all(len(layer.arrays) == 4 and layer.epsilon == 0.001 for layer in read.layers)


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    return (one.architecture, one.writer, one.notes) == (other.architecture, other.writer, other.notes) and [
        (layer.name, layer.location, [array.tobytes() for array in layer.arrays.values()]) for layer in one.layers
    ] == [(layer.name, layer.location, [array.tobytes() for array in layer.arrays.values()]) for layer in other.layers]


CONFIG = files.model(
    "model",
    files.norm("one"),
    {"class_name": "Dense", "config": {"name": "dense"}, "name": "dense"},
    files.norm("two", scale=False, epsilon=1e-5),
    files.model("inner", files.norm("three", center=False)),
)
OBJECTS = {
    "layers/batch_normalization": files.arrays(1),
    "layers/batch_normalization_1": files.arrays(2, number=3),
    "layers/dense": [np.ones((3, 3), np.float32), np.zeros(3, np.float32)],
    "layers/functional/layers/batch_normalization": files.arrays(3, number=3),
}
NAMES = {
    "layers/batch_normalization": "one",
    "layers/batch_normalization_1": "two",
    "layers/dense": "dense",
    "layers/functional": "inner",
    "layers/functional/layers/batch_normalization": "three",
}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return files.write(tmp_path / "model.keras", files.members(CONFIG, OBJECTS, NAMES))


def test_the_files_that_these_tests_write_are_read(whole: Path) -> None:
    one, two, three = formats.read(whole).layers
    assert [one.name, two.name, three.name] == ["one", "two", "inner/three"]
    assert list(two.arrays) == ["beta", "moving_mean", "moving_variance"]
    assert list(three.arrays) == ["gamma", "moving_mean", "moving_variance"]
    assert [layer.epsilon for layer in (one, two, three)] == [0.001, 1e-5, 0.001]
    for layer, path in zip(
        (one, two, three),
        ("batch_normalization", "batch_normalization_1", "functional/layers/batch_normalization"),
        strict=True,
    ):
        for array, stored in zip(layer.arrays.values(), OBJECTS[f"layers/{path}"], strict=True):
            np.testing.assert_array_equal(array, stored, strict=True)


def test_folder_and_compressed_zip_say_the_same(whole: Path, tmp_path: Path) -> None:
    expected = formats.read(whole)
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in members.items():
        (folder / name).write_bytes(content)
    (folder / "assets").mkdir()
    assert equal(formats.read(folder), expected)
    backwards = dict(reversed(members.items()))
    assert equal(formats.read(files.write(tmp_path / "b.zip", backwards, zipfile.ZIP_DEFLATED)), expected)


def test_a_folder_of_links_as_the_hugging_face_cache_has_them(whole: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "abc", tmp_path / "models--x" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    with zipfile.ZipFile(whole) as archive:
        for name in archive.namelist():
            (blobs / f"hash-{name}").write_bytes(archive.read(name))
            (snapshot / name).symlink_to(f"../../blobs/hash-{name}")
    assert equal(formats.read(snapshot), formats.read(whole))


def test_a_folder_does_not_lead_elsewhere(whole: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    for made in (folder, other):
        made.mkdir()
    with zipfile.ZipFile(whole) as archive:
        archive.extractall(folder)
    (folder / "model.weights.h5").rename(other / "model.weights.h5")
    (folder / "model.weights.h5").symlink_to(other / "model.weights.h5")
    with pytest.raises(UnsafeFile, match="leads to something else"):
        formats.read(folder)


@pytest.mark.parametrize("extra", ["saved_model.pb", None])
def test_a_folder_that_is_something_else(tmp_path: Path, extra: str | None) -> None:
    folder = tmp_path / "x.keras"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    if extra:
        (folder / "model.weights.h5").write_bytes(b"")
        (folder / extra).write_bytes(b"")
    assert not keras_zip.matches(folder, b"")


def test_truncated_anywhere(whole: Path) -> None:
    content = whole.read_bytes()
    for tenth in range(10):
        whole.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(UnreadableFile) as caught:
            formats.read(whole)
        if tenth:
            assert isinstance(caught.value, DamagedFile)
            assert "cut off" in str(caught.value)


def test_truncated_member_in_a_whole_zip(whole: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, content in members.items():
        for tenth in range(10):
            cut = files.write(tmp_path / "cut.keras", members | {name: content[: len(content) * tenth // 10]})
            with pytest.raises(UnreadableFile):
                formats.read(cut)


def test_a_flipped_bit_of_any_array_is_found(whole: Path) -> None:
    content = whole.read_bytes()
    for stored in OBJECTS.values():
        for array in stored:
            offset = content.index(array.tobytes())
            whole.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
            with pytest.raises(DamagedFile, match="CRC"):
                formats.read(whole)


def test_no_changed_byte_of_the_texts_gives_another_error_than_ours(whole: Path) -> None:
    """In a folder no CRC stands before the parsers. HDF5 is left out: changed, it may hang libhdf5 itself."""
    folder = whole.with_name("folder")
    with zipfile.ZipFile(whole) as archive:
        archive.extractall(folder)
    chance = np.random.default_rng(0)
    refusals = 0
    for name in ("config.json", "metadata.json"):
        content = (folder / name).read_bytes()
        for offset in range(0, len(content), 3):
            changed = bytearray(content)
            changed[offset] ^= int(chance.integers(1, 256))
            (folder / name).write_bytes(changed)
            try:
                formats.read(folder)
            except BninspectError:
                refusals += 1
        (folder / name).write_bytes(content)
    assert refusals > 100
    assert len(formats.read(folder).layers) == 3


def refused(tmp_path: Path, members: dict[str, bytes | str]) -> BninspectError:
    path = files.write(tmp_path / "model.keras", members)
    with pytest.raises(UnreadableFile) as caught:
        formats.read(path)
    return caught.value


@pytest.mark.parametrize("path", [path for path, name in NAMES.items() if name in {"one", "two", "three"}])
def test_a_name_that_contradicts_the_configuration(tmp_path: Path, path: str) -> None:
    error = refused(tmp_path, files.members(CONFIG, OBJECTS, NAMES | {path: "other"}))
    assert isinstance(error, DamagedFile)
    assert path in error.why
    assert "'other'" in error.why


def test_exchanged_groups(tmp_path: Path) -> None:
    config = files.model("model", files.norm("one"), files.norm("two"))
    first, second = "layers/batch_normalization", "layers/batch_normalization_1"
    objects = {first: files.arrays(1), second: files.arrays(2)}
    assert "belongs to 'two'" in refused(tmp_path, files.members(config, objects, {first: "two", second: "one"})).why


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7])
def test_another_number_of_arrays_than_the_configuration_says(tmp_path: Path, number: int) -> None:
    objects = OBJECTS | {"layers/batch_normalization": files.arrays(1, number=number)}
    error = refused(tmp_path, files.members(CONFIG, objects, NAMES))
    assert isinstance(error, DamagedFile)
    assert "by the configuration there are 4" in error.why


def test_a_gap_in_the_arrays(tmp_path: Path) -> None:
    members = files.members(CONFIG, OBJECTS, NAMES)
    content = io.BytesIO(members["model.weights.h5"])  # type: ignore[arg-type]
    with h5py.File(content, "r+") as file:
        file.move("layers/batch_normalization/vars/3", "layers/batch_normalization/vars/4")
    error = refused(tmp_path, members | {"model.weights.h5": content.getvalue()})
    assert "arrays 0, 1, 2, 4" in error.why


@pytest.mark.parametrize("values", [np.array([1, 2, 3]), np.array([True, False, True]), np.array([b"a", b"b", b"c"])])
def test_arrays_that_are_not_of_floats(tmp_path: Path, values: np.ndarray[Any, Any]) -> None:
    objects = OBJECTS | {"layers/batch_normalization": [*files.arrays(1)[:3], values]}
    assert isinstance(refused(tmp_path, files.members(CONFIG, objects, NAMES)), UnreadableFile)


def test_saved_before_it_was_built(tmp_path: Path) -> None:
    path = files.write(tmp_path / "model.keras", files.members(CONFIG, {}, {}))
    layers = formats.read(path).layers
    assert [layer.name for layer in layers] == ["one", "two", "inner/three"]
    for layer in layers:
        assert not layer.arrays
        assert layer.epsilon is not None
        assert "before it is built" in layer.notes[-1]


def test_a_number_that_is_none_of_the_configuration(tmp_path: Path) -> None:
    """The group of the second of three is missing and there is a fourth: other writers may count otherwise."""
    config = files.model("model", *(files.norm(name) for name in "abc"))
    objects = {f"layers/batch_normalization{end}": files.arrays(len(end)) for end in ("", "_2", "_4")}
    assert "batch_normalization_4 is none of the layers" in refused(tmp_path, files.members(config, objects)).why


def test_a_layer_whose_configuration_has_no_name(tmp_path: Path) -> None:
    """A class of the user's may leave out its name; then nothing but its arrays tells of it."""
    nameless = {"module": None, "class_name": "MyNorm", "config": {"eps": 0.1}}
    config = files.model("model", files.norm("one"), nameless, class_name="Sequential")
    objects = {"layers/batch_normalization": files.arrays(1), "layers/my_norm": files.arrays(2)}
    read = formats.read(files.write(tmp_path / "m.keras", files.members(config, objects)))
    assert [(layer.name, layer.epsilon) for layer in read.layers] == [("one", 0.001), ("layers/my_norm", None)]


@pytest.mark.parametrize("version", ["2.12.0", "2.13.1"])
def test_keras_213_counts_layers_twice(tmp_path: Path, version: str) -> None:
    """As TensorFlow 2.12 (`save_format="keras_v3"`) and 2.13 were seen to write it."""

    def deep(*steps: str) -> str:
        return "/".join(f"_layer_checkpoint_dependencies/{step}" for step in steps)

    empty = files.model("empty", {"class_name": "ReLU", "config": {"name": "relu"}, "name": "relu"})
    config = files.model(
        "model",
        files.norm("one"),
        empty,
        files.norm("two"),
        files.model("inner", files.norm("x"), files.norm("y")),
        files.model("after", files.norm("z")),
        files.norm("three"),
    )
    objects = {
        deep("batch_normalization"): files.arrays(1),
        deep("batch_normalization_2"): files.arrays(2),
        deep("functional_1", "batch_normalization"): files.arrays(3),
        deep("functional_1", "batch_normalization_2"): files.arrays(4),
        deep("functional_3", "batch_normalization"): files.arrays(5),
        deep("batch_normalization_4"): files.arrays(6),
    }
    path = files.write(tmp_path / "model.keras", files.members(config, objects, version=version))
    layers = formats.read(path).layers
    assert [layer.name for layer in layers] == ["one", "two", "inner/x", "inner/y", "after/z", "three"]
    for layer, (location, stored) in zip(layers, objects.items(), strict=True):
        assert layer.location == f"{location}/vars"
        np.testing.assert_array_equal(list(layer.arrays.values()), stored)


def test_keras_213_counts_shared_layers_twice_wherever_they_stand(tmp_path: Path) -> None:
    """The groups are those that TensorFlow 2.13 wrote for these models."""
    again = {"shared_object_id": 7}
    empty = files.model("none", {"class_name": "ReLU", "config": {"name": "relu"}, "name": "relu"})
    config = files.model(
        "model",
        files.model("a", files.norm("own"), files.norm("shared"), files.norm("after")),
        files.model("b", files.norm("own"), {**files.norm("shared"), **again}, files.norm("after")),
        {**files.norm("shared"), **again},
        empty,
        files.model("c", files.norm("z"), empty | {"shared_object_id": 8}, files.model("d", files.norm("y"))),
    )
    stored = {
        "functional/layers/batch_normalization": files.arrays(1),
        "functional/layers/batch_normalization_2": files.arrays(2),
        "functional/layers/batch_normalization_4": files.arrays(3),
        "functional_2/layers/batch_normalization": files.arrays(4),
        "functional_2/layers/batch_normalization_4": files.arrays(5),
        "functional_5/layers/batch_normalization": files.arrays(6),
        "functional_5/layers/functional_1/layers/batch_normalization": files.arrays(7),
    }
    objects = {
        f"layers/{path}".replace("layers", "_layer_checkpoint_dependencies"): value for path, value in stored.items()
    }
    path = files.write(tmp_path / "model.keras", files.members(config, objects, version="2.13.1"))
    layers = formats.read(path).layers
    assert [layer.name for layer in layers] == ["a/own", "a/shared", "a/after", "b/own", "b/after", "c/z", "c/d/y"]
    for layer, expected in zip(layers, stored.values(), strict=True):
        np.testing.assert_array_equal(list(layer.arrays.values()), expected)


def test_subclass_with_weights_of_its_own(tmp_path: Path) -> None:
    config = files.model("model", files.norm("mine", class_name="MyBN"))
    objects = {"layers/my_bn": files.arrays(1, number=5)}
    (layer,) = formats.read(files.write(tmp_path / "m.keras", files.members(config, objects))).layers
    assert not layer.arrays
    assert "MyBN has arrays 0, 1, 2, 3, 4" in layer.notes[-1]


def custom(name: str, **inner: Any) -> dict[str, Any]:
    return {"module": None, "class_name": "Block", "config": {"name": name, **inner}, "name": name}


def read_custom(tmp_path: Path, inner: dict[str, Any], objects: files.Objects, names: dict[str, str]) -> Checkpoint:
    config = files.model("model", custom("block", **inner), files.norm("last"))
    everything = {f"layers/block/{path}": stored for path, stored in objects.items()}
    everything["layers/batch_normalization"] = files.arrays(99)
    full = {f"layers/block/{path}".rstrip("/"): name for path, name in names.items()}
    return formats.read(files.write(tmp_path / "m.keras", files.members(config, everything, full)))


def test_batch_norms_that_only_the_weights_know(tmp_path: Path) -> None:
    objects = {"bn": files.arrays(1), "norms/batch_normalization": files.arrays(2, number=3)}
    read = read_custom(tmp_path, {}, objects, {})
    assert [layer.name for layer in read.layers] == ["block/bn", "block/norms/batch_normalization", "last"]
    assert [layer.epsilon for layer in read.layers] == [None, None, 0.001]
    np.testing.assert_array_equal(read.layers[1].undecided, objects["norms/batch_normalization"][0])
    read = read_custom(tmp_path, {}, objects, {"": "block", "bn": "x", "norms/batch_normalization": "y"})
    assert [layer.name for layer in read.layers] == ["block/x", "block/y", "last"]


def test_parts_of_a_custom_layer_by_attribute_by_name_and_by_likeness(tmp_path: Path) -> None:
    inner = {"first": files.norm("a"), "second": files.norm("b", epsilon=0.5)}
    stored = {"first": files.arrays(1), "second": files.arrays(2)}
    by_attribute = read_custom(tmp_path, inner, stored, {}).layers
    assert [(layer.name, layer.epsilon) for layer in by_attribute[:2]] == [("block/a", 0.001), ("block/b", 0.5)]
    crossed = {"x1": stored["first"], "x0": stored["second"]}
    by_name = read_custom(tmp_path, inner, crossed, {"": "block", "x1": "a", "x0": "b"}).layers
    for one, other in zip(by_attribute, by_name, strict=True):
        assert (one.name, one.epsilon) == (other.name, other.epsilon)
        np.testing.assert_array_equal(list(one.arrays.values()), list(other.arrays.values()))
    alike = {"first": files.norm("a", epsilon=0.5), "second": files.norm("b", epsilon=0.5)}
    one, other, _ = read_custom(tmp_path, alike, crossed, {}).layers
    assert [(layer.name, layer.epsilon, layer.location[-7:]) for layer in (one, other)] == [
        ("block/a", 0.5, "x0/vars"),
        ("block/b", 0.5, "x1/vars"),
    ]


def test_parts_of_one_name(tmp_path: Path) -> None:
    inner = {"first": files.norm("a"), "second": files.norm("a", epsilon=0.5)}
    read = read_custom(tmp_path, inner, {"x": files.arrays(1)}, {"": "block", "x": "a"})
    assert [(layer.name, layer.epsilon) for layer in read.layers] == [("block/a", None), ("last", 0.001)]
    assert len(read.notes) == 2


def test_parts_of_a_custom_layer_in_a_list(tmp_path: Path) -> None:
    inner = {"norms": [files.norm("a"), files.norm("b", epsilon=0.5)]}
    objects = {"norms/batch_normalization": files.arrays(1), "norms/batch_normalization_1": files.arrays(2)}
    read = read_custom(tmp_path, inner, objects, {})
    assert [(layer.name, layer.epsilon) for layer in read.layers[:2]] == [("block/a", 0.001), ("block/b", 0.5)]
    np.testing.assert_array_equal(read.layers[1].gamma, objects["norms/batch_normalization_1"][0])


def test_an_attribute_that_is_called_as_another_part_is_configured(tmp_path: Path) -> None:
    objects = {"first": [np.ones((3, 3), np.float32), np.ones(3, np.float32)], "x": files.arrays(1)}
    read = read_custom(tmp_path, {"first": files.norm("a", epsilon=0.5)}, objects, {})
    assert [(layer.name, layer.epsilon) for layer in read.layers] == [("block/a", 0.5), ("last", 0.001)]
    np.testing.assert_array_equal(read.layers[0].gamma, objects["x"][0])


def test_settings_are_not_given_to_arrays_of_another_name(tmp_path: Path) -> None:
    read = read_custom(tmp_path, {"first": files.norm("a")}, {"x": files.arrays(1)}, {"": "block", "x": "other"})
    assert [(layer.name, layer.epsilon) for layer in read.layers] == [("block/other", None), ("last", 0.001)]
    assert read.notes == ("block/a: which arrays its settings belong to is not known",)


def test_parts_of_a_custom_layer_that_cannot_be_told_apart(tmp_path: Path) -> None:
    inner = {"first": files.norm("a"), "second": files.norm("b", epsilon=0.5)}
    read = read_custom(tmp_path, inner, {"x0": files.arrays(1), "x1": files.arrays(2)}, {})
    assert [(layer.name, layer.epsilon) for layer in read.layers] == [
        ("block/x0", None),
        ("block/x1", None),
        ("last", 0.001),
    ]
    assert [note.partition(":")[0] for note in read.notes] == ["block/a", "block/b"]


def test_members_that_are_missing(tmp_path: Path) -> None:
    whole = files.members(CONFIG, OBJECTS, NAMES)
    for name in ("config.json", "model.weights.h5"):
        error = refused(tmp_path, {key: value for key, value in whole.items() if key != name})
        assert isinstance(error, DamagedFile)
        assert name in error.why
    path = files.write(tmp_path / "m.keras", {key: value for key, value in whole.items() if key != "metadata.json"})
    assert formats.read(path).writer == ""
    assert len(formats.read(path).layers) == 3


def test_pickled_weights_are_refused_and_why_is_said(tmp_path: Path) -> None:
    members = files.members(CONFIG, OBJECTS, NAMES)
    del members["model.weights.h5"]
    error = refused(tmp_path, members | {"model.weights.npz": b"PK"})
    assert "pickle" in error.why
    assert "weights_format" in error.hint


def test_a_whole_model_within_the_weights(tmp_path: Path) -> None:
    members = files.members(CONFIG, OBJECTS, NAMES)
    content = io.BytesIO(members["model.weights.h5"])  # type: ignore[arg-type]
    with h5py.File(content, "r+") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Lambda"})
    error = refused(tmp_path, members | {"model.weights.h5": content.getvalue()})
    assert isinstance(error, UnsafeFile)
    assert "two models" in str(error)


CONTENTS: dict[str, Callable[[], bytes | str]] = {
    "no text": lambda: b"\xff\xfe\x00",
    "no JSON": lambda: "{",
    "no model": lambda: "[1, 2]",
    "twice": lambda: '{"class_name": "A", "class_name": "B", "config": {}}',
    "deep": lambda: "[" * 100_000,
    "digits": lambda: '{"class_name": "A", "config": {"x": 1' + "0" * 5000 + "}}",
    "epsilon": lambda: json.dumps(files.model("m", files.norm("x", epsilon="0.001"))),
    "infinite": lambda: json.dumps(files.model("m", files.norm("x", epsilon=float("inf")))),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_configurations_that_are_none(tmp_path: Path, kind: str) -> None:
    members = files.members(CONFIG, OBJECTS, NAMES)
    error = refused(tmp_path, members | {"config.json": CONTENTS[kind]()})
    assert "config.json" in f"{error.what} {error.why}"


def test_what_may_run_code_is_listed(tmp_path: Path) -> None:
    layer = {"class_name": "Lambda", "config": {"name": "secret"}, "name": "secret"}
    config = files.model("model", layer, files.norm("one"))
    objects = {"layers/batch_normalization": files.arrays(1)}
    read = formats.read(files.write(tmp_path / "m.keras", files.members(config, objects)))
    assert read.code == ("Lambda 'secret'",)
    assert [layer.name for layer in read.layers] == ["one"]


def test_members_beyond_what_a_model_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = files.members(CONFIG, OBJECTS, NAMES)
    monkeypatch.setattr(keras_zip, "TEXT_CHARACTERS", 100)
    assert isinstance(refused(tmp_path, members), UnsafeFile)
    folder = tmp_path / "folder"
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        archive.extractall(folder)
    with pytest.raises(UnsafeFile, match=r"config\.json has over 100 bytes"):
        formats.read(folder)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_configurations(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.members(CONFIG, OBJECTS, NAMES).items():
            archive.writestr(name, content)
        archive.writestr("config.json", json.dumps(files.model("other", files.norm("one"))))
    with pytest.raises(UnsafeFile, match="two members of one name"):
        formats.read(path)
